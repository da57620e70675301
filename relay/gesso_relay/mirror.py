"""Keeps the checkpoints and adapters that proved openings name, for auditors whom their node does not serve, or whose
node has lost them meanwhile.

The root on chain binds a file's SHA-256; which blob that is only the node says, so both are held against the bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from gesso.blobs.peer import PeerBlobs
from gesso.transport.port import PeerId, Transport
from gesso_protocol.errors import BlobCorrupt, BlobTooLarge, GessoError
from gesso_relay.blobs import BlobCache
from gesso_relay.limits import Room, Seats
from gesso_relay.proofs import OpenedFile

MAX_AT_ONCE = 8
PATIENCE_S = 30.0
"""Beside the time that the bytes may take."""
SMALL_BYTES = 64 << 20
LEAST_BYTES_PER_S = 256 * 1024
LEAST_BYTES_PER_S_BEYOND = 1 << 20
"""Bytes beyond the first `SMALL_BYTES` take others' room for long unless they come faster."""
COOL_S = 300.0
"""A node that was too slow is asked for no files for so long: its next visit would keep others away again."""
MAX_SLOW = 1024


@dataclass(eq=False, slots=True)
class _Visit:
    """Files that are fetched from one node; `whole` once all of them are here and right."""

    files: tuple[OpenedFile, ...]
    over: anyio.Event = field(default_factory=anyio.Event)
    whole: bool = False


@dataclass(eq=False, slots=True)
class _Pace:
    """Held at every piece, not only at the end: whoever says that gigabytes come would have hours until then."""

    since_s: float
    arrived: int = 0

    def left_s(self) -> float:
        """So long the next piece may take."""
        return max(0.0, self.since_s + patience_s(self.arrived) - anyio.current_time())


class Mirror:
    """Fetches files of openings into the cache, one by one from a node, as many bytes at once as `room` has, at most
    `most_bytes` for one answer: what a node committed may be as large as it likes, and others' blobs leave for it."""

    def __init__(self, cache: BlobCache, transport: Transport, room: Room, most_bytes: int) -> None:
        self._cache = cache
        self._peers = PeerBlobs(transport)
        self._room = room
        self._most_bytes = most_bytes
        self._seats = Seats("mirrored nodes", MAX_AT_ONCE, 1)
        self._visits: dict[str, _Visit] = {}
        self._slow: OrderedDict[str, float] = OrderedDict()
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            await anyio.sleep_forever()

    async def bring(self, node: str, peer: PeerId, files: Sequence[OpenedFile]) -> bool:
        """Whether all of the files are here, in the end. It goes on when its caller is cancelled; one node at a time
        gives files of one answer."""
        if not files:
            return True
        visit = self._visits.get(node)
        if visit is None and self._slow.get(node, 0.0) > anyio.current_time():
            return False
        if visit is None and self._group is not None:
            visit = self._visits[node] = _Visit(tuple(files))
            self._group.start_soon(self._visit, node, peer, visit)
        if visit is None or visit.files != tuple(files):
            return False
        await visit.over.wait()
        return visit.whole

    async def _visit(self, node: str, peer: PeerId, visit: _Visit) -> None:
        away = [file for file in visit.files if self._cache.path(file.blob) is None]
        size = sum(file.size for file in away)
        try:
            if size > self._most_bytes:
                raise BlobTooLarge(f"the files have {size} bytes, more than are kept of one task")
            with self._seats.seat(node), self._room.hold(node, size):
                pace = _Pace(anyio.current_time())
                for file in visit.files:
                    await self._bring(peer, file, pace)
                visit.whole = True
        except (GessoError, OSError) as error:  # a file that left meanwhile, or a disk that fails, ends no relay
            reason = self._cooled(node) if isinstance(error, TimeoutError) else str(error)
            structlog.get_logger("gesso.relay").info("openings.files-away", node=node, reason=reason)
        finally:
            del self._visits[node]
            visit.over.set()

    def _cooled(self, node: str) -> str:
        """It took others' room for nothing, and does not take it again at once."""
        self._slow[node] = anyio.current_time() + COOL_S
        self._slow.move_to_end(node)
        while len(self._slow) > MAX_SLOW:
            self._slow.popitem(last=False)
        return "the node was too slow"

    async def _bring(self, peer: PeerId, file: OpenedFile, pace: _Pace) -> None:
        path = self._cache.path(file.blob)
        if path is not None:
            if await anyio.to_thread.run_sync(_sha256, path) != file.digest:
                raise BlobCorrupt("the node names another file than it committed")
            pace.arrived += file.size
            return
        found = hashlib.sha256()

        async def hashed() -> AsyncIterator[bytes]:
            pieces = self._peers.stream_from(peer, file.blob, file.size)
            while True:
                with anyio.fail_after(pace.left_s()):
                    piece = await anext(pieces, b"")
                if not piece:
                    return
                pace.arrived += len(piece)
                found.update(piece)
                yield piece

        with self._cache.unproved(file.blob) as doubt:
            await self._cache.put(file.blob, file.size, hashed(), wanted=False)
            if found.digest() != file.digest:
                raise BlobCorrupt("the node gives another file than it committed")
            doubt.proved = True


def patience_s(size: int) -> float:
    """How long so many bytes of one node are waited for."""
    small = min(size, SMALL_BYTES)
    return PATIENCE_S + small / LEAST_BYTES_PER_S + (size - small) / LEAST_BYTES_PER_S_BEYOND


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
