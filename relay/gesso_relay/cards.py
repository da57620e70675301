"""What publishers say about their models, as far as this relay has it: manifests and cards, checked by hash.

Text is kept for searching and shown as text. A preview is handed out only when its bytes are a PNG of the size that
the card says, so a page never makes a browser open something else, or something huge.
"""

from __future__ import annotations

import contextlib
from collections import deque

import anyio
import structlog
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from gesso.blobs.peer import PeerBlobs
from gesso.market.package import card_entry
from gesso.png import dimensions, is_png
from gesso.transport.port import Transport
from gesso_protocol.card import MAX_PREVIEW_BYTES, ModelCard
from gesso_protocol.errors import BlobMissing, GessoError
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import ModelManifest
from gesso_relay.blobs import BlobCache
from gesso_relay.evidence import once
from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Document, Entry

MAX_WAITING = 1024
TRIES = 4
FIRST_PAUSE_S = 1.0
_NO_CARD = ModelCard()


class Cards:
    """Reads cards from the blob cache, from peers where there are any, and remembers their words."""

    def __init__(self, cache: BlobCache, database: Database, transport: Transport | None) -> None:
        self._cache = cache
        self._database = database
        self._peers = None if transport is None else PeerBlobs(transport)
        self._wanted: deque[BlobRef] = deque(maxlen=MAX_WAITING)
        self._wake = anyio.Event()
        self._log = structlog.get_logger("gesso.relay.cards")

    def note(self, entry: Entry) -> None:
        """Take an event of the chain; only listings count."""
        if entry.subject == "model" and entry.name == "published":
            self._wanted.append(BlobRef.parse(str(entry.data["manifest"])))
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled: read the cards of new listings, so that searches find their words."""
        while True:
            while self._wanted:
                await self._try(self._wanted.popleft())
            self._wake = anyio.Event()
            await self._wake.wait()

    async def of(self, manifest: str) -> Document | None:
        """What a listing's manifest and card say; None while nobody has given us the manifest."""
        kept = await self._kept(manifest)
        if kept is not None:
            return kept
        try:
            return await self._read(BlobRef.parse(manifest))
        except GessoError:
            return None

    async def size_of(self, manifest: str) -> int | None:
        """Bytes of what a manifest names, as far as that is known here: no peer is asked."""
        kept = await self._kept(manifest)
        if kept is not None:
            return int(str(kept["size"]))
        if self._cache.path(ref := BlobRef.parse(manifest)) is None:
            return None
        try:
            return ModelManifest.decode(await self._cache.get(ref, max_bytes=ModelManifest.MAX_BYTES)).size
        except GessoError:
            return None

    async def preview(self, manifest: str, number: int) -> bytes:
        """A preview picture. Raises BlobMissing when there is none that may be shown."""
        card = await self.of(manifest)
        previews = card["previews"] if card is not None else []
        if not isinstance(previews, list) or not 0 <= number < len(previews):
            raise BlobMissing("there is no such preview")
        named = previews[number]
        assert isinstance(named, dict)
        data = await self._blob(BlobRef.parse(str(named["blob"])), MAX_PREVIEW_BYTES)
        if not is_png(data) or [*dimensions(data)] != [named["width"], named["height"]]:
            raise BlobMissing("the preview is not the picture that its card names")
        return data

    async def _try(self, manifest: BlobRef) -> None:
        for turn in range(TRIES):
            try:
                await self._read(manifest)
            except BlobMissing:
                await anyio.sleep(FIRST_PAUSE_S * 2**turn)
            except (GessoError, OSError) as error:  # a disk that fails here ends no relay
                self._log.info("cards.unreadable", manifest=manifest.short, reason=str(error))
                return
            else:
                return

    async def _read(self, ref: BlobRef) -> Document:
        manifest = ModelManifest.decode(await self._blob(ref, ModelManifest.MAX_BYTES))
        entry = card_entry(manifest.files)
        card = _NO_CARD
        if entry is not None:
            with contextlib.suppress(GessoError):
                card = ModelCard.decode(await self._blob(entry.blob, entry.size))
        document = _document(manifest, card)
        if entry is None or card is not _NO_CARD:
            await self._keep(str(ref), card, document)
        return document

    async def _blob(self, ref: BlobRef, max_bytes: int) -> bytes:
        if self._cache.path(ref) is not None:
            return await self._cache.get(ref, max_bytes=max_bytes)
        if self._peers is None:
            raise BlobMissing(f"{ref.short} is not in this relay's cache")
        data = await self._peers.get(ref, max_bytes=max_bytes)
        await self._cache.put(ref, len(data), once(data))
        return data

    async def _kept(self, manifest: str) -> Document | None:
        column = tables.cards.c
        async with self._database.read() as db:
            row = (await db.execute(select(column.document).where(column.manifest == manifest))).first()
        return None if row is None else row.document

    async def _keep(self, manifest: str, card: ModelCard, document: Document) -> None:
        words = " ".join((card.summary, card.trigger, *card.tags, card.text)).lower()
        row = {"manifest": manifest, "summary": card.summary, "words": words, "document": document}
        # Two readers may find it at once; they agree, so the second one has nothing to add.
        with contextlib.suppress(IntegrityError):
            async with self._database.write() as db:
                await db.execute(insert(tables.cards).values(**row))


def _document(manifest: ModelManifest, card: ModelCard) -> Document:
    files: list[Document] = [
        {"path": entry.path, "size": entry.size, "blob": str(entry.blob)} for entry in manifest.files
    ]
    previews: list[Document] = [preview.model_dump(mode="json") for preview in card.previews]
    return {
        "licence": manifest.licence,
        "family": manifest.base_family,
        "size": manifest.size,
        "files": [*files],
        "summary": card.summary,
        "text": card.text,
        "trigger": card.trigger,
        "tags": [*card.tags],
        "source": card.source,
        "previews": [*previews],
    }
