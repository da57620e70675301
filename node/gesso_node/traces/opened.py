"""A node's own traces, ready to be opened: from its disk, or from the encrypted copy when the disk was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from gesso.blobs import BlobStore
from gesso_node.executors.trace import INDEX_FILE, RecordedTrace
from gesso_node.state.journal import Entry, Journal
from gesso_node.traces import backup
from gesso_node.traces.backup import TraceSecrets
from gesso_node.traces.opened_run import INLINE, OwnRun
from gesso_node.traces.run_backup import RunBackup
from gesso_protocol.audit.bundle import Form, Leaf, open_leaf
from gesso_protocol.errors import EncodingInvalid, ExecutorCrashed, GessoError
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.trace import Binding, LeafKind, Slot, trace_root

log = structlog.get_logger("gesso.node.opened")

Lost = Callable[[TaskId], Awaitable[Entry | None]]
"""Rebuilds the journal's entry of a committed task of ours from the chain and the blob stores; None if it cannot."""
Restore = Callable[[Entry, BlobRef], Awaitable[None]]
Adopt = Callable[[Entry], Awaitable[None]]
"""Told of a rebuilt entry that was written down: there is a task to settle that the node had forgotten."""


@dataclass(frozen=True)
class Own:
    """One trace of ours that gives the committed root. `tree` are all its leaves."""

    entry: Entry
    trace: RecordedTrace
    binding: Binding
    tree: tuple[bytes, ...]

    @property
    def spec(self) -> TextToImage:
        """What was ordered."""
        assert isinstance(self.entry.spec, TextToImage)
        return self.entry.spec

    def leaves(self, slots: Sequence[Slot]) -> list[Leaf]:
        """Open these leaves: bytes from the disk, salts from the secret. Blocks. Raises ExecutorCrashed."""
        return [self._leaf(slot) for slot in slots]

    def _leaf(self, slot: Slot) -> Leaf:
        entry = self.trace.entries[slot]
        form = _FORMS.get(slot.kind, Form.FP32)
        try:
            data = b"" if form is Form.BARE else self.trace.bytes_of(slot)
            leaf = open_leaf(self.binding, slot, data, entry.shape, form, bytes.fromhex(entry.digest))
        except (OSError, EncodingInvalid) as error:
            raise self._damaged(slot) from error
        if leaf.digest.hex() != entry.digest:
            raise self._damaged(slot)
        return leaf

    def _damaged(self, slot: Slot) -> ExecutorCrashed:
        """Openings with bytes that were not committed would prove nothing, and cost us what a fraud costs."""
        if self.entry.result is not None and self.entry.result.trace_backup is not None:
            (self.trace.folder / INDEX_FILE).unlink(missing_ok=True)  # asked again, it comes from the backup
        return ExecutorCrashed(f"{slot.kind.value} {slot.step} is not what was committed any more")


_FORMS = {LeafKind.MANIFEST: Form.PLAIN, LeafKind.FILE: Form.BARE, LeafKind.RGB: Form.UINT8}


class OwnTraces:
    """Reads traces of committed tasks. What it gives always opens the root that is on chain."""

    def __init__(
        self,
        journal: Journal,
        blobs: BlobStore,
        folder: Callable[[TaskId], Path],
        secrets: TraceSecrets,
        *,
        chain_id: int,
        board: Address,
        node: Address,
        lost: Lost | None = None,
        adopt: Adopt | None = None,
    ) -> None:
        self._journal = journal
        self._blobs = blobs
        self._folder = folder
        self._secrets = secrets
        self._chain_id = chain_id
        self._board = board
        self._node = node
        self._lost = lost
        self._adopt = adopt

    async def entry(self, task: TaskId) -> Entry | None:
        """The committed task as the journal has it, or as it can be rebuilt; None if we committed no such task."""
        entry = await self._journal.entry(task)
        if entry is None or entry.trace_root is None:
            entry = None if self._lost is None else await self._lost(task)
            if entry is not None:
                log.warning("opened.journal-rebuilt", task=task.short)
                await self._journal.add(entry)
                if self._adopt is not None:
                    await self._adopt(entry)
        return None if entry is None or entry.trace_root is None or entry.commit_sent_at is None else entry

    async def read(self, entry: Entry) -> Own | None:
        """The trace, restored from its backup if need be; None when nothing opens the committed root."""
        own = self._on_disk(entry)
        if own is None and await self._restored(entry, self._restore):
            own = self._on_disk(entry)
        return own

    async def read_run(self, entry: Entry) -> OwnRun | None:
        """The same for a training. Its checkpoints may still be away; see `bring`."""
        own = self._run_on_disk(entry)
        if (own is None or own.absent(_inline(own))) and await self._restored(entry, self._restore_small):
            own = self._run_on_disk(entry)
        return own

    async def bring(self, own: OwnRun, slots: Iterable[Slot]) -> None:
        """Have the files of these leaves on the disk, from the backup where they are not. Raises ExecutorCrashed."""
        wanted = own.absent(slots)

        async def restore(entry: Entry, ref: BlobRef) -> None:
            kept = self._backup(entry.task)
            await kept.bring(await kept.index(ref), wanted, own.trace.folder)

        if wanted and not await self._restored(own.entry, restore):
            raise ExecutorCrashed(f"{wanted[0]} is lost, and there is no backup of it")

    def _binding(self, entry: Entry) -> Binding:
        secret = entry.secret or self._secrets.salt_secret(entry.task)
        return Binding(self._chain_id, self._board, entry.task, self._node, secret)

    def _run_on_disk(self, entry: Entry) -> OwnRun | None:
        if not isinstance(entry.spec, TrainLora):
            return None
        try:
            own = OwnRun.read(entry, self._folder(entry.task), entry.spec, self._binding(entry))
        except ExecutorCrashed:
            return None
        return own if trace_root(own.tree) == entry.trace_root else None

    def _on_disk(self, entry: Entry) -> Own | None:
        if not isinstance(entry.spec, TextToImage):
            return None
        binding = self._binding(entry)
        try:
            trace = RecordedTrace.read(self._folder(entry.task), entry.spec)
            tree = tuple(trace.leaves(binding))
        except ExecutorCrashed:
            return None
        # Another attempt's trace, or a damaged one, would only prove that we cannot open what we committed.
        return Own(entry, trace, binding, tree) if trace_root(tree) == entry.trace_root else None

    async def _restore(self, entry: Entry, ref: BlobRef) -> None:
        key = self._secrets.backup_key(entry.task)
        await backup.restore(self._blobs, ref, self._folder(entry.task), entry.task, key)

    async def _restore_small(self, entry: Entry, ref: BlobRef) -> None:
        kept = self._backup(entry.task)
        index = await kept.index(ref)
        await kept.bring(index, index.small, self._folder(entry.task))

    def _backup(self, task: TaskId) -> RunBackup:
        return RunBackup(self._blobs, task, self._secrets.backup_key(task))

    async def _restored(self, entry: Entry, restore: Restore) -> bool:
        ref = None if entry.result is None else entry.result.trace_backup
        if ref is None:
            return False
        try:
            await restore(entry, ref)
        except GessoError as error:
            log.warning("opened.backup-unusable", task=entry.task.short, code=error.code, reason=error.message)
            return False
        log.warning("opened.restored-from-backup", task=entry.task.short)
        return True


def _inline(own: OwnRun) -> list[Slot]:
    return [slot for slot in own.trace.layout.slots() if slot.kind in INLINE]
