"""A second try is for few tests, of real processes only, and never passes what fails again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "unsteady"


def asked_again(folder: Path, *failed: str, body: str = "pass") -> subprocess.CompletedProcess[str]:
    for test in failed:
        file = folder / test.partition("::")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"def test_one():\n    {body}\n")
    cache = folder / ".pytest_cache" / "v" / "cache" / "lastfailed"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps(dict.fromkeys(failed, True)))
    (folder / "scripts").mkdir()
    shutil.copy(SCRIPT, folder / "scripts")
    command = [sys.executable, "scripts/unsteady"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_what_holds_alone_is_named(tmp_path: Path) -> None:
    done = asked_again(tmp_path, "tests/ports/test_a.py::test_one", "tests/network/test_b.py::test_one")
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("UNSTEADY")] == [
        "tests/network/test_b.py::test_one:",
        "tests/ports/test_a.py::test_one:",
    ]


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    done = asked_again(tmp_path, "tests/e2e/test_a.py::test_one", body="assert False")
    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


@pytest.mark.parametrize(
    "failed",
    [
        [],
        ["tests/unit/test_a.py::test_one"],
        ["tests/ports/test_a.py::test_one", "tests/unit/test_b.py::test_one"],
        [f"tests/ports/test_{name}.py::test_one" for name in "abcd"],
    ],
)
def test_no_unit_and_no_crowd_is_asked_again(tmp_path: Path, failed: list[str]) -> None:
    done = asked_again(tmp_path, *failed)
    assert (done.returncode, done.stdout) == (1, "")
