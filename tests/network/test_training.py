"""A whole network trains: a folder goes out, a LoRA comes back and is used, and the money is where it belongs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from network_acts import PATIENCE_S
from training_acts import photos

from gesso.tensorfile import open_tensors
from gesso_devnet.network import Devnet
from gesso_protocol.errors import FeeTooLow, NoEligibleNode, UsageError
from gesso_protocol.events import Event, TrainingStep

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def net(anyio_backend: str) -> AsyncIterator[Devnet]:
    async with Devnet.open(nodes=1, audit_rate=0) as opened:
        yield opened


async def test_a_folder_becomes_a_lora_and_is_used(net: Devnet, tmp_path: Path) -> None:
    seen: list[Event] = []
    client = net.submitter
    with anyio.fail_after(PATIENCE_S):
        run = await client.train_lora(photos(tmp_path / "photos"), trigger="zbx", steps=25, rank=4, alpha=4,
                                      sample_prompts=("a zbx",))  # fmt: skip
        adapter = await run.result(on_event=seen.append)
        path = adapter.save(tmp_path / "zbx.safetensors")
        picture = await client.spec("a zbx", seed=3, loras=[f"{path}:0.8"])
        plain = await client.spec("a zbx", seed=3)
        images = [await (await client.submit(spec)).images() for spec in (picture, plain)]
    steps = [event for event in seen if isinstance(event, TrainingStep)]
    assert (steps[-1].index, steps[-1].total) == (25, 25)
    assert steps[-1].loss is not None
    assert (adapter.steps_done, adapter.stopped, len(adapter.samples)) == (25, "", 1)
    assert open_tensors(path, max_bytes=10**6).metadata["gesso.task"] == str(run.id)
    assert picture.loras[0].strength == 0.8
    assert images[0][0].data != images[1][0].data
    assert adapter.manifest.parent == picture.model_manifest


async def test_training_is_priced_by_its_work(net: Devnet, tmp_path: Path) -> None:
    client = net.submitter
    source = photos(tmp_path / "photos")
    with anyio.fail_after(PATIENCE_S):
        order = await client.training_order(source, steps=10)
        quote = await client.quote(order.spec)
        assert quote.eligible
        with pytest.raises(FeeTooLow):
            await client.submit_training(order, fee="0.0000001")
        with pytest.raises(NoEligibleNode, match="training of 5000 steps"):
            await client.quote((await client.training_order(source, steps=5000)).spec)
        with pytest.raises(UsageError):
            await client.training_order(tmp_path / "absent")


async def test_a_dry_run_costs_nothing(net: Devnet, tmp_path: Path) -> None:
    client = net.submitter
    with anyio.fail_after(PATIENCE_S):
        before = await client.balance()
        source = photos(tmp_path / "photos")
        (source / "bad.png").write_bytes(b"no picture")
        order = await client.training_order(source)
        assert order.bundle.report.used == 4
        assert [note.what for note in order.bundle.report.refused] == ["corrupt"]
        assert await client.balance() == before


async def test_a_published_lora_earns_for_its_owner(net: Devnet, tmp_path: Path) -> None:
    client = net.submitter
    with anyio.fail_after(PATIENCE_S):
        run = await client.train_lora(photos(tmp_path / "photos"), trigger="zbx", steps=5, rank=4, alpha=4)
        path = (await run.result()).save(tmp_path / "zbx.safetensors")
        listing = await client.market.publish(path, "zbx", licence="openrail++", royalty="5%")
        assert (listing.name, listing.version, listing.royalty_bps) == ("zbx", 1, 500)
        with pytest.raises(UsageError, match="cap"):
            await client.market.publish(path, "greedy", licence="MIT", royalty="99%")
        spec = await client.spec("a zbx", loras=["zbx@1:0.8"])
        assert (spec.loras[0].ref, spec.loras[0].manifest) == ("zbx@1", listing.manifest)
        task = await client.submit(spec)
        assert task.terms.model == listing.id
        result = await task.result(until="settled")
        with pytest.raises(UsageError, match="not a LoRA"):
            await client.spec("a zbx", loras=["gesso-tiny@1"])
    assert result.receipt.royalty is not None
    assert int(result.receipt.royalty) >= int(task.terms.fee) * 500 // 10_000
