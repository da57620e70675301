"""Where a task's result is. A node says it in passing; it counts only if its manifest hashes to the root on chain.

The chain holds the root of a result, not the name of its manifest's blob. Whoever was not listening when the node
said that name can ask the relay later, and can check the answer in the same way as the relay did.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import BlobRef, Root, TaskId
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.result import ResultManifest, result_root
from gesso_relay.blobs import BlobCache
from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Document
from gesso_relay.limits import customer_of

_MAX_TASKS = 16_384
_MAX_CLAIMS = 16
_MAX_CLAIMS_OF_ONE = 2
"""Of a task, by one customer: nobody's words push out those of others."""


class Results:
    """Remembers the manifests that nodes name, bounded, and keeps for good those that the chain proves right."""

    def __init__(self, cache: BlobCache, database: Database) -> None:
        self._cache = cache
        self._database = database
        self._named: OrderedDict[TaskId, OrderedDict[tuple[str, BlobRef], None]] = OrderedDict()

    def note(self, event: ProgressEvent, client: str) -> None:
        """Take somebody's word for where a node's result is, to be checked later."""
        if event.stage != "committed":
            return
        try:
            ref = BlobRef.parse(event.note)
        except EncodingInvalid:
            return
        named = self._named.setdefault(event.task, OrderedDict())
        speaker = customer_of(client)
        named[speaker, ref] = None
        named.move_to_end((speaker, ref))
        own = [said for said in named if said[0] == speaker]
        if len(own) > _MAX_CLAIMS_OF_ONE:
            del named[own[0]]
        elif len(named) > _MAX_CLAIMS:
            named.popitem(last=False)
        self._named.move_to_end(event.task)
        if len(self._named) > _MAX_TASKS:
            self._named.popitem(last=False)

    async def of(self, task: Document) -> Document | None:
        """The result that matches the root in a task's document: manifest, executor and pictures. None if unknown."""
        if not isinstance(root := task.get("result_root"), str):
            return None
        kept = await self._kept(root)
        named = self._named.get(TaskId.parse(str(task["id"])), ())
        for ref in (kept,) if kept else tuple(dict.fromkeys(ref for _, ref in named)):
            manifest = await self._read(ref)
            if manifest is not None and result_root(manifest) == Root.parse(root):
                if kept is None:
                    await self._keep(root, ref)
                return _shown(ref, manifest)
        return {"manifest": str(kept)} if kept else None

    async def _kept(self, root: str) -> BlobRef | None:
        query = select(tables.results.c.manifest).where(tables.results.c.root == root)
        async with self._database.read() as db:
            found = (await db.execute(query)).scalar_one_or_none()
        return None if found is None else BlobRef.parse(found)

    async def _keep(self, root: str, ref: BlobRef) -> None:
        # Two readers may find it at once; they agree, so the second one has nothing to add.
        with contextlib.suppress(IntegrityError):
            async with self._database.write() as db:
                await db.execute(insert(tables.results).values(root=root, manifest=str(ref)))

    async def _read(self, ref: BlobRef) -> ResultManifest | None:
        if self._cache.path(ref) is None:
            return None
        try:
            return ResultManifest.decode(await self._cache.get(ref, max_bytes=ResultManifest.MAX_BYTES))
        except GessoError:
            return None


def _shown(ref: BlobRef, manifest: ResultManifest) -> Document:
    images: list[Document] = [
        {"blob": str(image.blob), "sha256": image.sha256, "width": image.width, "height": image.height}
        for image in manifest.images
    ]
    return {"manifest": str(ref), "executor": manifest.executor, "images": [*images]}
