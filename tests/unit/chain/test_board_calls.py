"""The short way to write a call about a task is the encoder's, for every value of the terms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gesso.chain.abi import function
from gesso.chain.board import SELECTOR_BYTES, TERMS_BYTES, _call, _call_all
from gesso_contracts import TASK_BOARD
from gesso_protocol.ids import Address, BlobRef, ListingId
from gesso_protocol.money import MAX_FEE, Wei
from gesso_protocol.terms import Terms, task_id, task_id_of

WORD = st.binary(min_size=32, max_size=32)


@given(
    who=st.binary(min_size=20, max_size=20), fee=st.integers(0, MAX_FEE), spec=WORD, model=st.integers(0, 2**64 - 1),
    kind=st.integers(0, 255), window=st.integers(0, 2**32 - 1), nonce=st.integers(0, 2**64 - 1),
    roots=st.tuples(WORD, WORD),
)  # fmt: skip
def test_the_same_bytes_as_the_encoder(
    who: bytes, fee: int, spec: bytes, model: int, kind: int, window: int, nonce: int, roots: tuple[bytes, bytes]
) -> None:
    terms = Terms(
        requester=Address.from_bytes(who), fee=Wei(fee), spec=BlobRef(spec), model=ListingId(model), kind=kind,
        claim_window_s=window, commit_window_s=window, nonce=nonce,
    )  # fmt: skip
    for name in ("submit", "claim"):
        assert _call(name, terms) == function(TASK_BOARD, name).encode(terms.as_tuple())
    assert _call("commit", terms, *roots) == function(TASK_BOARD, "commit").encode(terms.as_tuple(), *roots)
    for count in (1, 3):
        assert _call_all("settle", [terms] * count) == function(TASK_BOARD, "settle").encode([terms.as_tuple()] * count)
    words = _call("commit", terms, *roots)[SELECTOR_BYTES : SELECTOR_BYTES + TERMS_BYTES]
    assert task_id_of(kind, terms.requester, words) == task_id(kind, terms.requester, terms)
