"""One event of the chain as the index keeps it: where it happened, whom it is about, and what was said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Subject: TypeAlias = Literal["task", "node", "model", "bundle", "audit"]
Json: TypeAlias = bool | int | str | list["Json"] | dict[str, "Json"] | None
Document: TypeAlias = dict[str, Json]

Fact: TypeAlias = tuple[Subject, str, str, Document]
"""What an event says, without where it stands: whom it is about, that one's key, the event's name, its data."""

_LOGS_A_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """`at` is the chain's time in unix seconds; `data` holds money as decimal text."""

    block: int
    block_hash: str
    log_index: int
    tx: str
    at: int
    subject: Subject
    key: str
    name: str
    data: Document = field(default_factory=dict)

    @property
    def position(self) -> int:
        """The order of events on the chain as one number that fits 63 bits."""
        return self.block * _LOGS_A_BLOCK + self.log_index
