"""A training of this node's own, ready to be opened: digests from what was written down, checkpoints from the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anyio.to_thread

from gesso_node.executors.lora.outside import DIGESTS_FILE, TrainingTrace
from gesso_node.state.journal import Entry
from gesso_node.traces.handed import Handed
from gesso_protocol.errors import ExecutorCrashed
from gesso_protocol.spec import TrainLora
from gesso_protocol.trace import Binding, LeafKind, Slot, trace_leaves
from gesso_protocol.training.audit import compared_slots, input_slots, segments_to_check
from gesso_protocol.training.openings import RunLeaf, RunOpenings

INLINE = (LeafKind.MANIFEST, LeafKind.LOSSES)
"""Leaves that travel inside the openings: small, and never blobs."""


@dataclass(frozen=True)
class OwnRun:
    """One training of ours. `tree` are all its leaves, salted."""

    entry: Entry
    spec: TrainLora
    trace: TrainingTrace
    binding: Binding
    digests: Mapping[Slot, bytes]
    tree: tuple[bytes, ...]

    @classmethod
    def read(cls, entry: Entry, folder: Path, spec: TrainLora, binding: Binding) -> Self:
        """Raises ExecutorCrashed when the folder holds no whole run of this spec."""
        trace = TrainingTrace.read(folder, spec)
        digests = trace.kept_digests()
        return cls(entry, spec, trace, binding, digests, tuple(trace_leaves(binding, trace.layout, digests)))

    def inputs(self, drawn: bytes) -> tuple[Slot, ...]:
        """What phase `inputs` opens for a challenge."""
        return input_slots(segments_to_check(drawn, self.spec, self.trace.facts.steps_done))

    def looked_into(self, drawn: bytes | None) -> tuple[Slot, ...]:
        """The files that are named when everything is opened: those that an audit compares."""
        checks = () if drawn is None else segments_to_check(drawn, self.spec, self.trace.facts.steps_done)
        return (*compared_slots(checks, self.trace.layout.steps), Slot(LeafKind.FILE))

    def absent(self, slots: Iterable[Slot]) -> tuple[str, ...]:
        """Files of these leaves that are not on the disk, by their place in the folder."""
        paths = {path for slot in slots if (path := self.trace.path(slot)) is not None and not path.is_file()}
        return tuple(sorted(str(path.relative_to(self.trace.folder)) for path in paths))

    async def encoded(self, slots: Iterable[Slot], files: Iterable[Slot], handed: Handed) -> bytes:
        """Openings of `slots`; those of them that are in `files` with their blobs. Raises ExecutorCrashed for a file
        that is not what was committed any more."""
        named = set(files)
        leaves = [await self.leaf(slot, handed if slot in named else None) for slot in slots]
        return RunOpenings.encode(leaves, self.tree, self.trace.layout)

    async def leaf(self, slot: Slot, handed: Handed | None) -> RunLeaf:
        """One leaf; with `handed`, its file becomes a blob there."""
        salt, digest, path = self.binding.salt(slot), self.digests[slot], self.trace.path(slot)
        if path is None or (handed is None and slot.kind not in INLINE):
            return RunLeaf(slot, salt, digest)
        if not path.is_file():
            raise ExecutorCrashed(f"{path.name} is not here any more")
        if slot.kind in INLINE:
            data = path.read_bytes()
            self._check(path, hashlib.sha256(data).digest(), digest)
            return RunLeaf.inline(slot, salt, data)
        assert handed is not None
        blob = await handed.known(path)
        if blob is None:
            self._check(path, await anyio.to_thread.run_sync(_sha256, path), digest)
            blob = await handed.file(self.trace.folder, path)
        return RunLeaf.file(slot, salt, digest, blob, path.stat().st_size)

    def _check(self, path: Path, found: bytes, digest: bytes) -> None:
        if found != digest:
            path.unlink(missing_ok=True)  # asked again, it comes from the backup
            raise ExecutorCrashed(f"{path.name} is not what was committed any more")


def trace_files(trace: TrainingTrace) -> list[str]:
    """The files that a backup needs, by their place in the folder."""
    paths = {path for slot in trace.layout.slots() if (path := trace.path(slot)) is not None}
    return [DIGESTS_FILE, *(str(path.relative_to(trace.folder)) for path in paths)]


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
