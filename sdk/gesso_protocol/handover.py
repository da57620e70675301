"""A node's signed word for a result that is not on chain yet: whoever holds it can prove what the node promised.

The requester gets its pictures a block or more before the commit is mined. Until then this is what binds the node: an
EIP-712 signature of its wallet over the task, the manifest's blob and both roots that it is about to commit.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from gesso_protocol.encoding import Document
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.signing import typed_digest, typed_document

_NAME = "Handover"
_FIELDS = (("task", "bytes32"), ("manifest", "bytes32"), ("resultRoot", "bytes32"), ("traceRoot", "bytes32"))

TransactionHash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]


class Handover(Document):
    """What a node delivers ahead of its commit. `signature`: r, s, v of its wallet over `handover_digest`, hex.
    `claim`: the transaction of its claim, where that is not mined yet; a hint, as the chain's pool shows what it is."""

    MAX_BYTES: ClassVar[int] = 1024

    manifest: BlobRef
    result_root: Root
    trace_root: Root
    signature: Signature
    claim: TransactionHash | None = None

    def digest(self, chain_id: int, board: Address, task: TaskId) -> bytes:
        """What `signature` must sign to be about this task."""
        return handover_digest(chain_id, board, task, self.manifest, self.result_root, self.trace_root)


def handover_digest(
    chain_id: int, board: Address, task: TaskId, manifest: BlobRef, result_root: Root, trace_root: Root
) -> bytes:
    """The EIP-712 digest of type `Handover` under the board's domain: 32 bytes to sign."""
    words = task.value + manifest.value + result_root.value + trace_root.value
    return typed_digest(chain_id, board, _NAME, _FIELDS, words)


def typed_handover(
    chain_id: int, board: Address, task: TaskId, manifest: BlobRef, result_root: Root, trace_root: Root
) -> dict[str, Any]:
    """The same as a full EIP-712 document, for wallets that show what they sign."""
    message = {
        "task": task.value,
        "manifest": manifest.value,
        "resultRoot": result_root.value,
        "traceRoot": trace_root.value,
    }
    return typed_document(chain_id, board, _NAME, _FIELDS, message)
