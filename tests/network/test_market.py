"""The five lines of a publisher and its users on a whole network: train, publish, draw, train on; and the refusals."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from network_acts import PATIENCE_S, until_state
from PIL import Image

from gesso.chain.chain import Chain
from gesso.client import AsyncClient
from gesso.market.listing import check_manifest
from gesso.market.package import CardDraft
from gesso.tensorfile import write_tensors
from gesso_devnet.network import Devnet
from gesso_protocol.errors import BlobMissing, ChainReverted, UsageError
from gesso_protocol.ids import BlobRef, ListingId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei, split_along
from gesso_protocol.royalties import is_bundle, shares_bps
from gesso_protocol.spec import TextToImage, spec_bytes, spec_ref
from gesso_protocol.terms import Terms

pytestmark = pytest.mark.anyio
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
async def net(anyio_backend: str) -> AsyncIterator[Devnet]:
    async with Devnet.open(nodes=1, audit_rate=0) as opened:
        yield opened


@pytest.fixture(scope="module")
async def alice(net: Devnet) -> AsyncIterator[AsyncClient]:
    """A publisher without tokens: what she has at the end she earned."""
    async with net.client(net.spare_wallet(0)) as client:
        yield client


def photos(folder: Path) -> Path:
    folder.mkdir()
    for number, colour in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
    return folder


def lora(path: Path, rank: int = 4, seed: int = 0) -> Path:
    rows = [(f"{LAYER}.lora_{side}.weight", "F32", shape, bytes([seed, 0, 0, 60]) * 8 * rank)
            for side, shape in (("A", (rank, 8)), ("B", (8, rank)))]  # fmt: skip
    write_tensors(path, rows)
    return path


async def books_are_right(net: Devnet, alice: AsyncClient) -> None:
    """Trainings, royalties, refunds, stakes, as far as tests have come: nobody's account is off by a base unit."""
    await net.warp(100)
    for account in (alice.address, net.submitter.address, *net.cast.addresses):
        found = await net.submitter.earnings(str(account))
        assert found.reconciled, found.document()


async def test_train_publish_draw_train_on(net: Devnet, alice: AsyncClient, tmp_path: Path) -> None:
    bob = net.submitter
    with anyio.fail_after(PATIENCE_S):
        run = await bob.train_lora(
            photos(tmp_path / "photos"), base="gesso-tiny", trigger="zbx", steps=5, rank=4, alpha=4
        )
        path = (await run.result()).save(tmp_path / "zbx.safetensors")
        sample = tmp_path / "a_zbx.png"
        Image.new("RGB", (64, 64), (9, 9, 9)).save(sample)
        card = CardDraft(summary="a zbx", text="# zbx\n<script>alert(1)</script>", previews=(sample,), tags=("toy",))
        listing = await alice.market.publish(
            path, "alice/zbx", licence="openrail++", base="gesso-tiny", royalty="5%", card=card
        )
        assert (listing.name, listing.version, listing.owner) == ("alice/zbx", 1, alice.address)

        spec = await bob.spec("a zbx", loras=["alice/zbx@1:0.8"], seed=3)
        task = await bob.submit(spec)
        await task.result(until="settled")
        base = await bob.model("gesso-tiny")
        shares = split_along(task.terms.fee, [500, base.royalty_bps], (await bob.params()).protocol_fee_bps)
        assert (await alice.balance()).deposit == shares.royalties[0]
        assert (await bob.market.stats("alice/zbx")).earned == shares.royalties[0]

        again = await bob.train_lora(photos(tmp_path / "more"), base="gesso-tiny", continue_from="alice/zbx@1", steps=3)
        assert (again.spec.rank, again.spec.alpha) == (4, 4)
        assert again.task.terms.model == listing.id
        await again.result()

    info = await bob.market.info("alice/zbx")
    assert [one.name for one in info.lineage] == ["alice/zbx", "gesso-tiny"]
    assert info.card is not None
    assert info.card.text.startswith("# zbx")
    assert await bob.market.previews("alice/zbx") == [sample.read_bytes()]
    found = await bob.market.search("zbx", kind="lora", base="gesso-tiny")
    assert [one.listing.id for one in found] == [listing.id]

    await until_state(net, again.task.id, TaskState.SETTLED)
    await books_are_right(net, alice)
    earned = await alice.earnings()
    assert dict(earned.earned)["royalties"] == earned.total_earned == earned.checks[0].ours
    assert dict(earned.royalties)["alice/zbx@1"] == (await bob.market.stats("alice/zbx")).earned
    node = await bob.earnings(str(net.nodes[0].address))
    assert node.tasks >= 3
    assert dict(node.earned)["node pay"] == node.total_earned
    assert (await bob.earnings()).total_earned == 0


async def test_every_owner_of_several_loras_earns_and_their_base_once(
    net: Devnet, alice: AsyncClient, tmp_path: Path
) -> None:
    bob, base = net.submitter, await net.submitter.model("gesso-tiny")
    params = await bob.params()
    loras = [lora(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (11, 12)]
    with anyio.fail_after(PATIENCE_S):
        first = await alice.market.publish(loras[0], "alice/one", licence="MIT", base="gesso-tiny", royalty="5%")
        second = await alice.market.publish(loras[1], "alice/two", licence="MIT", base="gesso-tiny", royalty="3%")
        spec = await bob.spec("both", loras=["alice/two@1:0.5", "alice/one@1"], seed=5)
        quote = await bob.quote(spec)
        tasks = [await bob.submit(spec) for _ in range(2)]
        receipts = [(await task.result(until="settled")).receipt for task in tasks]
        terms = tasks[0].terms
        assert is_bundle(terms.model)
        assert terms.model == tasks[1].terms.model, "one bundle for the same LoRAs"
        assert await net.chain.members_of(terms.model) == (first.id, second.id)
        bps = shares_bps((first.id, second.id), {one.id: one for one in (base, first, second)})
        assert sum(bps.values()) == 500 + base.royalty_bps + 300 > params.max_royalty_bps, (
            "nobody gets less for the other"
        )
        shares = split_along(terms.fee, list(bps.values()), params.protocol_fee_bps)
        assert [receipt.royalty for receipt in receipts] == [shares.royalty] * 2 == [quote.split.royalty] * 2
        for name, each in (("alice/one", shares.royalties[0]), ("alice/two", shares.royalties[2])):
            stats = await bob.market.stats(name)
            assert (stats.uses, stats.earned) == (2, 2 * int(each))
        assert (await alice.earnings()).reconciled


async def test_names_and_royalties_are_refused_before_anything_is_sent(
    net: Devnet, alice: AsyncClient, tmp_path: Path
) -> None:
    path = lora(tmp_path / "own.safetensors")
    await alice.market.publish(path, "carol/own", licence="MIT", base="gesso-tiny")
    bob, count = net.submitter, await net.chain.listing_count()
    for name, royalty, problem in (
        ("carol/other", "0%", "'carol' belongs to"),
        ("carol/own", "0%", "belongs to"),
        ("bob/greedy", "60%", "over the market's cap"),
        ("bob/../etc", "0%", "name"),
        ("Bob/x", "0%", "name"),
    ):
        with pytest.raises(UsageError, match=problem):
            await bob.market.publish(path, name, licence="MIT", base="gesso-tiny", royalty=royalty)
    with pytest.raises(UsageError, match="does not say which listed model"):
        await bob.market.publish(path, "bob/x", licence="MIT")
    with pytest.raises(UsageError, match="belongs to"):
        await bob.market.yank("carol/own@1")
    with pytest.raises(UsageError, match="belongs to"):
        await bob.market.transfer("carol/own@1", str(bob.address))
    assert await net.chain.listing_count() == count


async def test_a_yank_ends_new_use_and_touches_nothing_that_runs(
    net: Devnet, alice: AsyncClient, tmp_path: Path
) -> None:
    bob = net.submitter
    with anyio.fail_after(PATIENCE_S):
        await alice.market.publish(
            lora(tmp_path / "a.safetensors", seed=1), "alice/gone", licence="MIT", base="gesso-tiny"
        )
        await alice.market.publish(
            lora(tmp_path / "b.safetensors", seed=2), "alice/gone", licence="MIT", base="gesso-tiny"
        )
        spec = await bob.spec("a gone", loras=["alice/gone@2"])
        task = await bob.submit(spec)
        await alice.market.yank("alice/gone@2")
        assert (await task.result(until="settled")).images
        for use in (lambda: bob.spec("again", loras=["alice/gone@2"]), lambda: bob.lora("alice/gone@2")):
            with pytest.raises(UsageError, match="alice/gone@2 was withdrawn by its publisher"):
                await use()
        assert (await bob.lora("alice/gone")).ref == "alice/gone@1"
        assert (await bob.market.info("alice/gone@2")).document()["state"] == "withdrawn"
        assert [one.listing.version for one in await bob.market.search("gone")] == [1]
        await alice.market.yank("alice/gone@2", undo=True)
        assert (await bob.lora("alice/gone")).ref == "alice/gone@2"


async def test_a_publisher_changes_price_and_card_and_sees_what_hers_earned(
    net: Devnet, alice: AsyncClient, tmp_path: Path
) -> None:
    bob, shop = net.submitter, alice.market
    with anyio.fail_after(PATIENCE_S):
        picture = tmp_path / "it.png"
        Image.new("RGB", (64, 64), (9, 9, 9)).save(picture)
        card = CardDraft(summary="a shop", tags=("toy",), previews=(picture,))
        first = await shop.publish(
            lora(tmp_path / "a.safetensors", seed=9),
            "alice/shop",
            licence="MIT",
            base="gesso-tiny",
            royalty="5%",
            card=card,
        )
        task = await bob.submit(await bob.spec("a shop", loras=["alice/shop"]))
        second = await shop.update("alice/shop", royalty="2%", card=CardDraft(summary="cheaper"))
        assert (await task.result(until="settled")).receipt.royalty > 0
        old, new = [await bob.manifest(one) for one in (first, second)]
        assert (second.version, second.royalty_bps, second.parent) == (2, 200, first.parent)
        assert [one for one in new.files if one.path != "card.json"] == [
            one for one in old.files if one.path != "card.json"
        ]
        info = await bob.market.info("alice/shop")
        assert (info.label, info.card and info.card.summary, info.card and info.card.tags) == (
            "alice/shop@2",
            "cheaper",
            ("toy",),
        )
        assert await bob.market.previews("alice/shop") == [picture.read_bytes()]
        third = await shop.update("alice/shop@2", licence="openrail++", keep=True)
        assert (third.version, third.royalty_bps, (await bob.manifest(third)).licence) == (3, 200, "openrail++")
        mine = [one for one in await shop.mine() if one.listing.name == "alice/shop"]
        assert [(one.listing.version, one.listing.state, one.uses) for one in mine] == [
            (3, "listed", 0), (2, "listed", 0), (1, "withdrawn", 1),
        ]  # fmt: skip
        assert mine[2].earned == (await bob.market.stats("alice/shop@1")).earned > 0
        with pytest.raises(UsageError, match="is like that already"):
            await shop.update("alice/shop", royalty="2%", card=CardDraft(summary="cheaper"))
        with pytest.raises(UsageError, match="belongs to"):
            await bob.market.update("alice/shop", royalty="1%")
        with pytest.raises(UsageError, match="over the market's cap"):
            await shop.update("alice/shop", royalty="90%")
        with pytest.raises(UsageError, match="licence"):
            await shop.update("alice/shop", licence="§")
        assert (await bob.model("alice/shop")).version == 3


async def test_what_others_are_made_from_is_not_taken_from_under_them(
    net: Devnet, alice: AsyncClient, tmp_path: Path
) -> None:
    shop = alice.market
    with anyio.fail_after(PATIENCE_S):
        files = [lora(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (21, 22)]
        first = await shop.publish(files[0], "alice/root", licence="MIT", base="gesso-tiny", royalty="5%")
        await shop.publish(files[1], "alice/leaf", licence="MIT", base="alice/root@1")
        with pytest.raises(UsageError, match=r"made from alice/root@1 \(alice/leaf@1\)"):
            await shop.update("alice/root", royalty="2%")
        async with Chain.open(net.chain_settings, net.spare_wallet(0)) as chain:
            await chain.publish_listing("alice/base", BlobRef.of(b"a base"), kind=0)
        with pytest.raises(UsageError, match="made from alice/base@1 is bound"):
            await shop.update("alice/base", royalty="2%")
        assert (await shop.update("alice/root", royalty="2%", anyway=True)).version == 2
        assert not (await net.chain.listing(first.id)).yanked
        assert (await net.submitter.spec("x", loras=["alice/leaf"])).loras


async def test_somebody_elses_bytes_another_base_another_rank(net: Devnet, alice: AsyncClient, tmp_path: Path) -> None:
    """Refused with a sentence, and nobody has paid for anything."""
    bob = net.submitter
    with anyio.fail_after(PATIENCE_S):
        async with Chain.open(net.chain_settings, net.spare_wallet(0)) as chain:
            other = await chain.publish_listing("alice/otherbase", BlobRef.of(b"other"), kind=0)
            await chain.publish_listing("alice/stray", BlobRef.of(b"stray"), kind=1, parent=other)
        mine = await alice.market.publish(
            lora(tmp_path / "a.safetensors", seed=5), "alice/mine", licence="MIT", base="gesso-tiny"
        )
        before = await bob.balance()
        with pytest.raises(UsageError, match=r"alice/stray@1 is made for alice/otherbase@1"):
            await bob.spec("x", loras=["alice/stray@1"])
        with pytest.raises(UsageError, match="rank 4, and 16 is asked for"):
            await bob.train_lora(photos(tmp_path / "p"), continue_from="alice/mine", rank=16)
        with pytest.raises(UsageError, match="belongs to"):
            await check_manifest(net.chain, mine.manifest, bob.address)
        assert (await bob.balance()).deposit == before.deposit
        async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
            with pytest.raises(ChainReverted, match="ManifestTaken"):
                await chain.publish_listing("bob/stolen", mine.manifest, kind=1)


async def test_what_nobody_serves_costs_nothing(net: Devnet, alice: AsyncClient) -> None:
    bob = net.submitter
    with anyio.fail_after(PATIENCE_S):
        async with Chain.open(net.chain_settings, net.spare_wallet(0)) as chain:
            base = await bob.model("gesso-tiny")
            await chain.publish_listing("alice/air", BlobRef.of(b"air"), kind=1, parent=base.id)
        before = await bob.balance()
        with pytest.raises(BlobMissing, match="nobody serves the manifest of alice/air@1"):
            await bob.spec("air", loras=["alice/air@1"])
        assert await bob.balance() == before
        assert (await bob.market.info("alice/air")).manifest is None


async def test_a_node_does_not_claim_what_it_could_not_fetch_or_what_cheats_an_owner(
    net: Devnet, alice: AsyncClient, tmp_path: Path
) -> None:
    """Past the client's checks: the task is refused by name, expires, and the whole fee comes back."""
    bob = net.submitter
    with anyio.fail_after(PATIENCE_S):
        path = lora(tmp_path / "paid.safetensors", seed=3)
        paid = await alice.market.publish(path, "alice/paid", licence="MIT", base="gesso-tiny", royalty="2%")
        spec = await bob.spec("a paid", loras=["alice/paid@1"])
        fee = Wei(int((await bob.quote(spec)).fee) * 2)
        before = await bob.balance()
        node = net.nodes[0].node
        unpaid = await _raw(bob, spec, fee, ListingId(1))
        lost = spec.model_copy(update={"loras": (spec.loras[0].model_copy(update={"manifest": BlobRef.of(b"lost")}),)})
        lost_task = await _raw(bob, lost, fee, ListingId(1))
        reasons = {"royalty-unpaid", "model-unavailable"}
        while not reasons <= set((await node.status()).refused):  # noqa: ASYNC110 - a status is only there when asked for
            await anyio.sleep(0.1)
        await net.warp(100)
        for terms in (unpaid, lost_task):
            await bob._ports.chain.expire(terms)
    assert await bob.balance() == before.__class__(
        before.address, before.tokens, before.deposit, (await bob.balance()).native
    )
    assert paid.royalty_bps == 200
    await books_are_right(net, alice)


async def _raw(client: AsyncClient, spec: TextToImage, fee: Wei, model: ListingId) -> Terms:
    terms = Terms(
        requester=client.address,
        fee=fee,
        spec=spec_ref(spec),
        model=model,
        claim_window_s=60,
        commit_window_s=60,
        nonce=secrets.randbits(64),
    )
    await client.blobs.put(spec_bytes(spec), expect=terms.spec)
    await client._ports.chain.submit(terms)
    return terms
