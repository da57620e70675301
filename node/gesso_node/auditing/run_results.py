"""What a training handed over, as an auditor or juror gets to see it: the result, its adapter, its samples.

The chain binds the result's root, so it does not matter who says where its manifest is, and all who say so are asked
at once: none of them can keep us waiting for the others. What was seen is published, as a juror has to see it too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from gesso_node.auditing.ask import Asker
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.pictures import MAX_IMAGE_BYTES
from gesso_node.auditing.run_checks import adapter_fault
from gesso_node.auditing.run_opened import FILE, OpenedRun, RunOpener
from gesso_node.auditing.work import STORE_S
from gesso_node.executors.lora.adapter_file import ADAPTER_FILE
from gesso_node.executors.lora.sgm_names import layers_in
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.result import ResultManifest
from gesso_protocol.training.checkpoint import NOTES_ROOM_BYTES
from gesso_protocol.training.evidence import RunEvidence
from gesso_protocol.training.samples import samples_fault

KOHYA_FILE = "adapter_kohya.safetensors"
Look = Callable[[], Awaitable[ResultManifest | None]]


class RunResults:
    """Finds one training's result. `folder` is for files of it that are looked into."""

    def __init__(self, task: RunAssignment, asker: Asker, opener: RunOpener, folder: Path) -> None:
        self._task = task
        self._asker = asker
        self._opener = opener
        self._folder = folder
        self._public: tuple[BlobRef, ...] = ()
        self._found: BlobRef | None = None
        self.seen: dict[BlobRef, bytes | Path] = {}
        """Of the result, what a juror needs to see what we saw."""

    def told(self, public: Iterable[BlobRef]) -> tuple[BlobRef, ...]:
        """Remember which evidence is public: each of it may say where the result is."""
        self._public = tuple(dict.fromkeys(public))
        return self._public

    def evidence(self, opened: OpenedRun) -> bytes:
        """What we publish of openings, with the place of the result if we have seen it."""
        return RunEvidence(opened.data, self._found).encode()

    async def find(self, opened: OpenedRun) -> ResultManifest | None:
        """What the node bound on chain; None when nobody has it."""
        found: list[ResultManifest] = []
        ways: list[Look] = [partial(self._at, (ref,)) for ref in opened.results]
        ways += [partial(self._published, ref) for ref in self._public]
        ways += [self._asked, partial(self._asker.result, self._task.task, self._task.filing, None)]
        with anyio.move_on_after(STORE_S):
            async with anyio.create_task_group() as group:

                async def look(way: Look) -> None:
                    result = await way()
                    if result is not None:
                        found.append(result)
                        group.cancel_scope.cancel()

                for way in ways:
                    group.start_soon(look, way)
        if not found:
            return None
        self._found = found[0].ref
        self.seen[found[0].ref] = found[0].encode()
        return found[0]

    async def fault(self, opened: OpenedRun, result: ResultManifest | None, size: int, model_dir: Path | None) -> str:
        """Whether the result hands over what the trace ends with. What nobody has is not held against the node here.
        `size` is that of our own start, `model_dir` the base that we run."""
        if result is None:
            return ""
        done, said = opened.openings.facts().steps_done, result.profile.get("steps-done", "")
        if result.adapter is None or said != str(done):
            return f"the result says {said[:20] or 'no'} updates" if result.adapter else "the result holds no adapter"
        if fault := samples_fault(self._task.spec, result.images):
            return fault
        with anyio.move_on_after(STORE_S):
            return await self._handed_over(opened, result.adapter, size, model_dir)
        return ""

    async def picture(self, blob: BlobRef) -> bytes | None:
        """A sample as it was handed over; None when nobody has it, as its requester would have noticed."""
        with anyio.move_on_after(STORE_S):
            try:
                data = await self._asker.blob(self._task.filing.node, blob, MAX_IMAGE_BYTES)
            except GessoError:
                return None
            self.seen[blob] = data
            return data
        return None

    async def _at(self, places: tuple[BlobRef, ...]) -> ResultManifest | None:
        return await self._asker.bound(self._task.filing, places)

    async def _published(self, evidence: BlobRef) -> ResultManifest | None:
        try:
            told = (await self._opener.evidence(evidence)).result
        except GessoError:
            return None
        return None if told is None else await self._at((told,))

    async def _asked(self) -> ResultManifest | None:
        hint = await self._asker.hint(self._task)
        return None if hint is None else await self._at((hint,))

    async def _handed_over(self, opened: OpenedRun, adapter: BlobRef, size: int, model_dir: Path | None) -> str:
        node = self._task.filing.node
        try:
            raw = await self._asker.blob(node, adapter, ModelManifest.MAX_BYTES)
        except GessoError:
            return ""
        self.seen[adapter] = raw
        try:
            blobs = {entry.path: entry.blob for entry in ModelManifest.decode(raw).files}
        except EncodingInvalid as error:
            return f"the adapter's manifest is none: {error.message}"
        if blobs.get(ADAPTER_FILE) != opened.openings.file(FILE)[0]:
            return f"the result's {ADAPTER_FILE} is not the trace's"
        if KOHYA_FILE not in blobs:
            return ""
        path = self._folder / KOHYA_FILE
        try:
            await self._asker.fetch(node, blobs[KOHYA_FILE], path, size + NOTES_ROOM_BYTES)
        except GessoError:
            return ""
        self.seen[blobs[KOHYA_FILE]] = path
        layers = await anyio.to_thread.run_sync(layers_in, model_dir)
        fault = await anyio.to_thread.run_sync(adapter_fault, opened.last, path, self._task.spec, layers)
        return f"{KOHYA_FILE}: {fault}" if fault else ""
