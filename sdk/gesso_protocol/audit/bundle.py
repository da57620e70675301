"""An openings bundle: some or all leaves of a trace with their bytes and proofs, as one bounded blob.

    "gesso/bundle/1\\n" ++ index length (4, big-endian) ++ index (canonical JSON) ++ tensors in that order

Evidence in a dispute is such a blob; whoever has it and the trace root can check every byte without asking anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gesso_protocol.ids import Root
from gesso_protocol.trace import Binding, Layout, Run, Slot, TensorType

MAX_BUNDLE_BYTES = 1 << 31


@dataclass(frozen=True)
class Leaf:
    """One opened leaf: its bytes (empty where only the digest is known, as for files), shape, type."""

    slot: Slot
    digest: bytes
    salt: bytes
    data: bytes
    shape: tuple[int, ...] = ()
    kind: TensorType | None = TensorType.FP32
    """None: plain bytes, digested by SHA-256 (manifest, file)."""


@dataclass(frozen=True)
class Bundle:
    """Opened leaves of one trace, each verified against its root."""

    leaves: Mapping[Slot, Leaf]

    @classmethod
    def encode(cls, leaves: Sequence[Leaf], tree: Sequence[bytes], layout: Layout) -> bytes:
        """A bundle of `leaves`; `tree` are all leaves of the trace (`trace_leaves`). Raises `EncodingInvalid`."""
        raise NotImplementedError

    @classmethod
    def decode(cls, data: bytes, run: Run, layout: Layout, trace_root: Root) -> Bundle:
        """Read and verify everything. Raises `EncodingInvalid` for the first byte that is not what was committed."""
        raise NotImplementedError

    def tensor(self, slot: Slot) -> bytes:
        """Raw bytes of one opened leaf; raises `EncodingInvalid` when the bundle lacks it."""
        raise NotImplementedError


def leaf_of(binding: Binding, slot: Slot, data: bytes, shape: tuple[int, ...], kind: TensorType | None) -> Leaf:
    """Open one recorded leaf."""
    raise NotImplementedError
