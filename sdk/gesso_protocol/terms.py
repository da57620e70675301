"""The terms of a task: what the chain knows of it. Mirrors `struct Terms` of the task board, field by field."""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from gesso_protocol.encoding import MAX_SAFE_INT, Document
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256, word
from gesso_protocol.ids import NO_LISTING, Address, BlobRef, ListingId, TaskId
from gesso_protocol.money import MAX_FEE, Wei

U32 = Annotated[int, Field(ge=0, lt=2**32)]
Bps = Annotated[int, Field(ge=0, le=10_000)]


def _read_decimal(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    return value


# 64-bit integers exceed what every JSON reader keeps exactly, so documents hold them as decimal text.
U64 = Annotated[
    int,
    BeforeValidator(_read_decimal),
    Field(ge=0, lt=2**64),
    PlainSerializer(str, return_type=str, when_used="json"),
]
ChainId = Annotated[int, Field(ge=1, le=MAX_SAFE_INT)]


class AuditMode(enum.IntEnum):
    """How often a task is audited: at the node's rate, always (for the board's audit fee), or never by lot."""

    SAMPLED = 0
    ALWAYS = 1
    NONE = 2


_AUDIT_MODES = frozenset(AuditMode)


class Terms(Document):
    """Who pays how much for which spec, and how long each side may take. Windows are seconds."""

    MAX_BYTES: ClassVar[int] = 1024

    requester: Address
    fee: Annotated[Wei, Field(le=MAX_FEE)]
    spec: BlobRef
    model: ListingId = NO_LISTING
    kind: Annotated[int, Field(ge=0, le=255)] = 1
    claim_window_s: U32
    commit_window_s: U32
    nonce: U64
    audit: Annotated[AuditMode, Field(strict=False)] = AuditMode.SAMPLED

    def as_tuple(self) -> tuple[str, int, bytes, int, int, int, int, int, int]:
        """The values in the order of the Solidity struct, as an ABI encoder wants them."""
        return (
            str(self.requester),
            int(self.fee),
            self.spec.value,
            int(self.model),
            self.kind,
            self.claim_window_s,
            self.commit_window_s,
            self.nonce,
            int(self.audit),
        )

    @classmethod
    def from_tuple(cls, values: tuple[Any, ...] | list[Any]) -> Terms:
        """From the decoded struct. Raises `EncodingInvalid` for a tuple of another length or an unknown audit mode."""
        if len(values) != 9:
            raise EncodingInvalid("terms have nine fields")
        requester, fee, spec, model, kind, claim_window, commit_window, nonce, audit = values
        if audit not in _AUDIT_MODES:
            raise EncodingInvalid("terms ask for an unknown kind of audit")
        return cls(
            requester=Address(requester),
            fee=Wei(fee),
            spec=BlobRef(bytes(spec)),
            model=ListingId(model),
            kind=kind,
            claim_window_s=claim_window,
            commit_window_s=commit_window,
            nonce=nonce,
            audit=AuditMode(audit),
        )


@lru_cache(maxsize=4096)
def abi_terms(terms: Terms) -> bytes:
    """`abi.encode(terms)`: nine 32-byte words. Remembered, for every step of a task begins with them."""
    requester, fee, spec, *numbers = terms.as_tuple()
    return b"".join([word(int(requester, 16)), word(fee), spec, *map(word, numbers)])


def task_id(chain_id: int, board: Address, terms: Terms) -> TaskId:
    """keccak256(abi.encode(chainId, board, terms)): the same terms never make two tasks on one board."""
    return task_id_of(chain_id, board, abi_terms(terms))


def task_id_of(chain_id: int, board: Address, words: bytes) -> TaskId:
    """The same from `abi_terms(terms)`, for whoever has that already."""
    return TaskId(keccak256(word(chain_id) + word(int(board, 16)) + words))


class BoardParams(Document):
    """The rules of a task board, fixed for its life: what its `params()` answers. Times are seconds."""

    format: Literal["gesso/board-params/1"] = "gesso/board-params/1"
    challenge_window_s: U32
    sortition_step_s: Annotated[int, Field(ge=1, lt=2**32)]
    hold_window_s: U32 = 0
    claims_per_weight: U32 = 1
    min_claim_window_s: U32 = 0
    max_claim_window_s: U32 = 2**32 - 1
    min_commit_window_s: U32 = 0
    max_commit_window_s: U32 = 2**32 - 1
    cancel_delay_s: U32 = 0
    """How long after its submit a task cannot be cancelled yet."""
    protocol_fee_bps: Bps = 0
    max_royalty_bps: Bps = 0
    min_fee: Annotated[Wei, Field(le=MAX_FEE)] = Wei(0)
    audit_fee: Annotated[Wei, Field(le=MAX_FEE)] = Wei(0)
    """What a task with `AuditMode.ALWAYS` costs beside its fee."""
