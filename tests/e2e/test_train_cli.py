"""`gesso train` as people type it, against a devnet of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gesso.tensorfile import open_tensors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (120, 120, 120)}


def run(home: Path, *argv: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "gesso.cli", *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "GESSO_HOME": str(home), "TMPDIR": str(home)},
        cwd=home,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{argv} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("devnet")
    photos = folder / "photos"
    photos.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (64, 64), colour).save(photos / f"{name}.png")
        (photos / f"{name}.txt").write_text(f"a {name} square")
    (photos / "grey.txt").unlink()
    (photos / "broken.png").write_bytes(b"no picture")
    run(folder, "devnet", "up", "--executor", "fake", "--chain", "embedded", "--nodes", "1")
    yield folder
    run(folder, "devnet", "down")


def deposit(home: Path) -> float:
    return float(json.loads(run(home, "wallet", "show", "--format", "json").stdout)["deposit"])


def test_a_dry_run_tells_what_was_recognised_and_costs_nothing(home: Path) -> None:
    before = deposit(home)
    done = run(home, "train", "--dry-run", "photos", "--trigger", "zbx", "--steps", "20")
    assert "captions beside pictures" in done.stdout
    assert "refused: broken.png" in done.stderr
    assert "'zbx' was put before its caption" in done.stderr
    document = json.loads(run(home, "train", "--dry-run", "photos", "--steps", "20", "--format", "json").stdout)
    assert (document["pictures_found"], document["pictures_used"], document["missing_captions"]) == (5, 4, 1)
    assert document["price"]["eligible_nodes"] == 1
    assert deposit(home) == before


def test_a_folder_becomes_a_lora_that_draws(home: Path) -> None:
    before = deposit(home)
    done = run(home, "train", "photos", "--trigger", "zbx", "--steps", "20", "--rank", "4", "--sample-prompt", "a zbx",
               "-o", "zbx.safetensors")  # fmt: skip
    assert [Path(line).name for line in done.stdout.split()] == ["zbx.safetensors", "zbx-sample-0.png"]
    assert "step 20/20 loss" in done.stderr
    assert "gesso.task" in open_tensors(home / "zbx.safetensors", max_bytes=10**7).metadata
    assert (home / "zbx-sample-0.png").is_file()
    assert deposit(home) < before
    run(home, "generate", "a zbx", "--lora", "zbx.safetensors:0.8", "-o", "out.png")
    assert (home / "out.png").is_file()


def test_what_cannot_be_trained_is_a_sentence(home: Path) -> None:
    (home / "empty").mkdir()
    assert "neither a folder nor a zip" in run(home, "train", "absent", code=2).stderr
    assert "no pictures were found" in run(home, "train", "empty", code=2).stderr
    assert "rank" in run(home, "train", "photos", "--rank", "0", code=2).stderr
