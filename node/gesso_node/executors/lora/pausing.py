"""A run that makes way for other work: it ends after an update, and goes on from there later with the same bytes.

Its wish is a file in the run's folder, like that to stop, but it is heeded after the very next update. What is kept is
where the run stands between two checkpoints; it is a copy for speed: without it the segment begins again.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

from gesso.checkpointfile import Shapes, State, read_state, write_state
from gesso_node.executors.lora.runfolder import losses_of
from gesso_protocol.errors import ExecutorCrashed, ModelInvalid
from gesso_protocol.training.trace import Segment

_WISH = "pause"
_STATE, _LOSSES = "paused.safetensors", "paused.bin"
_SECONDS = "earlier-seconds"


class PausedError(Exception):
    """The run stands still; doing the same job again goes on with it."""


def ask_to_pause(folder: Path) -> None:
    """Have the run in `folder` end after its next update. Asking twice changes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _WISH).touch()


def take_pause_back(folder: Path) -> None:
    """Nobody waits for the run in `folder` any more; also what a node that died had wished."""
    (folder / _WISH).unlink(missing_ok=True)


def make_way(folder: Path) -> None:
    """Raises PausedError where somebody waits."""
    if wish_to_pause(folder):
        raise PausedError


def wish_to_pause(folder: Path) -> bool:
    """Whether somebody waits for the run to make way."""
    return (folder / _WISH).exists()


def keep_pause(folder: Path, state: State, losses: list[float]) -> None:
    """Write down where a segment stands; `losses` are those of its updates so far. A disk that has no room for that is
    no reason not to make way: the segment is begun again then."""
    try:
        (folder / _LOSSES).write_bytes(struct.pack(f"<{len(losses)}d", *losses))
        write_state(folder / _STATE, state)
    except OSError:
        drop_pause(folder)


def take_pause(folder: Path, segment: Segment, shapes: Shapes) -> tuple[State, list[float]] | None:
    """Where this segment stood when it was last paused; None where it never was, or nothing whole is left of it. The
    files go: with the checkpoint that is written next, they would be one more than the run has promised to take."""
    try:
        state = read_state(folder / _STATE, shapes)
        if not segment.first < state.step < segment.last:
            return None
        return state, list(losses_of((folder / _LOSSES).read_bytes(), state.step - segment.first))
    except (OSError, ModelInvalid, ExecutorCrashed):
        return None
    finally:
        drop_pause(folder)


def drop_pause(folder: Path) -> None:
    """Leave nothing that another run, or another segment, could go on with."""
    for name in (_STATE, f"{_STATE}.partial", _LOSSES):
        (folder / name).unlink(missing_ok=True)


def drop_seconds(folder: Path) -> None:
    """The run is over, or another one begins."""
    (folder / _SECONDS).unlink(missing_ok=True)


def seconds_before(folder: Path) -> float:
    """How long the run in `folder` took up to its last pause; what a crash cut off is not counted."""
    try:
        return float((folder / _SECONDS).read_text("ascii"))
    except (OSError, ValueError):
        return 0.0


def keep_seconds(folder: Path, seconds: float) -> None:
    """Add a stretch that ends in a pause."""
    with suppress(OSError):
        (folder / _SECONDS).write_text(repr(seconds_before(folder) + seconds), "ascii")
