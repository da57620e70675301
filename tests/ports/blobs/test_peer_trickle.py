"""A peer that hands out a byte at a time is one that stopped."""

from __future__ import annotations

import pytest

from gesso.blobs.peer import PeerBlobs
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId
from gesso_protocol.errors import BlobCorrupt
from gesso_protocol.ids import BlobRef
from gesso_protocol.messages import PROTOCOL_BLOB, BlobReply, BlobRequest, encode_blob_reply

pytestmark = pytest.mark.anyio
CONTENT = bytes(range(200))


async def test_a_byte_at_a_time_is_no_transfer() -> None:
    asked = []

    async def trickle(_: PeerId, data: bytes) -> bytes:
        wanted = BlobRequest.decode(data)
        asked.append(wanted.offset)
        body = CONTENT[wanted.offset : wanted.offset + min(wanted.length, 1)]
        return encode_blob_reply(BlobReply(status="ok", size=len(CONTENT), length=len(body)), body)

    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as slow:
        slow.serve(PROTOCOL_BLOB, trickle, max_request=BlobRequest.MAX_BYTES)
        peer = await mine.connect(slow.addresses[0])
        with pytest.raises(BlobCorrupt):
            await PeerBlobs(mine).get_from(peer, BlobRef.of(CONTENT), max_bytes=1000)
    assert len(asked) == 2
