"""Which blobs answered a question to a node and were proved, kept over restarts: the node may be gone when it is asked
again. Blobs themselves are the cache's; where one of them has left it, the answer is forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sqlalchemy import delete, insert, select

from gesso_protocol.hashing import sha256
from gesso_protocol.ids import BlobRef
from gesso_relay.blobs import BlobCache
from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.proofs import Question

LIFE_S = 3600
"""An audit and its disputes ask for the same within it; the lasting proof is the evidence that reveals name."""
MAX_REMEMBERED = 4096
_COLUMN = tables.openings.c


class Proved:
    """Remembers proved answers, a bounded number of them. `wall` gives Unix seconds."""

    def __init__(self, cache: BlobCache, database: Database, wall: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._database = database
        self._wall = wall

    async def answer(self, asked: Question) -> BlobRef | None:
        """The blob that answers it, while all that it names is here too."""
        wanted = select(tables.openings).where(_COLUMN.question == _key(asked), _COLUMN.until > int(self._wall()))
        async with self._database.read() as db:
            row = (await db.execute(wanted)).first()
        if row is None:
            return None
        bundle = BlobRef.parse(row.bundle)
        if all(self._cache.path(ref) is not None for ref in (bundle, *map(BlobRef.parse, row.files))):
            return bundle
        return None

    async def keep(self, asked: Question, bundle: BlobRef, files: Iterable[BlobRef]) -> None:
        """An answer that was proved, with the files that it names."""
        key, now = _key(asked), int(self._wall())
        row = {"question": key, "bundle": str(bundle), "files": [str(ref) for ref in files], "until": now + LIFE_S}
        newest = select(_COLUMN.question).order_by(_COLUMN.until.desc(), _COLUMN.question).limit(MAX_REMEMBERED - 1)
        async with self._database.write() as db:
            gone = (_COLUMN.question == key) | (_COLUMN.until <= now) | _COLUMN.question.not_in(newest)
            await db.execute(delete(tables.openings).where(gone))
            await db.execute(insert(tables.openings).values(**row))


def _key(asked: Question) -> str:
    run = asked.run
    parts = (
        run.chain_id, run.board, run.task, run.node, asked.trace_root, asked.phase,
        asked.challenge.hex() if asked.challenge is not None else "", asked.large, asked.share_bps,
    )  # fmt: skip
    return sha256("\n".join(map(str, parts)).encode()).hex()
