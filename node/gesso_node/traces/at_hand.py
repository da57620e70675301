"""Traces that somebody asked for lately, and what was opened of them leaf by leaf: who asks again costs a look-up.

Reading a trace means parsing its index, salting every leaf and hashing the tree; a proof means hashing it again. What
is here holds no tensors, and is dropped as soon as the disk does not give what it should.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import anyio.to_thread

from gesso_node.state.journal import Entry
from gesso_node.traces.handed import Handed
from gesso_node.traces.opened import Own, OwnTraces
from gesso_node.traces.opened_run import OwnRun
from gesso_protocol import merkle
from gesso_protocol.errors import BlobMissing
from gesso_protocol.ids import Root, TaskId
from gesso_protocol.messages import Opening
from gesso_protocol.spec import TrainLora
from gesso_protocol.trace import Slot

MAX_LEAVES = 1 << 16
"""Of all traces at hand; the one that was asked for last stays, however large it is."""
MAX_OPENED = 4096
_Key: TypeAlias = tuple[TaskId, Root | None]


@dataclass(frozen=True, slots=True)
class _Read:
    own: Own | OwnRun
    levels: Sequence[Sequence[bytes]]


class AtHand:
    """Reads traces of ours, and opens single leaves."""

    def __init__(self, traces: OwnTraces, handed: Handed) -> None:
        self._traces = traces
        self._handed = handed
        self._read: OrderedDict[_Key, _Read] = OrderedDict()
        self._opened: OrderedDict[tuple[_Key, int], Opening] = OrderedDict()

    def known(self, entry: Entry) -> Own | OwnRun | None:
        """The trace, if it is at hand."""
        found = self._read.get(_key(entry))
        return None if found is None else found.own

    async def trace(self, entry: Entry) -> Own | OwnRun:
        """The trace, from the disk or its backup. Raises BlobMissing when nothing opens the committed root."""
        at_hand = self.known(entry)
        if at_hand is not None:
            self._read.move_to_end(_key(entry))
            return at_hand
        own = await (self._traces.read_run if isinstance(entry.spec, TrainLora) else self._traces.read)(entry)
        if own is None:
            raise BlobMissing("nothing opens the committed root")
        self._read[_key(entry)] = _Read(own, await anyio.to_thread.run_sync(merkle.levels, own.tree))
        while len(self._read) > 1 and sum(len(one.own.tree) for one in self._read.values()) > MAX_LEAVES:
            self._read.popitem(last=False)
        return own

    def forget(self, entry: Entry) -> None:
        """The disk did not give what it should: ask it again."""
        self._read.pop(_key(entry), None)

    async def opened(self, entry: Entry, position: int) -> Opening | None:
        """A leaf that was opened before, if its bytes are still here."""
        found = self._opened.get((_key(entry), position))
        if found is None or (found.blob is not None and not await self._handed.local.has(found.blob)):
            return None
        self._opened.move_to_end((_key(entry), position))
        return found

    async def open(self, entry: Entry, position: int, slot: Slot) -> Opening:
        """Open a leaf; its bytes become a blob. Raises ExecutorCrashed where they are not what was committed."""
        known = await self.opened(entry, position)
        if known is not None:
            return known
        own = await self.trace(entry)
        if isinstance(own, OwnRun):
            found = await own.leaf(slot, self._handed)
            blob = await self._handed.leaf(own.trace.folder, found.data) if found.data else found.blob
            digest, salt = found.digest, found.salt
        else:
            (leaf,) = await anyio.to_thread.run_sync(own.leaves, (slot,))
            blob = await self._handed.leaf(own.trace.folder, bytes(leaf.data)) if leaf.data else None
            digest, salt = leaf.digest, leaf.salt
        read = self._read.get(_key(entry))
        levels = await anyio.to_thread.run_sync(merkle.levels, own.tree) if read is None else read.levels
        proof = tuple(step.hex() for step in merkle.way(levels, position))
        made = Opening(position=position, digest=digest.hex(), salt=salt.hex(), proof=proof, blob=blob)
        self._opened[_key(entry), position] = made
        while len(self._opened) > MAX_OPENED:
            self._opened.popitem(last=False)
        return made


def _key(entry: Entry) -> _Key:
    """Another commit of the task has another trace."""
    return entry.task, entry.trace_root
