"""Where a task's result is. A node says it in passing; it counts only if its manifest hashes to the root on chain.

The chain holds the root of a result, not the name of its manifest's blob. Whoever was not listening when the node
said that name can ask the relay later, and can check the answer in the same way as the relay did.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
import structlog
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import BlobRef, Root, TaskId
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.result import ResultManifest, result_root
from gesso_relay.blobs import BlobCache
from gesso_relay.index import tables
from gesso_relay.index.database import Database
from gesso_relay.index.entries import Document, Entry
from gesso_relay.limits import customer_of
from gesso_relay.named import Named

Find = Callable[[str], Awaitable[Document | None]]
"""A task's document from the index."""


class Results:
    """Remembers the manifests that nodes name, bounded, and keeps for good those that the chain proves right."""

    def __init__(self, cache: BlobCache, database: Database) -> None:
        self._cache = cache
        self._database = database
        self._named = Named()
        self._wanted: OrderedDict[TaskId, None] = OrderedDict()
        self._wake = anyio.Event()
        self._log = structlog.get_logger("gesso.relay.results")

    def note(self, event: ProgressEvent, client: str) -> None:
        """Take somebody's word for where a node's result is, to be checked later."""
        if event.stage != "committed":
            return
        try:
            ref = BlobRef.parse(event.note)
        except EncodingInvalid:
            return
        self._named.add(event.task, ref, customer_of(client))

    def committed(self, entry: Entry) -> None:
        """Take an event of the chain; only a root counts, and only where a name waits for it."""
        if "result_root" in entry.data and (task := TaskId.parse(entry.key)) in self._named:
            self._wanted[task] = None
            self._wake.set()

    async def run(self, find: Find) -> None:
        """Until cancelled: hold what was named against roots as they come, so that no word said later matters."""
        while True:
            while self._wanted:
                task, _ = self._wanted.popitem(last=False)
                try:
                    if (known := await find(str(task))) is not None:
                        await self.of(known)
                except (GessoError, SQLAlchemyError, OSError) as error:
                    # Whoever asks for the task has it looked at again.
                    self._log.info("results.later", task=str(task), error=type(error).__name__)
            self._wake = anyio.Event()
            await self._wake.wait()

    async def of(self, task: Document) -> Document | None:
        """The result that matches the root in a task's document: manifest, executor and pictures. None if unknown."""
        if not isinstance(root := task.get("result_root"), str):
            return None
        number, kept = TaskId.parse(str(task["id"])), await self._kept(root)
        for ref in (kept,) if kept else self._named.of(number):
            manifest = await self._read(ref)
            if manifest is None:
                continue
            if result_root(manifest) == Root.parse(root):
                if kept is None:
                    await self._keep(root, ref)
                self._named.drop(number)
                return _shown(ref, manifest)
            self._named.drop(number, ref)
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
