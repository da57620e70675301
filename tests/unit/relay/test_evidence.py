"""The relay keeps what auditors judged by, from whichever peer has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso.transport.binding import peer_id_bytes
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.messages import (
    PROTOCOL_BLOB,
    PROTOCOL_OPEN,
    BlobReply,
    BlobRequest,
    OpenReply,
    OpenRequest,
    encode_blob_reply,
)
from gesso_relay import evidence

from .fakechain import EVIDENCE, FakeChain, claimed, committed, guilty, registered, submitted, task_of
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
            with anyio.fail_after(10):
                while (await relay.client.get(f"/v1/blobs/{EVIDENCE.value.hex()}")).status_code != 200:
                    await anyio.lowlevel.checkpoint()
    assert asked.count(8) == 1
    assert await LocalBlobs(tmp_path / "relay" / "blobs").get(EVIDENCE, max_bytes=100) == b"openings"


async def test_a_relay_asks_the_node_once_for_users_who_are_no_peers(tmp_path: Path) -> None:
    asked: list[bytes] = []
    bundle = BlobRef.of(b"a whole trace")

    async def opens(_peer: PeerId, data: bytes) -> bytes:
        question = OpenRequest.decode(data)
        asked.append(data)
        if len(asked) == 1:
            return OpenReply(task=question.task, phase="outputs", status="not-yet").encode()
        told: dict[str, Any] = {"task": question.task, "phase": question.phase, "bundle": bundle}
        return OpenReply(**told, trace_root=Root(b"\x02" * 32)).encode()

    async def serves(_peer: PeerId, data: bytes) -> bytes:
        question = BlobRequest.decode(data)
        body = b"a whole trace"[question.offset : question.offset + question.length]
        return encode_blob_reply(BlobReply(status="ok", size=13, length=len(body)), body)

    hub, chain = MemoryHub(), FakeChain()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as node:
        node.serve(PROTOCOL_OPEN, opens, max_request=OpenRequest.MAX_BYTES)
        node.serve(PROTOCOL_BLOB, serves, max_request=BlobRequest.MAX_BYTES)
        await mine.connect(node.addresses[0])
        chain.mine([registered(peer_id=peer_id_bytes(node.peer_id)), submitted(1), claimed(1)])
        async with running(tmp_path, chain, transport=mine) as relay:
            await relay.indexed()
            path = f"/v1/tasks/{task_of(1)}/openings"
            assert (await relay.json(path, 404))["code"] == "not-found"
            chain.mine([committed(1)])
            await relay.indexed()
            refused = await relay.json(path, 404)
            assert (refused["code"], "not-yet" in refused["message"]) == ("blob-missing", True)
            for _ in range(2):
                assert (await relay.json(path))["bundle"] == str(bundle)
            assert (await relay.client.get(f"/v1/blobs/{bundle.value.hex()}")).content == b"a whole trace"
            for _ in range(2):  # an auditor whom the node does not answer
                assert (await relay.json(f"{path}?phase=inputs"))["bundle"] == str(bundle)
            assert (await relay.json(f"{path}?phase=outputs"))["bundle"] == str(bundle)
            assert "inputs, outputs" in (await relay.json(f"{path}?phase=everything", 400))["message"]
    assert [OpenRequest.decode(data).phase for data in asked] == ["outputs", "outputs", "inputs"]
