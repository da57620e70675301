"""Whether a file is a picture of a task: the receipt inside it is anybody's text, and proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gesso import png
from gesso.audits.examine import have, result_on_chain
from gesso.fetch import MAX_IMAGE_BYTES
from gesso_protocol.errors import BlobCorrupt, BlobMissing, TaskFailed
from gesso_protocol.events import Committed, Event
from gesso_protocol.ids import BlobRef, TaskId

if TYPE_CHECKING:
    from gesso.wiring import Ports


async def is_of(ports: Ports, task: TaskId, past: Sequence[Event], picture: bytes) -> bool:
    """Whether this PNG is, to the bit, one that the task's node committed, but for the texts that `Image.save` writes.

    Raises TaskFailed before the commit, BlobMissing where nobody has the result any more.
    """
    done = next((event for event in reversed(past) if isinstance(event, Committed)), None)
    if done is None:
        raise TaskFailed("the task is not committed, so it has no picture yet", hint=f"gesso task show {task}")
    result = await result_on_chain(ports, task, done.result_root)
    if result is None:
        raise BlobMissing("nobody has the result of the task, so no picture can be held against it")
    bare = _bare(picture)
    if bare is None:
        return False
    if BlobRef.of(bare) in {entry.blob for entry in result.images}:
        return True
    committed = [await have(ports, entry.blob, MAX_IMAGE_BYTES) for entry in result.images]
    return bare in [_bare(data) for data in committed if data is not None]  # a node may have written texts of its own


def _bare(data: bytes) -> bytes | None:
    try:
        return png.without_text(data, ("parameters", "gesso"))
    except BlobCorrupt:
        return None
