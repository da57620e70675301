"""The folder of a run: what its files are called, and what little is said through it while it runs.

Node and child know it both: the child writes checkpoints and losses, the node reads them, and asks for an early end.
"""

from __future__ import annotations

import struct
from pathlib import Path

from gesso_protocol.errors import ExecutorCrashed
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.trace import Segment

INDEX_FILE = "training.json"
STOP_FILE = "stop"
MAX_REASON_BYTES = 200
ADAPTER_FOLDER = "adapter"
GIVEN_STATE_FILE = "given.safetensors"
"""The checkpoint of somebody else that the run goes on from."""


def checkpoint_file(folder: Path, number: int) -> Path:
    """Where checkpoint `number` is; 0 is the start."""
    return folder / f"checkpoint-{number:04}.safetensors"


def checkpoint_after(spec: TrainLora, step: int) -> int:
    """The number of the checkpoint after update `step` of the run, in the task of this spec."""
    return -(-(step - spec.first_step) // spec.checkpoint_every)


def ask_to_stop(folder: Path, why: str) -> None:
    """Have the run in `folder` end at its next checkpoint; `why` goes into its result. Asking twice changes nothing."""
    path = folder / STOP_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(why, "utf-8")


def take_stop_back(folder: Path) -> None:
    """Nobody wants the run in `folder` to stop any more."""
    (folder / STOP_FILE).unlink(missing_ok=True)


def losses_file(folder: Path, number: int) -> Path:
    """Where the losses of segment `number` are: little-endian fp64, one an update."""
    return folder / f"losses-{number:04}.bin"


def begun_file(folder: Path) -> Path:
    """Where the start state of a revisited run is."""
    return folder / "begun.safetensors"


def end_file(folder: Path, number: int) -> Path:
    """Where the end state of revisited segment `number` is."""
    return folder / f"end-{number:04}.safetensors"


def sample_file(folder: Path, number: int) -> Path:
    """Where last sample `number` is, of a run or of one that is revisited."""
    return folder / f"image-{number}.png"


def wish_to_stop(folder: Path) -> str:
    """Why somebody wants the run to stop, or nothing."""
    try:
        with (folder / STOP_FILE).open("rb") as file:
            return file.read(MAX_REASON_BYTES).decode("utf-8", "replace") or "it was asked to"
    except OSError:
        return ""


def read_losses(folder: Path, segment: Segment) -> tuple[float, ...]:
    """The losses of one segment. Raises ExecutorCrashed when they are not there or not as many as its updates."""
    try:
        raw = losses_file(folder, segment.number).read_bytes()
    except OSError as error:
        raise ExecutorCrashed(f"the losses of segment {segment.number} are missing") from error
    return losses_of(raw, segment.last - segment.first)


def losses_of(raw: bytes, count: int) -> tuple[float, ...]:
    """Losses from a leaf's bytes. Raises ExecutorCrashed when they are not `count` numbers."""
    if len(raw) != 8 * count:
        raise ExecutorCrashed(f"a log of {count} losses has {len(raw)} bytes")
    return struct.unpack(f"<{count}d", raw)
