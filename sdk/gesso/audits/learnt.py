"""What a node learnt in the checked segments of a training, as the fingerprint that auditors seal of their own."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import anyio.to_thread

from gesso.blobs.port import BlobStore
from gesso.checkpointfile import State, read_state
from gesso_protocol.errors import BlobCorrupt
from gesso_protocol.ids import BlobRef, Root
from gesso_protocol.spec import TrainLora
from gesso_protocol.trace import LeafKind, Run, Slot
from gesso_protocol.training.audit import fingerprint, segments_to_check
from gesso_protocol.training.evidence import MAX_EVIDENCE_BYTES, RunEvidence
from gesso_protocol.training.openings import RunOpenings

MAX_BYTES = 32 << 20
"""Larger checkpoints are not fetched for one number on a receipt."""


async def learnt(
    evidence: BlobRef, drawn: bytes, spec: TrainLora, run: Run, trace_root: Root, blobs: BlobStore
) -> tuple[int, ...] | None:
    """The node's own 16 numbers, from public openings; None where they would cost too much. Raises what stores raise,
    EncodingInvalid, ModelInvalid."""
    told = RunEvidence.decode(await blobs.get(evidence, max_bytes=MAX_EVIDENCE_BYTES))
    opened = RunOpenings.decode(told.openings, run, spec, trace_root)
    checks = segments_to_check(drawn, spec, min(opened.facts().steps_done, spec.steps))
    places = [(Slot(LeafKind.CHECKPOINT, step=one.number), Slot(LeafKind.CHECKPOINT, step=one.number + 1))
              for one in checks]  # fmt: skip
    if not places or sum(opened.file(slot)[1] for pair in places for slot in pair) > MAX_BYTES:
        return None
    with tempfile.TemporaryDirectory(prefix="gesso-learnt-") as folder:
        updates = [[await _state(opened, slot, blobs, Path(folder)) for slot in pair] for pair in places]
    return fingerprint(drawn, spec, [(start.weights, end.weights) for start, end in updates])


async def _state(opened: RunOpenings, slot: Slot, blobs: BlobStore, folder: Path) -> State:
    blob, size, digest = opened.file(slot)
    data = await blobs.get(blob, max_bytes=size)
    if hashlib.sha256(data).digest() != digest:
        raise BlobCorrupt(f"checkpoint {slot.step} is not what was committed")

    def read() -> State:
        path = folder / f"{slot.step}.safetensors"
        path.write_bytes(data)
        return read_state(path)

    return await anyio.to_thread.run_sync(read)
