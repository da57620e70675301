"""What an auditor publishes of a training: its openings, and beside them where the result is.

    "gesso/training-evidence/1" ++ blob of the result's manifest (32) ++ openings, to the end

Openings prove themselves. Where the result is, nothing proves, and nothing has to: what lies there counts only if it is
the result that the chain binds. Bare openings are evidence too, of an auditor to whom nobody showed the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.openings import MAX_OPENINGS_BYTES

MAGIC = b"gesso/training-evidence/1"
_START = len(MAGIC) + 32
MAX_EVIDENCE_BYTES = _START + MAX_OPENINGS_BYTES


@dataclass(frozen=True)
class RunEvidence:
    """Openings that nobody has read yet, and where the result is said to be."""

    openings: bytes
    result: BlobRef | None = None

    def encode(self) -> bytes:
        """Bare openings where nothing is said of the result."""
        return self.openings if self.result is None else MAGIC + self.result.value + self.openings

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Take it apart; what has another beginning is taken for openings. Raises EncodingInvalid."""
        if len(data) > MAX_EVIDENCE_BYTES:
            raise EncodingInvalid("the evidence is larger than openings can be")
        if not data.startswith(MAGIC):
            return cls(data)
        if len(data) <= _START:
            raise EncodingInvalid("the evidence is cut off")
        named = data[len(MAGIC) : _START]
        if named == bytes(32):
            raise EncodingInvalid("the evidence names no result; bare openings would")
        return cls(data[_START:], BlobRef(named))
