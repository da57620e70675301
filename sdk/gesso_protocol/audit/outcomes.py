"""The numbers that the arbiter and everybody who talks to it use for verdicts, votes and endings."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gesso_protocol.errors import EncodingInvalid


class AuditVerdict(enum.IntEnum):
    """What an auditor reveals. Withheld counts as a flag."""

    PASS = 1
    FLAG = 2
    WITHHELD = 3


class AuditOutcome(enum.IntEnum):
    """How an audit ended."""

    NONE = 0
    PASSED = 1
    VOID = 2
    DISPUTED = 3


class DisputeOutcome(enum.IntEnum):
    """How a committee decided. Undecided: nobody is slashed, the requester is refunded, the node is not paid.

    An appeal that is undecided leaves the first outcome as it is."""

    NONE = 0
    GUILTY = 1
    INNOCENT = 2
    UNDECIDED = 3


class Ballot(enum.IntEnum):
    """A juror's opinion of the node's work: the two low bits of a vote."""

    GOOD = 1
    BAD = 2
    CANNOT_TELL = 3


@dataclass(frozen=True)
class Vote:
    """What a juror seals: its opinion of the work, and which auditors' projections are wrong (by seat, 0 and 1)."""

    ballot: Ballot
    wrong: tuple[bool, bool] = (False, False)

    @property
    def code(self) -> int:
        """The number on chain: ballot | wrong[0] << 2 | wrong[1] << 3."""
        return int(self.ballot) | self.wrong[0] << 2 | self.wrong[1] << 3

    @classmethod
    def of(cls, code: int) -> Vote:
        """Read the number; raises `EncodingInvalid` for one that is no vote."""
        if not 1 <= code <= 15 or code & 3 == 0:
            raise EncodingInvalid("a vote has a ballot of 1 to 3 and two bits")
        return cls(Ballot(code & 3), (bool(code & 4), bool(code & 8)))
