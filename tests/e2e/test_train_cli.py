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


@pytest.fixture(scope="module")
def trained(home: Path) -> subprocess.CompletedProcess[str]:
    """`zbx.safetensors` and its sample are there."""
    before = deposit(home)
    done = run(home, "train", "photos", "--trigger", "zbx", "--steps", "20", "--rank", "4", "--sample-prompt", "a zbx",
               "-o", "zbx.safetensors")  # fmt: skip
    assert deposit(home) < before
    return done


def test_a_folder_becomes_a_lora_that_draws(home: Path, trained: subprocess.CompletedProcess[str]) -> None:
    assert [Path(line).name for line in trained.stdout.split()] == ["zbx.safetensors", "zbx-sample-0.png"]
    assert "step 20/20 loss" in trained.stderr
    assert "gesso.task" in open_tensors(home / "zbx.safetensors", max_bytes=10**7).metadata
    assert (home / "zbx-sample-0.png").is_file()
    run(home, "generate", "a zbx", "--lora", "zbx.safetensors:0.8", "-o", "out.png")
    assert (home / "out.png").is_file()


@pytest.mark.usefixtures("trained")
def test_the_lines_of_a_publisher_and_its_users(home: Path) -> None:
    """In the words of the issue that asked for them; `--licence` is understood too."""
    run(home, "model", "publish", "zbx.safetensors", "--name", "alice/zbx", "--license", "openrail++",
        "--royalty", "5%", "--summary", "a zbx", "--tag", "toy", "--preview", "zbx-sample-0.png")  # fmt: skip
    run(home, "generate", "a zbx on a green background", "--lora", "alice/zbx@1", "-o", "out2.png", "--settle")
    run(
        home,
        "train",
        "photos",
        "--base",
        "gesso-tiny",
        "--continue",
        "alice/zbx@1",
        "--steps",
        "5",
        "-o",
        "more.safetensors",
    )
    run(home, "model", "publish", "more.safetensors", "--name", "alice/more", "--licence", "MIT")
    info = json.loads(run(home, "model", "info", "alice/more", "--format", "json").stdout)
    assert info["lineage"].startswith("alice/more@1 (0 %) -> alice/zbx@1 (5 %) -> gesso-tiny@1")
    found = json.loads(run(home, "model", "search", "--kind", "lora", "--sort", "use", "--format", "json").stdout)
    assert [one["model"] for one in found] == ["alice/zbx@1", "alice/more@1"]
    assert found[0]["uses"] >= 1
    shown = run(home, "model", "info", "alice/zbx", "--previews", "previews")
    assert "toy" in shown.stdout
    assert (home / "previews" / "preview-1.png").read_bytes() == (home / "zbx-sample-0.png").read_bytes()
    assert (
        "over the market's cap"
        in run(
            home,
            "model",
            "publish",
            "more.safetensors",
            "--name",
            "alice/x",
            "--license",
            "MIT",
            "--royalty",
            "90%",
            code=2,
        ).stderr
    )
    run(home, "model", "yank", "alice/zbx@1")
    assert "was withdrawn" in run(home, "generate", "a zbx", "--lora", "alice/zbx@1", code=2).stderr
    earned = run(home, "earnings")
    assert "to the wei" in earned.stdout
    assert "alice/zbx@1" in earned.stdout


def test_a_folder_becomes_a_base_model_of_the_market(home: Path) -> None:
    from gesso_devnet import model

    run(home, "model", "import", str(model.path()), "--name", "alice/tiny", "--license", "MIT")
    run(home, "generate", "a red circle", "--model", "alice/tiny", "-o", "tiny.png")
    assert Image.open(home / "tiny.png").size == (64, 64)
    assert "no folder" in run(home, "model", "import", "absent", "--name", "a/b", "--license", "MIT", code=2).stderr
    assert (
        "pinned revision" in run(home, "model", "import", "org/x", "--name", "a/b", "--license", "MIT", code=2).stderr
    )


def test_what_cannot_be_trained_is_a_sentence(home: Path) -> None:
    (home / "empty").mkdir()
    assert "neither a folder nor a zip" in run(home, "train", "absent", code=2).stderr
    assert "no pictures were found" in run(home, "train", "empty", code=2).stderr
    assert "rank" in run(home, "train", "photos", "--rank", "0", code=2).stderr
