"""How much of a disk may still be promised: what is free, less what the journal and its like must always find."""

from __future__ import annotations

import shutil
from pathlib import Path

RESERVE_BYTES = 10**9
"""Nobody is promised this: seals, secrets and claims are written to the same disk, and each that is lost costs."""


def free_bytes(folder: Path) -> int:
    """What may be promised on the disk that a folder is on, or will be. Raises OSError."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    return max(0, shutil.disk_usage(there).free - RESERVE_BYTES)


def backup_room(folder: Path, most_bytes: int) -> int:
    """How many bytes a copy may add on that disk, where it lies until other stores have it. A copy can be done without,
    the journal's room not."""
    try:
        return min(most_bytes, free_bytes(folder))
    except OSError:
        return 0


def taken_bytes(folder: Path) -> int:
    """What a folder's files have already; 0 without one. Files may come and go meanwhile."""
    taken = 0
    for path in folder.rglob("*"):
        try:
            taken += path.lstat().st_size
        except FileNotFoundError:
            continue
    return taken
