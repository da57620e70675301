"""`scripts/check` says "all good" only of what has run to its end, and leaves nothing running."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "check"
TOOLS = ("ruff", "mypy", "lint-imports", "python", "npm")


def checked(folder: Path, **bodies: str) -> subprocess.CompletedProcess[str]:
    """Run it where every tool is a few words of shell; `true` where none are given."""
    for home, names in (
        ("scripts", ("setup", "script_types", "vectors", "sync_client", "forge", "bindings", "gas")),
        ("node_modules/.bin", TOOLS),
    ):
        (folder / home).mkdir(parents=True)
        for name in names:
            tool = folder / home / name
            tool.write_text(f"#!/bin/bash\n{bodies.get(name, 'true')}\n")
            tool.chmod(0o755)
    shutil.copy(SCRIPT, folder / "scripts" / "check")
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(folder)}
    command = ["bash", "scripts/check"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_all_is_good_where_all_has_run(tmp_path: Path) -> None:
    done = checked(tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "check: all good")
    assert done.stderr.count(" ok ") == 12


@pytest.mark.parametrize(
    ("tool", "body"),
    [
        ("mypy", "exit 1"),
        ("forge", "exit 1"),
        ("forge", "kill -9 $PPID"),
        ("gas", "kill $PPID"),
        ("ruff", "rm -rf tmp.*"),
    ],
)
def test_what_fails_or_ends_early_is_not_good(tmp_path: Path, tool: str, body: str) -> None:
    done = checked(tmp_path, **{tool: body})
    assert done.returncode == 1
    assert "all good" not in done.stderr


def test_an_installation_that_fails_ends_the_contracts_tools_too(tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    try:
        setup = 'read -r word <held; [ "$word" = begun ] && exit 7'
        done = checked(tmp_path, forge="exec 9>held; echo begun >&9; sleep 600", setup=setup)
        assert done.returncode == 7
        assert select.select([reader], [], [], 30)[0], "the lane's tool holds its end yet"
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
