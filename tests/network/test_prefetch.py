"""What tasks on the network ask for comes to a node before it is asked itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from network_acts import PATIENCE_S

from gesso.chain import DeploySettings
from gesso_devnet.network import POLL_S, Devnet

from .test_market import lora

pytestmark = pytest.mark.anyio


def bystander(number: int, document: dict[str, Any]) -> dict[str, Any]:
    """Node 1 needs weights to draw, and takes nothing at the prices of this network."""
    if number == 0:
        return document
    dear = {**document["policy"], "min_fee": str(10**30)}
    return {**document, "executor": {"engine": "diffusers"}, "policy": dear}


async def test_a_lora_that_others_drew_with_twice_is_fetched_with_its_base_and_offered(tmp_path: Path) -> None:
    # An auditor fetches what it is drawn to look at, however seldom that is asked for.
    rules = DeploySettings.devnet().model_copy(update={"audits": None})
    async with (
        Devnet.open(nodes=2, executor="fake", rules=rules, reconfigure=bystander) as net,
        net.client(net.spare_wallet(0)) as alice,
    ):
        with anyio.fail_after(PATIENCE_S):
            base = await net.submitter.model("gesso-tiny")
            once = await alice.market.publish(
                lora(tmp_path / "a.safetensors", seed=21), "alice/once", licence="MIT", base="gesso-tiny"
            )
            wanted = await alice.market.publish(
                lora(tmp_path / "b.safetensors", seed=22), "alice/wanted", licence="MIT", base="gesso-tiny"
            )
            for name in ("alice/wanted", "alice/once", "alice/wanted"):
                task = await net.submitter.submit(await net.submitter.spec("a zbx", loras=[name]))
                await task.result(until="settled")
            node = net.nodes[1].node
            prefetcher, models, policy = node._prefetcher, node._models, node._policy
            assert prefetcher is not None
            while not models.has(wanted.manifest):
                await prefetcher.once()
                await anyio.sleep(POLL_S)
        assert models.has(base.manifest), "a LoRA is no use without its base"
        assert not models.has(once.manifest), "one task says nothing of the next"
        assert {base.manifest, wanted.manifest} <= set(policy.offer().models)
        assert await net.earned(node.address) == 0
