"""Handing out what an auditor, juror or requester may ask for: openings of recorded traces, and blobs of results.

Inputs are opened from the moment the challenge is known. Outputs are opened when nobody can gain from them any more:
every auditor has sealed its own, or the time for that is over, or the task was not picked. Until then nobody gets
them, whoever asks, because an auditor that saw them need not compute anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import structlog

from gesso.blobs import BlobStore, LocalBlobs
from gesso.transport.port import PeerId, Rate, Transport
from gesso_node.auditing.rights import Inputs, Rights, picture_inputs
from gesso_node.journal import Entry
from gesso_node.opened import Own, OwnTraces
from gesso_node.opened_run import OwnRun
from gesso_protocol import merkle
from gesso_protocol.audit.bundle import Bundle, Leaf
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
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.trace import Slot

log = structlog.get_logger("gesso.node.openings")

MAX_BUILDING = 4
"""Bundles that are put together at a time; who comes meanwhile is told to come again."""
MAX_REMEMBERED = 256
MAX_FILES_ASKED = 4
"""Checkpoints beyond those of the audit that one question may name."""
ASKS = Rate(per_s=4, burst=16)


@dataclass(frozen=True, slots=True)
class _Key:
    task: TaskId
    slots: tuple[Slot, ...]
    files: tuple[Slot, ...] = ()


class Openings:
    """Serves the two protocols. `withhold` is the cheat of that name: it never opens anything."""

    def __init__(
        self, own: OwnTraces, rights: Rights, local: LocalBlobs, blobs: BlobStore, *, withhold: bool = False
    ) -> None:
        self._own = own
        self._rights = rights
        self._local = local
        self._blobs = blobs
        self._withhold = withhold
        self._building = 0
        self._bundles: OrderedDict[_Key, BlobRef] = OrderedDict()

    def serve(self, transport: Transport) -> None:
        """Answer both protocols for as long as the transport is open."""
        transport.serve(PROTOCOL_BLOB, self.blob, max_request=BlobRequest.MAX_BYTES)
        transport.serve(
            PROTOCOL_OPEN, self.open, max_request=OpenRequest.MAX_BYTES, max_concurrent=8, per_peer_rate=ASKS
        )

    async def blob(self, _: PeerId, data: bytes) -> bytes:
        """A range of a blob that we hold. Raises EncodingInvalid for a malformed question."""
        wanted = BlobRequest.decode(data)
        try:
            size = await self._local.size(wanted.blob)
        except BlobMissing:
            return encode_blob_reply(BlobReply(status="missing"))
        if wanted.chunks or wanted.offset > size:
            return encode_blob_reply(BlobReply(status="bad-range", size=size))
        with self._local.path(wanted.blob).open("rb") as file:
            file.seek(wanted.offset)
            body = file.read(wanted.length)
        return encode_blob_reply(BlobReply(status="ok", size=size, length=len(body)), body)

    async def open(self, peer: PeerId, data: bytes) -> bytes:
        """Openings of a committed trace. Raises EncodingInvalid for a malformed question; all else is a status."""
        wanted = OpenRequest.decode(data)
        reply = await self._answer(wanted)
        log.info("openings.asked", task=wanted.task.short, phase=wanted.phase, peer=str(peer)[-8:], answer=reply.status)
        return reply.encode()

    async def _answer(self, wanted: OpenRequest) -> OpenReply:
        def refused(status: str) -> OpenReply:
            return OpenReply.model_validate({"task": wanted.task, "phase": wanted.phase, "status": status})

        if self._withhold or self._building >= MAX_BUILDING:
            return refused("busy")
        self._building += 1
        try:
            entry = await self._own.entry(wanted.task)
            if entry is None or entry.result_root is None or entry.trace_root is None:
                return refused("unknown")
            roots = (entry.result_root, entry.trace_root)
            allowed = await self._rights.of(wanted.task, entry.terms, roots, self._inputs(entry), wanted.phase)
            if allowed.status != "ok":
                return refused(allowed.status)
            own = await self._read(entry)
            if own is None:
                return refused("unknown")
            slots = tuple(own.trace.layout.slots() if allowed.slots is None else allowed.slots)
            if isinstance(own, OwnRun):
                return await self._opened_run(wanted, own, slots, allowed.challenge)
            return await self._opened(wanted, own, slots)
        except GessoError as error:
            log.warning("openings.failed", task=wanted.task.short, code=error.code, reason=error.message)
            return refused("busy")
        finally:
            self._building -= 1

    def _inputs(self, entry: Entry) -> Inputs:
        if isinstance(entry.spec, TextToImage):
            return picture_inputs(entry.spec)

        async def slots(drawn: bytes, _: bool) -> tuple[Slot, ...]:
            own = await self._own.read_run(entry)
            return () if own is None else own.inputs(drawn)

        return slots

    async def _read(self, entry: Entry) -> Own | OwnRun | None:
        if isinstance(entry.spec, TrainLora):
            return await self._own.read_run(entry)
        return await self._own.read(entry)

    async def _opened_run(
        self, wanted: OpenRequest, own: OwnRun, slots: tuple[Slot, ...], drawn: bytes | None
    ) -> OpenReply:
        """Everything as one small blob that names the files which an audit looks into; other files one by one."""
        positions = {own.trace.layout.position(slot): slot for slot in slots}
        if not set(wanted.positions) <= set(positions) or len(wanted.positions) > MAX_FILES_ASKED:
            return OpenReply(task=wanted.task, phase=wanted.phase, status="refused")
        openings: tuple[Opening, ...] = ()
        bundle = None
        if wanted.bundle or not wanted.positions:
            files = slots if wanted.phase == "inputs" else own.looked_into(drawn)
            bundle = await self._remembered(_Key(own.entry.task, slots, files), own.encoded(slots, files, self._local))
        else:
            openings = tuple([await self._one_of_run(own, at, positions[at]) for at in wanted.positions])
        return OpenReply(
            task=wanted.task,
            phase=wanted.phase,
            trace_root=own.entry.trace_root,
            openings=openings,
            bundle=bundle,
            result=None if own.entry.result is None else own.entry.result.ref,
        )

    async def _one_of_run(self, own: OwnRun, position: int, slot: Slot) -> Opening:
        leaf = await own.leaf(slot, self._local)
        return Opening(
            position=position,
            digest=leaf.digest.hex(),
            salt=leaf.salt.hex(),
            proof=tuple(step.hex() for step in merkle.proof(own.tree, position)),
            blob=await self._local.put(leaf.data) if leaf.data else leaf.blob,
        )

    async def _opened(self, wanted: OpenRequest, own: Own, slots: tuple[Slot, ...]) -> OpenReply:
        positions = {own.trace.layout.position(slot): slot for slot in slots}
        if not set(wanted.positions) <= set(positions):
            return OpenReply(task=wanted.task, phase=wanted.phase, status="refused")
        chosen = tuple(positions[position] for position in wanted.positions) or slots
        result = None if own.entry.result is None else own.entry.result.ref
        if wanted.bundle or not wanted.positions:
            # Always all that the phase allows: there are too many subsets to keep a bundle of each that is asked for.
            bundle = await self._bundle(own, slots)
            openings: tuple[Opening, ...] = ()
        else:
            bundle = None
            leaves = await anyio.to_thread.run_sync(own.leaves, chosen)
            openings = tuple([await self._one(own, leaf) for leaf in leaves])
        return OpenReply(
            task=wanted.task,
            phase=wanted.phase,
            trace_root=own.entry.trace_root,
            openings=openings,
            bundle=bundle,
            result=result,
        )

    async def _one(self, own: Own, leaf: Leaf) -> Opening:
        position = own.trace.layout.position(leaf.slot)
        return Opening(
            position=position,
            digest=leaf.digest.hex(),
            salt=leaf.salt.hex(),
            proof=tuple(step.hex() for step in merkle.proof(own.tree, position)),
            blob=await self._local.put(bytes(leaf.data)) if leaf.data else None,
        )

    async def _bundle(self, own: Own, slots: tuple[Slot, ...]) -> BlobRef:
        """Put together once; asked for again, it is only named."""
        return await self._remembered(_Key(own.entry.task, slots), anyio.to_thread.run_sync(_encoded, own, slots))

    async def _remembered(self, key: _Key, encoding: Coroutine[Any, Any, bytes]) -> BlobRef:
        known = self._bundles.get(key)
        if known is not None and await self._local.has(known):
            encoding.close()
            return known
        ref = self._bundles[key] = await self._blobs.put(await encoding)
        while len(self._bundles) > MAX_REMEMBERED:
            self._bundles.popitem(last=False)
        return ref


def _encoded(own: Own, slots: Sequence[Slot]) -> bytes:
    return Bundle.encode(own.leaves(slots), own.tree, own.trace.layout)
