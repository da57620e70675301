"""Models and data sets of our own tasks, for whoever is to judge them: where no store has the files, the node that ran
them does.

A jury that cannot have the model is a jury of those who hid it. Lent is what a committed task of ours used that is not
settled or ruled yet, as long as the cache has it; nothing else of the cache is anybody's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from gesso_node.models.cache import ModelCache
from gesso_node.state.journal import Entry, Journal
from gesso_protocol.ids import BlobRef
from gesso_protocol.royalties import used_adapters
from gesso_protocol.spec import TrainLora

REFRESH_S = 5.0
"""So often at most is the journal read, however many ask."""


class LentModels:
    """Where a blob of such a model is on this disk."""

    def __init__(self, models: ModelCache, journal: Journal, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._journal = journal
        self._clock = clock
        self._known: dict[BlobRef, Path] = {}
        self._fresh_until: float | None = None

    async def path(self, blob: BlobRef) -> Path | None:
        """None for a blob that is no part of one."""
        now = self._clock()
        if self._fresh_until is None or now >= self._fresh_until:
            self._fresh_until = now + REFRESH_S
            wanted = {ref for entry in await self._journal.open_entries() for ref in _used(entry)}
            self._known = await anyio.to_thread.run_sync(self._parts, wanted)
        return self._known.get(blob)

    def _parts(self, wanted: set[BlobRef]) -> dict[BlobRef, Path]:
        return {blob: path for ref in wanted for blob, path in self._models.parts(ref).items()}


def _used(entry: Entry) -> tuple[BlobRef, ...]:
    if entry.commit_sent_at is None or entry.spec is None or entry.manifest is None:
        return ()
    data = (entry.spec.dataset,) if isinstance(entry.spec, TrainLora) else ()
    return (entry.manifest, *data, *used_adapters(entry.spec))
