"""Handing out what an auditor, juror or requester may ask for: openings of recorded traces, and blobs of results.

Inputs are opened from the moment the challenge is known. Outputs are opened when nobody can gain from them any more:
every auditor has sealed its own, or the time for that is over, or the task was not picked. Until then nobody gets
them, whoever asks, because an auditor that saw them need not compute anything.

Anybody may ask, so what a question can cost is bounded: a bundle is put together once for all who ask for it, files
only where an audit looks into them, and turns are shared out (`turns`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import structlog

from gesso.transport.port import PeerId, Rate, Transport
from gesso_node.state.journal import Entry
from gesso_node.traces.at_hand import AtHand
from gesso_node.traces.handed import Handed
from gesso_node.traces.opened import Own, OwnTraces
from gesso_node.traces.opened_run import INLINE, OwnRun
from gesso_node.traces.rights import Inputs, Right, Rights, picture_inputs
from gesso_node.traces.turns import MAX_ASKED, Turns
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.errors import BlobMissing, GessoError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.messages import (
    PROTOCOL_BLOB,
    PROTOCOL_OPEN,
    BlobReply,
    BlobRequest,
    Opening,
    OpenReply,
    OpenRequest,
    encode_blob_reply,
)
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Slot

log = structlog.get_logger("gesso.node.openings")

MAX_REMEMBERED = 256
MAX_FILES_ASKED = 4
"""Checkpoints that one question for single leaves may name."""
ASKS = Rate(per_s=4, burst=16)
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Key:
    """A bundle: what was allowed of a commit, for a draw."""

    task: TaskId
    slots: tuple[Slot, ...] | None
    challenge: bytes | None


class Openings:
    """Serves the two protocols. `lent`: where a blob is that is no store's, as of a model that our open tasks use.
    `withhold` is the cheat of that name: it never opens anything."""

    def __init__(
        self,
        own: OwnTraces,
        rights: Rights,
        handed: Handed,
        *,
        turns: Turns | None = None,
        lent: Callable[[BlobRef], Awaitable[Path | None]] | None = None,
        withhold: bool = False,
    ) -> None:
        self._own = own
        self._rights = rights
        self._handed = handed
        self._local = handed.local
        self._turns = turns or Turns(rights.registered, rights.remembered)
        self._lent = lent
        self._withhold = withhold
        self._bundles: OrderedDict[_Key, BlobRef] = OrderedDict()
        self._at_hand = AtHand(own, handed)
        self._inputs_of: OrderedDict[tuple[TaskId, bytes], tuple[Slot, ...]] = OrderedDict()

    def serve(self, transport: Transport) -> None:
        """Answer both protocols for as long as the transport is open."""
        transport.serve(PROTOCOL_BLOB, self.blob, max_request=BlobRequest.MAX_BYTES)
        transport.serve(
            PROTOCOL_OPEN, self.open, max_request=OpenRequest.MAX_BYTES, max_concurrent=MAX_ASKED, per_peer_rate=ASKS
        )

    async def blob(self, _: PeerId, data: bytes) -> bytes:
        """A range of a blob that we hold. Raises EncodingInvalid for a malformed question."""
        wanted = BlobRequest.decode(data)
        try:
            path = await self._place(wanted.blob)
            size = path.stat().st_size
            if wanted.chunks or wanted.offset > size:
                return encode_blob_reply(BlobReply(status="bad-range", size=size))
            with path.open("rb") as file:
                file.seek(wanted.offset)
                body = file.read(wanted.length)
        except (BlobMissing, FileNotFoundError):  # a model may leave the cache between two questions
            return encode_blob_reply(BlobReply(status="missing"))
        return encode_blob_reply(BlobReply(status="ok", size=size, length=len(body)), body)

    async def _place(self, blob: BlobRef) -> Path:
        if not await self._local.has(blob):
            lent = None if self._lent is None else await self._lent(blob)
            if lent is None:
                raise BlobMissing
            return lent
        return self._local.path(blob)

    async def open(self, peer: PeerId, data: bytes) -> bytes:
        """Openings of a committed trace. Raises EncodingInvalid for a malformed question; all else is a status."""
        wanted = OpenRequest.decode(data)
        reply = await self._answer(peer, wanted)
        log.info("openings.asked", task=wanted.task.short, phase=wanted.phase, peer=str(peer)[-8:], answer=reply.status)
        return reply.encode()

    async def _answer(self, peer: PeerId, wanted: OpenRequest) -> OpenReply:
        def refused(status: str) -> OpenReply:
            return OpenReply.model_validate({"task": wanted.task, "phase": wanted.phase, "status": status})

        if self._withhold:
            return refused("busy")
        try:
            async with self._turns.question(peer):
                entry = await self._own.entry(wanted.task)
                if entry is None or entry.result_root is None or entry.trace_root is None:
                    return refused("unknown")
                roots = (entry.result_root, entry.trace_root)
                allowed = await self._rights.of(wanted.task, entry.terms, roots, self._inputs(entry), wanted.phase)
                if allowed.status != "ok":
                    return refused(allowed.status)
                return await self._opened(peer, wanted, entry, allowed) or refused("refused")
        except BlobMissing:
            return refused("unknown")
        except GessoError as error:
            log.warning("openings.failed", task=wanted.task.short, code=error.code, reason=error.message)
            return refused("busy")

    def _inputs(self, entry: Entry) -> Inputs:
        if isinstance(entry.spec, TextToImage):
            return picture_inputs(entry.spec)

        async def slots(drawn: bytes, _: bool) -> tuple[Slot, ...]:
            known = self._inputs_of.get((entry.task, drawn))
            if known is None:
                own = await self._at_hand.trace(entry)
                assert isinstance(own, OwnRun)
                known = _remember(self._inputs_of, (entry.task, drawn), own.inputs(drawn))
            return known

        return slots

    async def _opened(self, peer: PeerId, wanted: OpenRequest, entry: Entry, allowed: Right) -> OpenReply | None:
        """None for what is not opened to anybody. Raises BlobMissing when nothing opens the committed root."""
        bundle: BlobRef | None = None
        openings: tuple[Opening, ...] = ()
        if wanted.bundle or not wanted.positions:
            # Always all that the phase allows: there are too many subsets to keep a bundle of each that is asked for.
            bundle = await self._bundle(peer, entry, allowed)
        else:
            chosen = await self._singly(peer, wanted, entry, allowed)
            if chosen is None:
                return None
            openings = chosen
        return OpenReply(
            task=wanted.task,
            phase=wanted.phase,
            trace_root=entry.trace_root,
            openings=openings,
            bundle=bundle,
            result=None if entry.result is None else entry.result.ref,
        )

    async def _bundle(self, peer: PeerId, entry: Entry, allowed: Right) -> BlobRef:
        """Put together once; asked for again, or meanwhile, it is only named."""
        key = _Key(entry.task, allowed.slots, allowed.challenge)

        async def known() -> BlobRef | None:
            found = self._bundles.get(key)
            return found if found is not None and await self._local.has(found) else None

        async def made() -> BlobRef:
            own = await self._at_hand.trace(entry)
            slots = _slots(own, allowed)
            try:
                if isinstance(own, OwnRun):
                    files = slots if allowed.slots is not None else own.looked_into(allowed.challenge)
                    await self._own.bring(own, files)
                    data = await own.encoded(slots, files, self._handed)
                else:
                    data = await anyio.to_thread.run_sync(_encoded, own, slots)
            except GessoError:
                self._at_hand.forget(entry)
                raise
            return _remember(self._bundles, key, await self._handed.bundle(own.trace.folder, data))

        at_hand = await known()
        return at_hand if at_hand is not None else await self._turns.build(peer, entry.task, known, made)

    async def _singly(
        self, peer: PeerId, wanted: OpenRequest, entry: Entry, allowed: Right
    ) -> tuple[Opening, ...] | None:
        async def known() -> tuple[Opening, ...] | None:
            own = self._at_hand.known(entry)
            chosen = None if own is None else _chosen(own, wanted, allowed)
            if chosen is None:
                return None
            found = [await self._at_hand.opened(entry, position) for position in chosen]
            whole = tuple(one for one in found if one is not None)
            return whole if len(whole) == len(found) else None

        async def made() -> tuple[Opening, ...] | None:
            own = await self._at_hand.trace(entry)
            chosen = _chosen(own, wanted, allowed)
            if chosen is None:
                return None
            try:
                if isinstance(own, OwnRun):
                    await self._own.bring(own, chosen.values())
                return tuple([await self._at_hand.open(entry, *one) for one in chosen.items()])
            except GessoError:
                self._at_hand.forget(entry)
                raise

        at_hand = await known()
        return at_hand if at_hand is not None else await self._turns.build(peer, entry.task, known, made)


def _chosen(own: Own | OwnRun, wanted: OpenRequest, allowed: Right) -> dict[int, Slot] | None:
    """The leaves that are asked for, by position; None where one of them is not opened, or too many files are."""
    slots = _slots(own, allowed)
    if isinstance(own, OwnRun):
        looked = slots if allowed.slots is not None else own.looked_into(allowed.challenge)
        slots = tuple(slot for slot in slots if slot.kind in INLINE or slot in looked)
    at = {own.trace.layout.position(slot): slot for slot in slots}
    many = isinstance(own, OwnRun) and len(wanted.positions) > MAX_FILES_ASKED
    if many or not set(wanted.positions) <= set(at):
        return None
    return {position: at[position] for position in wanted.positions}


def _slots(own: Own | OwnRun, allowed: Right) -> tuple[Slot, ...]:
    return tuple(own.trace.layout.slots() if allowed.slots is None else allowed.slots)


def _remember(kept: OrderedDict[K, V], key: K, value: V) -> V:
    kept[key] = value
    while len(kept) > MAX_REMEMBERED:
        kept.popitem(last=False)
    return value


def _encoded(own: Own, slots: Sequence[Slot]) -> bytes:
    return Bundle.encode(own.leaves(slots), own.tree, own.trace.layout)
