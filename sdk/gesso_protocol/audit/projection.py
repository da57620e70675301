"""The fingerprint of what an auditor computed: 16 signed sums that can be compared on chain.

All outputs of the checked steps are brought to one length, joined and divided by the root of their number, so the
joined vector has length 1. Row r of a sign matrix drawn by the challenge sums it with random signs; a row's sum has
mean 0 and deviation 1 for any vector, and is rounded to 1/4096. Two auditors that ran the step agree to a few units,
whether or not the node cheated; one that did not cannot guess even one row to within the tolerance by much more than
chance.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np

from gesso_protocol.audit.compare import Branches, Tensor
from gesso_protocol.errors import EncodingInvalid

ROWS = 16
SCALE = 4096
PACKED_BYTES = 2 * ROWS
MAX_VALUES = 1 << 24
NOTHING = (0,) * ROWS
"""What an auditor commits to when the node withheld the inputs."""


def project(challenge: bytes, outputs: Sequence[Tensor]) -> tuple[int, ...]:
    """16 int16 of the outputs in order (cond, uncond of each checked step). Raises `EncodingInvalid` for none at all.

    Signs: SHAKE-256 of "gesso/audit/1/projection" and the challenge; row r is bytes r*n to (r+1)*n, n = ceil(values/8),
    lowest bit first, 1 is minus. An output that is zero or not finite counts as zeros.
    """
    count = sum(int(output.size) for output in outputs)
    if not 0 < count <= MAX_VALUES:
        raise EncodingInvalid("a projection is of 1 to 2^24 values")
    joined = np.concatenate([_to_unit(output) for output in outputs]) / np.sqrt(len(outputs))
    width = -(-count // 8)
    signs = hashlib.shake_256(b"gesso/audit/1/projection" + challenge).digest(ROWS * width)
    return tuple(_row_sum(joined, signs[row * width : (row + 1) * width]) for row in range(ROWS))


def outputs_of(steps: Sequence[Branches]) -> tuple[Tensor, ...]:
    """The outputs of the checked steps in the order that is projected."""
    pairs = ((step.cond, step.uncond) for step in steps)
    return tuple(output for pair in pairs for output in pair if output is not None)


def differ(one: Sequence[int], other: Sequence[int]) -> int:
    """The largest difference of two projections, row by row, in units of 1/4096."""
    if len(one) != ROWS or len(other) != ROWS:
        raise EncodingInvalid(f"a projection has {ROWS} rows")
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def pack(projection: Sequence[int]) -> bytes:
    """A word of 32 bytes: sixteen int16, big-endian, row 0 in the highest bits."""
    if len(projection) != ROWS or not all(-(2**15) <= value < 2**15 for value in projection):
        raise EncodingInvalid(f"a projection has {ROWS} rows of 16 bits")
    return struct.pack(f">{ROWS}h", *projection)


def unpack(packed: bytes) -> tuple[int, ...]:
    """What `pack` packed; raises `EncodingInvalid`."""
    if len(packed) != PACKED_BYTES:
        raise EncodingInvalid(f"a packed projection has {PACKED_BYTES} bytes")
    return struct.unpack(f">{ROWS}h", packed)


def _to_unit(output: Tensor) -> Tensor:
    flat = np.asarray(output, np.float64).ravel()
    size = float(np.linalg.norm(flat)) if flat.size else 0.0
    return flat / size if np.isfinite(size) and size > 0 else np.zeros_like(flat)


def _row_sum(joined: Tensor, signs: bytes) -> int:
    minus = np.unpackbits(np.frombuffer(signs, np.uint8), count=joined.size, bitorder="little").astype(bool)
    value = round(SCALE * float(joined.sum() - 2 * joined[minus].sum()))
    return max(-(2**15), min(2**15 - 1, value))
