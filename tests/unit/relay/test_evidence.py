"""The relay keeps what auditors judged by, from whichever peer has it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId
from gesso_protocol.messages import PROTOCOL_BLOB, BlobReply, BlobRequest, encode_blob_reply
from gesso_relay import evidence

from .fakechain import EVIDENCE, FakeChain, claimed, committed, guilty, submitted
from .running import running

pytestmark = pytest.mark.anyio


async def test_evidence_is_fetched_from_a_peer_when_its_auditor_reveals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "FIRST_PAUSE_S", 0.01)
    asked: list[int] = []

    async def serve(_peer: PeerId, data: bytes) -> bytes:
        question = BlobRequest.decode(data)
        asked.append(question.length)
        if len(asked) == 1:
            return encode_blob_reply(BlobReply(status="busy"), b"")
        body = b"openings"[question.offset : question.offset + question.length]
        return encode_blob_reply(BlobReply(status="ok", size=8, length=len(body)), body)

    hub, chain = MemoryHub(), FakeChain()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as auditor:
        auditor.serve(PROTOCOL_BLOB, serve, max_request=BlobRequest.MAX_BYTES)
        await mine.connect(auditor.addresses[0])
        async with running(tmp_path, chain, transport=mine) as relay:
            chain.mine([submitted(1), claimed(1), committed(1), *guilty(1)])
            with anyio.fail_after(60):
                while (await relay.client.get(f"/v1/blobs/{EVIDENCE.value.hex()}")).status_code != 200:
                    await anyio.lowlevel.checkpoint()
    assert asked.count(8) == 1
    assert await LocalBlobs(tmp_path / "relay" / "blobs").get(EVIDENCE, max_bytes=100) == b"openings"
