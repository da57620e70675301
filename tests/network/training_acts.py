"""What the tests of trainings on whole networks do again and again."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]


def photos(folder: Path) -> Path:
    """Four flat pictures with captions."""
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"colour {number}")
    return folder
