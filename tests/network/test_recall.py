"""A result that every relay has forgotten: the node that was paid for it still knows where it is."""

from __future__ import annotations

import shutil

import anyio
import pytest
from network_acts import PATIENCE_S

from gesso.chain import DeploySettings
from gesso_devnet import Devnet

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("peer", [True, False], ids=["peer", "http only"])
async def test_a_forgotten_result_comes_from_its_node(peer: bool) -> None:
    rules = DeploySettings.devnet().model_copy(update={"audits": None, "challenge_window_s": 1})
    async with Devnet.open(nodes=1, rules=rules) as net:
        with anyio.fail_after(PATIENCE_S):
            first = await (await net.submitter.submit(await net.submitter.spec("where is it?"))).result(until="settled")
            # The node has let go of the task; then the relay loses its index and all blobs.
            while not (await net.nodes[0].node.status()).recent:  # noqa: ASYNC110 - the node tells only who asks
                await anyio.sleep(0.05)
            await net.relay.stop()
            shutil.rmtree(net.relay.settings.data_dir / "blobs")
            for file in net.relay.settings.data_dir.glob("index.sqlite3*"):
                file.unlink()
            await net.relay.start()
            async with net.client(peer=peer) as later:
                second = await (await later.task(first.receipt.task)).result()
    assert second.image.data == first.image.data
    assert second.receipt.confirmed
