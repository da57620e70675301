"""Peers that lie, shout and send rubbish: nobody crashes, nothing is believed, honest work goes on."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest
from network_acts import PATIENCE_S, raw_terms

from gesso.transport.port import MAX_GOSSIP_BYTES, Transport
from gesso_devnet import Devnet
from gesso_protocol.errors import GessoError, MessageTooLarge, UsageError
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.messages import (
    PROTOCOL_PROGRESS,
    TOPIC_NODES,
    TOPIC_TASKS,
    NodeAdvert,
    ProgressEvent,
    TaskAnnouncement,
)
from gesso_protocol.money import Wei
from gesso_protocol.policy import Offer, Price

pytestmark = pytest.mark.anyio


async def shout(transport: Transport, topic: str, messages: list[bytes]) -> None:
    """Publish what the transport lets out; it may stop us by its own rules."""
    for message in messages:
        try:
            await transport.publish(topic, message)
        except GessoError:
            continue


async def test_rubbish_and_forgeries_do_not_stop_honest_work(net: Devnet, tmp_path: Path) -> None:
    board, chain_id = net.chain_settings.contracts.task_board, net.chain.chain_id
    unfunded = TaskAnnouncement.of(chain_id, board, await raw_terms(net))
    foreign = TaskAnnouncement.of(chain_id + 1, board, await raw_terms(net))
    dear = Offer(price=Price(base=Wei(1)))
    forged = NodeAdvert(
        chain_id=chain_id, wallet=net.nodes[0].address, peer="16Uiu2HAmForgedForgedForged", offer=dear, sent_at=2**40
    )
    async with net.make_transport(tmp_path / "liar.key") as liar:
        await net.join(liar)
        with pytest.raises(MessageTooLarge):
            await liar.publish(TOPIC_TASKS, b"x" * (MAX_GOSSIP_BYTES + 1))
        rubbish = [b"", b"\x00" * 100, b"{}", b"[" * 5000, unfunded.encode()[:-1], b"\xff" * MAX_GOSSIP_BYTES]
        await shout(liar, TOPIC_TASKS, [*rubbish, unfunded.encode(), foreign.encode()])
        await shout(liar, TOPIC_NODES, [*rubbish, forged.encode()])
        with anyio.fail_after(PATIENCE_S):
            result = await (await net.submitter.submit(await net.submitter.spec("still here"))).result()
    assert result.images
    for handle in net.nodes:
        assert (await handle.node.status()).healthy


async def test_a_stranger_cannot_speak_for_the_node_that_has_the_task(net: Devnet, tmp_path: Path) -> None:
    spec = await net.submitter.spec("whose picture?")
    task = await net.submitter.submit(spec)
    decoy = await net.submitter._ports.blobs.put(b"not a manifest")
    lie = ProgressEvent(
        task=task.id, node=net.nodes[0].address, sequence=2**50, stage="committed", note=str(BlobRef(decoy.value))
    )
    async with net.make_transport(tmp_path / "impostor.key") as impostor, httpx.AsyncClient() as http:
        user = next(peer for peer in net.hub._online.values() if PROTOCOL_PROGRESS in peer._served)
        await impostor.connect(user.addresses[0])
        with pytest.raises(GessoError):
            await impostor.request(user.peer_id, PROTOCOL_PROGRESS, lie.encode())
        # The relay cannot know who speaks; what it passes on is only a hint, and checked.
        await http.post(f"{net.relay.url}/v1/progress/{task.id}", content=lie.encode())
        with anyio.fail_after(PATIENCE_S):
            result = await task.result(until="settled")
    assert result.receipt.result != decoy
    assert result.image.data


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * 1000, b"{" * 9000, b"x" * (MAX_GOSSIP_BYTES * 4)])
async def test_the_relay_answers_rubbish_with_a_typed_error(net: Devnet, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=net.relay.url) as http:
        for path in ("/v1/gossip", f"/v1/progress/0x{'11' * 32}"):
            reply = await http.post(path, content=body)
            assert reply.status_code in (400, 413)
            assert set(reply.json()) >= {"code", "message", "hint"}
        assert (await http.get("/v1/health")).status_code == 200


async def test_wrong_names_from_users_are_typed_errors(net: Devnet) -> None:
    for call in (
        net.submitter.task("not an id"),
        net.submitter.model("../../etc/passwd"),
        net.submitter.tasks(state="lost"),
        net.submitter.spec("x" * 5000),
        net.submitter.spec("x", guidance="lots"),
        net.submitter.balance("0x12"),
    ):
        with pytest.raises(GessoError):
            await call
    with pytest.raises(UsageError):
        await net.submitter.spec("x", width=63)
    assert Address(net.submitter.address) == net.cast.submitter.address
