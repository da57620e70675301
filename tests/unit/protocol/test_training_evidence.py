"""Evidence of a training: openings with the place of the result beside them, or bare ones as before."""

from __future__ import annotations

import pytest

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.evidence import MAGIC, MAX_EVIDENCE_BYTES, RunEvidence
from gesso_protocol.training.openings import MAX_OPENINGS_BYTES

OPENINGS = b"gesso/training-openings/1 and so on"
PLACE = BlobRef.of(b"a result")


def test_it_comes_back_as_it_was_and_bare_openings_are_evidence_too() -> None:
    for told in (RunEvidence(OPENINGS, PLACE), RunEvidence(OPENINGS), RunEvidence(bytes(MAX_OPENINGS_BYTES), PLACE)):
        assert RunEvidence.decode(told.encode()) == told
    assert RunEvidence(OPENINGS).encode() == OPENINGS
    assert RunEvidence(OPENINGS, PLACE).encode() == b"gesso/training-evidence/1" + PLACE.value + OPENINGS
    assert len(RunEvidence(bytes(MAX_OPENINGS_BYTES), PLACE).encode()) == MAX_EVIDENCE_BYTES


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(MAX_EVIDENCE_BYTES + 1), "larger"),
        (MAGIC, "cut off"),
        (MAGIC + PLACE.value[:-1], "cut off"),
        (MAGIC + PLACE.value, "cut off"),
        (MAGIC + bytes(32) + OPENINGS, "names no result"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(EncodingInvalid, match=words):
        RunEvidence.decode(data)
