"""A network on which everything has happened once: what its pages look like full of long names and large sums."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from gesso.chain.events import BundleMade, ContractEvent, ListingPublished, ListingYanked, RoyaltyPaid
from gesso.market.package import CardDraft, Label, Package, pack_files
from gesso.transport.binding import peer_id_bytes
from gesso.transport.keys import NodeKey
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, ListingId
from gesso_protocol.messages import NodeAdvert
from gesso_protocol.money import Wei
from gesso_protocol.policy import Offer

from .fakechain import (
    ALICE,
    AUDITORS,
    CHAIN_ID,
    JURORS,
    NODE,
    NOWHERE,
    FakeChain,
    cancelled,
    claimed,
    committed,
    expired,
    guilty,
    opened,
    passed,
    registered,
    settled,
    settled_part,
    stopped,
    submitted,
    task_of,
)  # fmt: skip
from .running import Running, running

TEXT = """# What it draws
A **zbx**: a round creature with `two ears`, learnt from fifteen pictures at a learning rate of 2e-3.

- say *zbx* in the prompt
- strength 0.8 keeps the background

```
gesso generate "a zbx on a green background" --lora alice/zbx-with-a-name-of-some-length@1:0.8 -o out.png
```
"""
LONG = "alice/zbx-with-a-name-of-some-length"
PASSED, GUILTY, STOPPED, HELD = 21, 22, 23, 24
BUNDLE = ListingId(2**63 + 5)
PAGES = {
    "overview": "/",
    "tasks": "/tasks",
    "tasks-of": f"/tasks?requester={ALICE}&state=settled",
    "no-tasks": "/tasks?state=expired&node=" + str(ALICE),
    "task": f"/tasks/{task_of(1)}",
    "task-audited": f"/tasks/{task_of(PASSED)}",
    "task-guilty": f"/tasks/{task_of(GUILTY)}",
    "task-stopped": f"/tasks/{task_of(STOPPED)}",
    "task-of-two": f"/tasks/{task_of(31, model=int(BUNDLE))}",
    "task-held": f"/tasks/{task_of(HELD)}",
    "nodes": "/nodes",
    "node": f"/nodes/{NODE}",
    "node-juror": f"/nodes/{JURORS[0]}",
    "audits": "/audits",
    "models": "/models",
    "no-models": "/models?text=nothing",
    "model": f"/models/{LONG}",
    "model-base": "/models/gesso-tiny",
    "missing": "/tasks/0x" + "77" * 32,
}


def peer(number: int) -> NodeKey:
    return NodeKey(keccak256(b"%d" % number))


def _listing(number: int, made: Package, *, parent: int = 0, bps: int = 300) -> ContractEvent:
    return ListingPublished(
        listing=ListingId(number), owner=ALICE, name=made.manifest.name, version=made.manifest.version,
        manifest=made.manifest.ref, listing_kind=made.manifest.listing_kind, parent=ListingId(parent), royalty_bps=bps,
        licence=bytes(32), **NOWHERE,
    )  # fmt: skip


def _picture(path: Path, colour: tuple[int, int, int]) -> Path:
    image = Image.new("RGB", (64, 64), (236, 230, 218))
    ImageDraw.Draw(image).ellipse((12, 14, 52, 54), fill=colour)
    image.save(path)
    return path


def _package(folder: Path, name: str, kind: Any, card: CardDraft) -> Package:
    path = folder / "w.safetensors"
    path.write_bytes(b"weights" * 1000)
    names = {
        "lora": ["adapter.safetensors"],
        "base": ["unet/diffusion_pytorch_model.safetensors", "vae/model.safetensors"],
    }
    label = Label(name, 1, "openrail++", kind)
    return pack_files(dict.fromkeys(names[kind], path), label, card)


def _history() -> list[list[ContractEvent]]:
    audited = [[submitted(nonce), claimed(nonce), committed(nonce)] for nonce in (PASSED, GUILTY, HELD)]
    work = [[submitted(nonce), claimed(nonce), committed(nonce), settled(nonce)] for nonce in range(1, 9)]
    return [
        *work,
        [submitted(11), cancelled(11), submitted(12), expired(12), submitted(13, model=2), submitted(14), claimed(14)],
        [submitted(15), claimed(15), committed(15)],
        [BundleMade(bundle=BUNDLE, members=(ListingId(2), ListingId(3)), **NOWHERE), submitted(31, model=int(BUNDLE))],
        *audited,
        [*passed(PASSED), settled(PASSED)],
        guilty(GUILTY),
        opened(HELD),
        [submitted(STOPPED), claimed(STOPPED), *stopped(STOPPED), *settled_part(STOPPED)],
    ]


@asynccontextmanager
async def showcase(folder: Path) -> AsyncIterator[Running]:
    """A relay that has indexed all of it and has cards, previews and adverts."""
    shots = tuple(_picture(folder / f"zbx on {name}.png", colour) for name, colour in
                  (("green", (60, 140, 80)), ("a blue background", (70, 90, 170)), ("red", (190, 70, 50))))  # fmt: skip
    card = CardDraft(summary="A round creature with two ears, learnt from fifteen pictures", text=TEXT, trigger="zbx",
                     tags=("toy", "creature", "training-example"), previews=shots)  # fmt: skip
    models = [_package(folder, "gesso-tiny", "base", CardDraft(summary="Draws shapes on plain grounds in ten steps")),
              _package(folder, LONG, "lora", card), _package(folder, "bob/more-zbx", "lora", CardDraft())]  # fmt: skip
    chain, nodes = FakeChain(max_range=64), (NODE, *AUDITORS, *JURORS)
    chain.mine([registered(node, peer_id=peer_id_bytes(peer(at).peer_id)) for at, node in enumerate(nodes)])
    chain.mine([_listing(1, models[0]), _listing(2, models[1], parent=1, bps=500), _listing(3, models[2], parent=2)])
    chain.mine([RoyaltyPaid(listing=ListingId(2), owner=ALICE, amount=Wei(123_456_789 * 10**12), **NOWHERE),
                ListingYanked(listing=ListingId(3), yanked=True, **NOWHERE)])  # fmt: skip
    for events in _history():
        chain.mine(events)
    async with MemoryTransport(MemoryHub()) as transport, running(folder, chain, transport=transport) as relay:
        for made in models:
            for ref, source in (*made.blobs.items(), (made.manifest.ref, made.manifest.encode())):
                data = source if isinstance(source, bytes) else source.read_bytes()
                (await relay.client.put(f"/v1/blobs/{ref}", content=data)).raise_for_status()
        for at, node in enumerate(nodes[:4]):
            relay.relay._presence.note(peer(at).peer_id, _advert(node, at), time.monotonic())
        await relay.indexed()
        yield relay


def _advert(node: Address, at: int) -> NodeAdvert:
    return NodeAdvert(chain_id=CHAIN_ID, wallet=node, peer=peer(at).peer_id, offer=Offer(), free_slots=2, sent_at=1)
