"""Searching listings, uses along lineages, cards of strangers on pages, and pictures that are what they say."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gesso.chain.cursor import Cursor
from gesso.chain.events import ContractEvent, ListingPublished
from gesso.market.package import CardDraft, Label, Package, pack_files
from gesso_protocol.card import CardPreview, ModelCard
from gesso_protocol.ids import BlobRef, ListingId
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_relay.explorer.markdown import render
from gesso_relay.index.database import Database
from gesso_relay.index.market import SORTS, MarketQueries, Search, Sort
from gesso_relay.index.writer import Writer

from .chainlog import BOB, block_hash, bundled, listed, settled, submitted
from .fakechain import ALICE, NOWHERE, FakeChain, claimed
from .fakechain import settled as settled_event
from .fakechain import submitted as submitted_event
from .running import Running, running

pytestmark = pytest.mark.anyio
NETWORK = "31337/board"
EVIL = (
    "# Zbx <img src=x onerror=alert(1)>\n\n**bold** and `code` </style><script>alert(1)</script>\n\n"
    "- [x](javascript:alert(1))"
)


def mark(block: int) -> Cursor:
    return Cursor.before(0).advanced(block, block_hash(block))


async def shop(database: Database) -> MarketQueries:
    """Base 1; LoRAs 2 and 3 of it, 4 goes on from 2; base 5. Uses: 2 twice, 4 once, 1 itself once."""
    writer = Writer(database, NETWORK)
    await writer.apply(
        [
            listed(1, 1, name="gesso-tiny", bps=100),
            listed(1, 2, index=1, name="alice/zbx", parent=1, kind="lora", bps=500),
            listed(1, 3, index=2, name="bob/zbx_fine", parent=1, kind="lora", bps=0, owner=BOB),
            listed(1, 4, index=3, name="bob/more", parent=2, kind="lora", bps=200, owner=BOB),
            listed(1, 5, index=4, name="sd-1.5"),
        ],
        mark(1),
    )
    tasks = [submitted(2, 1, model="2"), submitted(2, 2, index=1, model="2"), submitted(2, 3, index=2, model="4"),
             submitted(2, 4, index=3, model="1"), submitted(2, 5, index=4, model="5")]  # fmt: skip
    await writer.apply(tasks, mark(2))
    await writer.apply([settled(3, number, index=number) for number in (1, 2, 3, 4)], mark(3))
    return MarketQueries(database)


async def found(market: MarketQueries, **wanted: Any) -> list[str]:
    return [str(one["id"]) for one in (await market.search(Search(**wanted), limit=50)).items]


async def test_searches(database: Database) -> None:
    market = await shop(database)
    assert await found(market) == ["5", "4", "3", "2", "1"]
    assert await found(market, sort="use") == ["1", "2", "4", "5", "3"]
    assert await found(market, sort="price", kind="lora") == ["3", "2", "4"]
    assert await found(market, base="1") == ["4", "3", "2"]
    assert await found(market, text="ZBX") == ["3", "2"]
    assert await found(market, text="zbx_") == ["3"]  # an underscore is an underscore
    assert await found(market, text="%") == []
    assert await found(market, text="bob zbx") == ["3"]
    assert await found(market, owner=BOB) == ["4", "3"]
    assert await found(market, kind="vae") == []


async def test_a_use_of_several_is_one_of_each_and_one_of_their_base(database: Database) -> None:
    market, writer, both = await shop(database), Writer(database, NETWORK), str(2**63 + 1)

    async def uses() -> dict[str, object]:
        return {str(one["id"]): one["uses"] for one in (await market.search(Search(), limit=50)).items}

    before = await uses()
    early = submitted(4, 6, model=both)  # it names a number that is nobody's yet
    await writer.apply([early, bundled(4, 2**63 + 1, 3, 4, index=1)], mark(4))
    await writer.apply([submitted(5, 7, model=both), submitted(5, 8, index=1, model=str(2**63 + 9))], mark(5))
    await writer.apply([settled(6, number, index=number) for number in (6, 7, 8)], mark(6))
    assert await uses() == {**before, "4": 2, "3": 1, "2": 4, "1": 5}
    await writer.roll_back(mark(3))
    assert await uses() == before
    await writer.apply([bundled(4, 2**63 + 1, 2, 5, fork=1), submitted(4, 7, index=1, model=both, fork=1)], mark(4))
    await writer.apply([settled(5, 7, fork=1)], mark(5))
    assert await uses() == {**before, "2": 4, "1": 5, "5": 1}


async def test_uses_and_prices_count_along_the_lineage(database: Database) -> None:
    market = await shop(database)
    rows = {str(one["id"]): one for one in (await market.search(Search(), limit=50)).items}
    assert {key: row["uses"] for key, row in rows.items()} == {"1": 4, "2": 3, "3": 0, "4": 1, "5": 0}
    assert {key: row["price_bps"] for key, row in rows.items()} == {"1": 100, "2": 600, "3": 100, "4": 800, "5": 100}
    assert [one["name"] for one in await market.lineage(rows["4"])] == ["bob/more", "alice/zbx", "gesso-tiny"]
    assert [one["id"] for one in await market.children("1", limit=9)] == ["2", "3"]
    writer = Writer(database, NETWORK)
    await writer.roll_back(mark(2))
    assert all(one["uses"] == 0 for one in (await market.search(Search(), limit=50)).items)


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_of_every_order_are_whole(database: Database, sort: Sort) -> None:
    market = await shop(database)
    whole = await found(market, sort=sort)
    pages: list[list[str]] = []
    before: str | None = None
    for _ in range(9):
        page = await market.search(Search(sort=sort), limit=2, before=before)
        pages.append([str(one["id"]) for one in page.items])
        before = page.next
        if before is None:
            break
    assert list(itertools.chain(*pages)) == whole


def listing(number: int, package: ModelManifest, *, parent: int = 0, bps: int = 300) -> ContractEvent:
    return ListingPublished(
        listing=ListingId(number), owner=ALICE, name=package.name, version=package.version, manifest=package.ref,
        listing_kind=package.listing_kind, parent=ListingId(parent), royalty_bps=bps, licence=bytes(32), **NOWHERE,
    )  # fmt: skip


def package(folder: Path, name: str, card: CardDraft) -> Package:
    path = folder / "w.safetensors"
    path.write_bytes(b"weights")
    return pack_files({"adapter.safetensors": path}, Label(name, 1, "openrail++", "lora"), card)


async def put(relay: Running, made: Package) -> None:
    for ref, source in (*made.blobs.items(), (made.manifest.ref, made.manifest.encode())):
        data = source if isinstance(source, bytes) else source.read_bytes()
        reply = await relay.client.put(f"/v1/blobs/{ref}", content=data)
        assert reply.status_code in (200, 201), reply.text


async def test_a_page_shows_a_strangers_card_and_runs_nothing_of_it(tmp_path: Path) -> None:
    Image.new("RGB", (48, 32), (200, 80, 40)).save(tmp_path / "a_zbx.png")
    card = CardDraft(summary="<b>zbx</b>", text=EVIL, trigger="zbx", tags=("toy",), previews=(tmp_path / "a_zbx.png",))
    made = package(tmp_path, "alice/zbx", card)
    base = package(tmp_path, "gesso-tiny", CardDraft())
    chain = FakeChain()
    chain.mine([listing(1, base.manifest), listing(2, made.manifest, parent=1, bps=500)])
    chain.mine([submitted_event(1, model=2), claimed(1), settled_event(1)])
    async with running(tmp_path, chain) as relay:
        await put(relay, made)
        await relay.indexed()
        shown = await relay.json("/v1/models/alice/zbx")
        assert (shown["uses"], shown["price_bps"], shown["card"]["licence"]) == (0, 800, "openrail++")
        assert [one["name"] for one in shown["lineage"]] == ["alice/zbx", "gesso-tiny"]
        for path in ("/models/alice/zbx", "/models/alice/zbx@1", "/models/2"):
            page = await relay.client.get(path)
            assert page.status_code == 200
            policy = page.headers["content-security-policy"]
            assert "script" not in policy.replace("default-src 'none'", "")
            for tag in ("<script", "<img src=x", "<b>", 'href="javascript', "</style><"):
                assert tag not in page.text
            assert "<strong>bold</strong>" in page.text
            assert "&lt;script&gt;" in page.text
        picture = await relay.client.get("/models/2/previews/0")
        assert picture.headers["content-type"] == "image/png"
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert picture.content == (tmp_path / "a_zbx.png").read_bytes()
        assert (await relay.client.get("/models/2/previews/1")).status_code == 404
        assert (await relay.client.get("/models/2/previews/-1")).status_code == 404
        with anyio.fail_after(60):
            while not (await relay.json("/v1/models?text=toy"))["models"]:  # noqa: ASYNC110 - found once the card is read
                await anyio.sleep(0.01)
        assert [one["id"] for one in (await relay.json("/v1/models?text=zbx&sort=use&kind=lora&base=1"))["models"]] == [
            "2"
        ]


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + bytes(40), b""])
async def test_a_preview_that_is_no_such_picture_is_not_shown(tmp_path: Path, data: bytes) -> None:
    data = data or b"GIF89a"
    preview = CardPreview(blob=BlobRef.of(data), size=len(data), width=48, height=32)
    card = ModelCard(previews=(preview,)).encode()
    entries = (FileEntry(path="card.json", size=len(card), blob=BlobRef.of(card)),)
    manifest = ModelManifest(name="evil/zbx", version=1, kind="lora", licence="MIT", files=entries)
    made = Package(manifest, {BlobRef.of(data): data, BlobRef.of(card): card})
    chain = FakeChain()
    chain.mine([listing(1, manifest)])
    async with running(tmp_path, chain) as relay:
        await put(relay, made)
        await relay.indexed()
        assert (await relay.client.get("/models/evil/zbx@1")).status_code == 200
        reply = await relay.client.get("/models/1/previews/0")
        assert reply.status_code in (404, 422)
        assert reply.headers["content-type"].startswith("application/json")


async def test_a_card_that_is_none_is_no_card(tmp_path: Path) -> None:
    raw = b'{"format":"gesso/card/1"}'
    entries = (FileEntry(path="card.json", size=len(raw), blob=BlobRef.of(raw)),)
    manifest = ModelManifest(name="odd", version=1, kind="lora", licence="MIT", files=entries)
    chain = FakeChain()
    chain.mine([listing(1, manifest)])
    async with running(tmp_path, chain) as relay:
        await put(relay, Package(manifest, {BlobRef.of(raw): raw}))
        await relay.indexed()
        assert (await relay.json("/v1/models/1"))["card"]["text"] == ""


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models?sort=evil", 400), ("/v1/models?kind=exe", 400), ("/v1/models?base=x", 400),
        ("/v1/models?base=0", 400),
        ("/v1/models?text=" + "x" * 101, 400), ("/v1/models?before=1-2", 400), ("/v1/models?sort=use&before=1", 400),
        ("/v1/models?sort=use&before=1-2", 200), ("/v1/models?owner=0x1", 400), ("/v1/models/a/b/c", 400),
        ("/v1/models/alice%2Fzbx", 404), ("/v1/models/alice/", 400), ("/models/a//b", 400),
        ("/models/none", 404), ("/models?text=%3Cscript%3E", 200),
    ],
)  # fmt: skip
async def test_odd_questions(tmp_path: Path, path: str, status: int) -> None:
    async with running(tmp_path) as relay:
        reply = await relay.client.get(path)
        assert reply.status_code == status, reply.text
        assert "<script>" not in reply.text


def test_markdown() -> None:
    html = str(render("# A *b*\ntext `x<y`\nmore\n\n- one\n- **two**\n\n```\n<pre>\n```\n##not"))
    assert "<h3>A <em>b</em></h3>" in html
    assert "<p>text <code>x&lt;y</code> more</p>" in html
    assert "<ul><li>one</li><li><strong>two</strong></li></ul>" in html
    assert "<pre>&lt;pre&gt;</pre>" in html
    assert "##not" in html


@pytest.mark.parametrize("text", ["", "`" * 5000, "*" * 5000, "- " * 5000, "```", "\0\1<x>", "#" * 5000, "a\n" * 5000])
def test_markdown_of_the_hostile_is_quick_and_tame(text: str) -> None:
    html = str(render(text))
    assert "<x>" not in html
    assert len(html) < 40_000


@given(st.text(st.sampled_from("<>&\"'`*-# \n\0/ax="), max_size=120))
def test_markdown_has_no_tags_but_ours(text: str) -> None:
    html = str(render(text))
    assert "<" not in re.sub(r"</?(?:h[3-6]|p|ul|li|pre|code|strong|em)>", "", html)
