"""Keeps what auditors and jurors judge by: fetches the openings that a reveal names from whichever peer has them.

An auditor may be gone when a juror, the requester or a reader of years later wants to see what it saw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import anyio
import structlog

from gesso.blobs.peer import PeerBlobs
from gesso.transport.port import Transport
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef
from gesso_relay.blobs import BlobCache
from gesso_relay.index.entries import Entry

MAX_BYTES = 64 << 20
"""A larger bundle stays with whoever made it: it would have to pass through our memory."""
MAX_WAITING = 256
TRIES = 4
FIRST_PAUSE_S = 1.0


class EvidenceKeeper:
    """Takes note of reveals and fetches their evidence, one by one. What cannot be had after a few tries is let go."""

    def __init__(self, transport: Transport, cache: BlobCache) -> None:
        self._peers = PeerBlobs(transport)
        self._cache = cache
        self._wanted: deque[BlobRef] = deque(maxlen=MAX_WAITING)
        self._wake = anyio.Event()
        self._log = structlog.get_logger("gesso.relay.evidence")

    def note(self, entry: Entry) -> None:
        """Take an event of the chain; only reveals that name evidence which is not here count."""
        named = entry.data.get("evidence") if entry.name == "audit-revealed" else None
        if not isinstance(named, str):
            return
        ref = BlobRef.parse(named)
        if ref not in self._wanted and self._cache.path(ref) is None:
            self._wanted.append(ref)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while self._wanted:
                await self._keep(self._wanted.popleft())
            self._wake = anyio.Event()
            await self._wake.wait()

    async def _keep(self, ref: BlobRef) -> None:
        for turn in range(TRIES):
            if self._cache.path(ref) is not None:
                self._cache.want(ref)
                return
            try:
                data = await self._peers.get(ref, max_bytes=MAX_BYTES)
                await self._cache.put(ref, len(data), once(data))
            except (GessoError, OSError) as error:  # a disk that fails here ends no relay
                self._log.debug("evidence.waiting", blob=ref.short, reason=str(error))
                await anyio.sleep(FIRST_PAUSE_S * 2**turn)
            else:
                self._log.info("evidence.kept", blob=ref.short, bytes=len(data))
                return


async def once(data: bytes) -> AsyncIterator[bytes]:
    """Bytes in memory as the stream that a cache takes."""
    yield data
