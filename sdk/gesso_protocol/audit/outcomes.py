"""The numbers that the arbiter and everybody who talks to it use for verdicts, votes and endings."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gesso_protocol.errors import EncodingInvalid


class AuditVerdict(enum.IntEnum):
    """What an auditor reveals. Withheld counts as a flag, and takes no work to say."""

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
    """How a committee decided. The last three have no quorum for either side, and nobody is slashed for the work.

    Undecided: in doubt, the fee is burned, so that neither side gains by it. Upheld: not in doubt, the node is paid,
    and the challenge that a quorum heard is lost. Unheard: the same, but too few revealed a vote, so the bond of a
    challenge comes back, and nobody may appeal. Without a quorum no vote is paid. An appeal without one leaves the
    first outcome as it is, unless that is a conviction (`second_outcome`)."""

    NONE = 0
    GUILTY = 1
    INNOCENT = 2
    UNDECIDED = 3
    UPHELD = 4
    UNHEARD = 5

    @property
    def pays_node(self) -> bool:
        """Whether the task may be settled."""
        return self in (DisputeOutcome.INNOCENT, DisputeOutcome.UPHELD, DisputeOutcome.UNHEARD)

    @property
    def by_quorum(self) -> bool:
        """Whether jurors found the work good or bad."""
        return self in (DisputeOutcome.GUILTY, DisputeOutcome.INNOCENT)


class Ballot(enum.IntEnum):
    """A juror's opinion of the node's work: the two low bits of a vote."""

    GOOD = 1
    BAD = 2
    CANNOT_TELL = 3


def first_outcome(*, good: int, bad: int, revealed: int, quorum: int, accusers: int) -> DisputeOutcome:
    """What the first jury's votes come to. `accusers`: auditors that flagged or said withheld, and sit by lot.

    One voice puts nothing in doubt, an auditor's as little as a juror's: whoever has it would cost a node every fee
    where jurors cannot tell. So would two wallets of one owner that wait for the seats of work that only they can run.
    """
    if bad >= quorum:
        return DisputeOutcome.GUILTY
    if good >= quorum:
        return DisputeOutcome.INNOCENT
    if accusers > 1 or (bad > 1 and 2 * bad >= quorum):
        return DisputeOutcome.UNDECIDED
    return DisputeOutcome.UPHELD if revealed >= quorum else DisputeOutcome.UNHEARD


def second_outcome(first: DisputeOutcome, *, good: int, bad: int, quorum: int) -> DisputeOutcome:
    """What an appeal comes to, against what the first jury said.

    A conviction takes both juries' quorums and is doubt without: of one that nobody else can join the lot gives now and
    then all to whoever hides a model. An acquittal and doubt stand, or accusers could wish them away.
    """
    if bad >= quorum:
        return DisputeOutcome.GUILTY
    if good >= quorum:
        return DisputeOutcome.INNOCENT
    return DisputeOutcome.UNDECIDED if first is DisputeOutcome.GUILTY else first


def appeal_won(outcome: DisputeOutcome, *, accused: bool) -> bool:
    """Whether an appeal's bond comes back. `accused`: it was the node's, or an auditor's that passed the work."""
    return outcome is (DisputeOutcome.INNOCENT if accused else DisputeOutcome.GUILTY)


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
