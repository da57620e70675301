"""A whole network in one process with real libp2p peers: gossip, progress and blobs over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from network_acts import PATIENCE_S

from gesso.chain import DeploySettings
from gesso.transport.keys import peer_id_bytes
from gesso_devnet import Devnet

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def peers(anyio_backend: str) -> AsyncIterator[Devnet]:
    rules = DeploySettings.devnet().model_copy(update={"audits": None})
    async with Devnet.open(nodes=2, transport="libp2p", rules=rules) as opened:
        yield opened


async def test_a_task_goes_its_whole_way_over_libp2p(peers: Devnet) -> None:
    kinds: list[str] = []
    with anyio.fail_after(PATIENCE_S):
        task = await peers.submitter.submit(await peers.submitter.spec("over sockets"))
        result = await task.result(until="settled", on_event=lambda event: kinds.append(event.kind))
    assert "step" in kinds
    assert kinds[-1] == "settled"
    assert result.image.data
    heard = [(await handle.node.status()).heard for handle in peers.nodes]
    assert max(heard) >= 1


async def test_peers_are_who_the_registry_says(peers: Devnet) -> None:
    for handle in peers.nodes:
        assert handle.node.transport is not None
        record = await peers.chain.node(handle.address)
        assert record.peer_id == peer_id_bytes(handle.node.transport.peer_id)


async def test_a_node_comes_back_as_the_same_peer_and_works(peers: Devnet) -> None:
    handle, other = peers.nodes
    assert handle.node.transport is not None
    before = handle.node.transport.peer_id
    with anyio.fail_after(PATIENCE_S):
        await handle.stop()
        await handle.start()
        assert handle.node.transport.peer_id == before
        await other.stop()
        result = await (await peers.submitter.submit(await peers.submitter.spec("again"))).result(until="committed")
        await other.start()
    assert result.receipt.node == handle.address
