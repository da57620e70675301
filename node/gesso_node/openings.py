"""Handing out what an auditor or requester may ask for: openings of recorded traces, and blobs of results."""

from __future__ import annotations

from pathlib import Path

from gesso.blobs import LocalBlobs
from gesso.transport.port import PeerId, Transport
from gesso_node.journal import Journal
from gesso_node.trace import RecordedTrace
from gesso_protocol import merkle
from gesso_protocol.errors import BlobMissing, EncodingInvalid, UsageError
from gesso_protocol.ids import Address
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
from gesso_protocol.trace import Binding


class Openings:
    """Serves the two protocols. Nothing here is secret once committed: salts open one leaf each."""

    def __init__(
        self, journal: Journal, blobs: LocalBlobs, traces: Path, *, chain_id: int, board: Address, node: Address
    ) -> None:
        self._journal = journal
        self._blobs = blobs
        self._traces = traces
        self._chain_id = chain_id
        self._board = board
        self._node = node

    def serve(self, transport: Transport) -> None:
        """Answer both protocols for as long as the transport is open."""
        transport.serve(PROTOCOL_BLOB, self.blob, max_request=BlobRequest.MAX_BYTES)
        transport.serve(PROTOCOL_OPEN, self.open, max_request=OpenRequest.MAX_BYTES, max_concurrent=2)

    async def blob(self, _: PeerId, data: bytes) -> bytes:
        """A range of a blob that we hold. Raises EncodingInvalid for a malformed question."""
        wanted = BlobRequest.decode(data)
        try:
            size = await self._blobs.size(wanted.blob)
        except BlobMissing:
            return encode_blob_reply(BlobReply(status="missing"))
        if wanted.chunks or wanted.offset > size:
            return encode_blob_reply(BlobReply(status="bad-range", size=size))
        with self._blobs.path(wanted.blob).open("rb") as file:
            file.seek(wanted.offset)
            body = file.read(wanted.length)
        return encode_blob_reply(BlobReply(status="ok", size=size, length=len(body)), body)

    async def open(self, _: PeerId, data: bytes) -> bytes:
        """Openings of a committed trace, each tensor put into our blobs. Raises EncodingInvalid, UsageError."""
        wanted = OpenRequest.decode(data)
        entry = await self._journal.entry(wanted.task)
        if entry is None or entry.trace_root is None or entry.spec is None or entry.secret is None:
            raise UsageError("this node committed no trace of that task")
        if entry.commit_sent_at is None:
            raise UsageError("the trace is not committed yet")
        trace = RecordedTrace.read(self._traces / wanted.task.hex(), entry.spec)
        binding = Binding(self._chain_id, self._board, wanted.task, self._node, entry.secret)
        leaves = trace.leaves(binding)
        openings = []
        for position in wanted.positions:
            if position >= len(leaves):
                raise EncodingInvalid(f"the trace has {len(leaves)} leaves")
            slot = trace.layout.slot_at(position)
            raw = trace.bytes_of(slot)
            openings.append(
                Opening(
                    position=position,
                    digest=trace.entries[slot].digest,
                    salt=binding.salt(slot).hex(),
                    proof=tuple(step.hex() for step in merkle.proof(leaves, position)),
                    blob=await self._blobs.put(raw) if raw else None,
                )
            )
        return OpenReply(
            task=wanted.task, phase=wanted.phase, trace_root=entry.trace_root, openings=tuple(openings)
        ).encode()
