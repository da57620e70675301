"""Handing a run on: the state that a node keeps in public while it trains, and the spec of the rest of its run.

A checkpoint decides everything that follows, so whoever has one can finish the run with the bytes that it would have
had. The node that trains signs where each is; when it is lost, the requester orders the rest from anybody.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from gesso_protocol.encoding import Document
from gesso_protocol.fields import MAX_TRAINING_STEPS
from gesso_protocol.handover import Signature
from gesso_protocol.hashing import word
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.signing import typed_digest, typed_document

MAX_STATE_BYTES = 8 * 1024**3
_SMALL_BASE_BYTES = 32 * 1024**2
HEADER_ROOM_BYTES = 64 * 1024
"""More than two honest headers of the same tensors can differ by."""
NOTES_ROOM_BYTES = 4 << 20
"""More than an adapter's file says beside its weights."""
_NAME = "Checkpoint"
_FIELDS = (
    ("task", "bytes32"), ("state", "bytes32"), ("step", "uint256"), ("size", "uint256"), ("seed", "bytes32"),
)  # fmt: skip

StateBytes = Annotated[int, Field(ge=1, le=MAX_STATE_BYTES)]
StateStep = Annotated[int, Field(ge=1, le=MAX_TRAINING_STEPS)]
RunSeed = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def most_state_bytes(base_bytes: int) -> int:
    """What a checkpoint of a LoRA for a base of this size may weigh: no more parameters than its base, three numbers of
    four bytes each, and a base has at least two bytes a parameter. Small bases may have larger LoRAs; a larger one of
    ranks above the width of its layers is of no use to anybody."""
    return min(MAX_STATE_BYTES, 6 * max(base_bytes, _SMALL_BASE_BYTES))


class Resume(Document):
    """Where a run goes on. It was begun by `task` and draws from `seed`; `state` is its checkpoint after `step`."""

    MAX_BYTES: ClassVar[int] = 1024

    task: TaskId
    seed: RunSeed
    step: StateStep
    state: BlobRef
    size: StateBytes


class KeptCheckpoint(Document):
    """A node's signed word that the state after update `step` of its task is the blob `state` of `size` bytes, and that
    the run draws from `seed`: after a reorganisation a run may begin again, from another seed."""

    MAX_BYTES: ClassVar[int] = 1024

    state: BlobRef
    step: StateStep
    size: StateBytes
    seed: RunSeed
    signature: Signature

    def digest(self, chain_id: int, board: Address, task: TaskId) -> bytes:
        """What `signature` must sign to be about this task."""
        seed = bytes.fromhex(self.seed)
        return checkpoint_digest(chain_id, board, task, self.state, self.step, self.size, seed)


def checkpoint_digest(
    chain_id: int, board: Address, task: TaskId, state: BlobRef, step: int, size: int, seed: bytes
) -> bytes:
    """The EIP-712 digest of type `Checkpoint` under the board's domain: 32 bytes to sign."""
    return typed_digest(chain_id, board, _NAME, _FIELDS, task.value + state.value + word(step) + word(size) + seed)


def typed_checkpoint(
    chain_id: int, board: Address, task: TaskId, state: BlobRef, step: int, size: int, seed: bytes
) -> dict[str, Any]:
    """The same as a full EIP-712 document, for wallets that show what they sign."""
    message = {"task": task.value, "state": state.value, "step": step, "size": size, "seed": seed}
    return typed_document(chain_id, board, _NAME, _FIELDS, message)
