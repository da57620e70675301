"""A node takes tasks whose owners are paid, and steps back a little where others have weights that it lacks."""

from __future__ import annotations

from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

import pytest

from gesso.blobs import LocalBlobs
from gesso.chain import Listing
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.settings import PolicySection
from gesso_node.tasks.policy import Policy
from gesso_protocol.ids import NO_LISTING, BlobRef, ListingId
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.money import Wei
from gesso_protocol.policy import Refusal
from gesso_protocol.royalties import BUNDLES
from gesso_protocol.spec import TextToImage, UsedAdapter, spec_ref
from gesso_protocol.terms import BoardParams, Terms
from gesso_protocol.training.presets import make_training

from ..doubles import REQUESTER, BoardDouble, ChainDouble, node_address
from ..models.test_models import publish

pytestmark = pytest.mark.anyio
PARAMS = BoardParams(challenge_window_s=5, sortition_step_s=2, protocol_fee_bps=250)
PRIVATE = BlobRef.of(b"a private lora")


class Shop:
    """A base with a royalty, a LoRA of it, and a policy over a cache."""

    def __init__(self, blobs: LocalBlobs, folder: Path) -> None:
        self.blobs, self.board = blobs, BoardDouble()
        self.cache = ModelCache(folder / "models", blobs, budget_bytes=10_000)
        self.catalogue = Catalogue(ChainDouble(self.board, node_address(1)).as_chain())
        settings = PolicySection(hold_back_steps=3)
        self.policy = Policy(settings, PARAMS, self.catalogue, self.cache, needs_model=True)

    async def open(self) -> Shop:
        self.base = await publish(self.blobs, "base", 10)
        self.lora = await publish(self.blobs, "zbx", 10)
        for number, (manifest, parent, bps) in enumerate(((self.base, None, 300), (self.lora, 1, 500)), 1):
            self.board.listings.append(
                Listing(id=ListingId(number), owner=REQUESTER, manifest=manifest, kind=int(parent is not None),
                        parent=parent and ListingId(parent), royalty_bps=bps, licence=bytes(32), yanked=False,
                        name=f"m{number}", version=1)
            )  # fmt: skip
        await self.catalogue.load()
        return self

    def judge(self, named: int, *loras: BlobRef) -> Any:
        used = tuple(UsedAdapter(manifest=ref) for ref in loras)
        spec = TextToImage(prompt="a", model="m1@1", model_manifest=self.base, width=64, height=64, loras=used)
        terms = Terms(requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(spec), model=ListingId(named), kind=1,
                      claim_window_s=60, commit_window_s=60, nonce=1)  # fmt: skip
        verdict = self.policy.judge(spec, terms, free_slots=1, claim_left_s=50)
        return verdict.refusal, verdict.hold_back_steps


@pytest.fixture
async def shop(blobs: LocalBlobs, tmp_path: Path) -> Shop:
    return await Shop(blobs, tmp_path).open()


async def test_terms_that_pay_the_wrong_owner_are_refused(shop: Shop) -> None:
    assert shop.judge(1)[0] is None
    assert shop.judge(0)[0] is Refusal.ROYALTY_UNPAID
    assert shop.judge(1, shop.lora)[0] is Refusal.ROYALTY_UNPAID
    assert shop.judge(2, shop.lora)[0] is None


async def test_a_bundle_is_read_from_the_chain_and_its_price_is_that_of_all(shop: Shop) -> None:
    second = await publish(shop.blobs, "second", 10)
    shop.board.listings.append(
        shop.board.listings[1].model_copy(update={"id": ListingId(3), "manifest": second, "name": "m3"})
    )
    await shop.catalogue.learn(ListingId(3))
    both = ListingId(BUNDLES + 1)
    assert not await shop.catalogue.knows(both), "its task is ahead of the block that makes it"
    assert shop.judge(both, shop.lora, second)[0] is Refusal.ROYALTY_UNPAID
    shop.board.bundles[both] = (ListingId(2), ListingId(3))
    assert await shop.catalogue.knows(both)
    assert await shop.catalogue.knows(NO_LISTING)
    assert not await shop.catalogue.knows(ListingId(77)), "its requester could publish it after our commit"
    assert shop.judge(77)[0] is Refusal.ROYALTY_UNPAID
    assert shop.judge(both, shop.lora, second)[0] is None
    assert shop.judge(2, shop.lora, second)[0] is Refusal.ROYALTY_UNPAID
    assert shop.judge(both, shop.lora)[0] is Refusal.ROYALTY_UNPAID
    assert shop.catalogue.royalty_bps(both) == 300 + 500 + 500
    assert shop.catalogue.members(both) == (2, 3)
    assert shop.catalogue.members(ListingId(2)) == (2,)


async def test_a_node_steps_back_for_weights_that_others_may_have(shop: Shop) -> None:
    assert shop.judge(1)[1] == 3
    await shop.cache.ensure(shop.base)
    assert shop.judge(1)[1] == 0
    assert shop.judge(2, shop.lora)[1] == 3
    await shop.cache.ensure(shop.lora)
    assert shop.judge(2, shop.lora)[1] == 0
    assert shop.judge(1, PRIVATE)[1] == 0  # nobody can have it beforehand


@pytest.mark.parametrize(
    ("updates", "free", "offered"), [(0, 9 * 10**9, 0), (10, 9 * 10**9, 10**9), (10, 10**6, 10**6), (10, None, 0)]
)
async def test_an_offer_says_what_disk_a_training_has(shop: Shop, updates: int, free: int | None, offered: int) -> None:
    def left() -> int:
        if free is None:
            raise OSError("no such disk")
        return free

    settings = PolicySection(max_training_steps=updates, max_training_disk_bytes=10**9)
    policy = Policy(settings, PARAMS, shop.catalogue, shop.cache, needs_model=True, free=left)
    assert policy.offer().max_training_disk_bytes == offered


async def test_an_advert_names_what_is_at_hand_and_no_data_sets(shop: Shop) -> None:
    data = b"x"
    await shop.blobs.put(data)
    entry = FileEntry(path="index.json", size=1, blob=BlobRef.of(data))
    dataset = ModelManifest(name="pictures", version=1, kind="dataset", licence="private", files=(entry,))
    await shop.blobs.put(dataset.encode())
    for ref in (shop.base, shop.lora, dataset.ref):
        await shop.cache.ensure(ref)
    assert set(shop.policy.offer().models) == {shop.base, shop.lora}


async def test_gigabytes_that_would_have_to_be_fetched_count_against_a_window(shop: Shop) -> None:
    rate = 1.0
    shop.policy = Policy(
        PolicySection(hold_back_steps=0), PARAMS, shop.catalogue, shop.cache, needs_model=True,
        fetching=lambda size: size * rate,
    )  # fmt: skip
    assert shop.judge(1)[0] is None, "nobody knows yet how large it is, and half a minute fits"
    size = (await shop.cache.read_manifest(shop.base)).size
    for rate, refusal in ((54.9 / size, None), (55.1 / size, Refusal.EXPIRED)):
        assert shop.judge(1)[0] is refusal, rate
    lora = (await shop.cache.read_manifest(shop.lora)).size
    rate = 55.1 / (size + lora)
    assert shop.judge(1)[0] is None
    assert shop.judge(2, shop.lora)[0] is Refusal.EXPIRED, "its LoRA has to come too"
    await shop.cache.ensure(shop.base)
    assert shop.judge(2, shop.lora)[0] is None
    assert shop.cache.missing_bytes(shop.base) == 0


async def test_a_training_too_waits_for_what_it_is_made_from(shop: Shop) -> None:
    data = await publish(shop.blobs, "data", 10)
    spec = make_training("m1@1", dataset=data, steps=5, checkpoint_every=5, resolution=64, sample_every=0)
    terms = Terms(requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(spec), model=ListingId(1), kind=2,
                  claim_window_s=60, commit_window_s=100, nonce=1)  # fmt: skip
    needed = sum([(await shop.cache.read_manifest(ref)).size for ref in (shop.base, data)])
    for left_s, fits in ((0.1, True), (-0.1, False)):
        rate = (90 - left_s) / needed
        policy = Policy(PolicySection(max_training_steps=10), PARAMS, shop.catalogue, shop.cache, needs_model=True,
                        fetching=partial(mul, rate))  # fmt: skip
        assert policy.in_time(spec, terms, 0.0) is fits
