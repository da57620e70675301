"""The arbiter and its beacon as gesso speaks of them: audit, reveal, challenge, vote, tally, appeal, execute.

Got from a `Chain` as `chain.arbiter`. Errors are those of `Chain`: ChainReverted with the contract's own name and
values, InsufficientFunds for a bond that the wallet cannot pay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gesso.chain.beacon import NOTHING, Beacon, Read, Send
from gesso.chain.drand import DrandServers
from gesso.chain.mined import Mined
from gesso.chain.records import TxReceipt
from gesso_contracts import ARBITER
from gesso_protocol.audit.challenge import commitment_of
from gesso_protocol.audit.disputes import DisputePhase
from gesso_protocol.audit.lifecycle import AuditPhase
from gesso_protocol.audit.outcomes import AuditVerdict, DisputeOutcome
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

NOBODY = "0x" + "00" * 20
APPEAL_BONDS = 3
"""An appeal's bond, in challenge bonds."""
BURN_ADDRESS = Address("0x000000000000000000000000000000000000dEaD")
VERDICT_LEAST_GAS = 900_000
"""The last reveal closes the audit and pays in the same call: more than what an earlier estimate saw."""
VERDICT_MORE_GAS = 150_000
"""The same of each further reveal in one call."""


@dataclass(frozen=True, slots=True)
class Filing:
    """A committed task as its log published it; the contract is told what the board keeps of its roots."""

    terms: Terms
    node: Address
    result_root: Root
    trace_root: Root

    def as_tuple(self) -> tuple[object, ...]:
        """In the order of the Solidity struct."""
        return (self.terms.as_tuple(), commitment_of(self.result_root, self.trace_root))

    def terms_only(self) -> tuple[object, ...]:
        """The same for calls that read nothing but the terms: zeros cost less."""
        return (self.terms.as_tuple(), 0)


@dataclass(frozen=True, slots=True)
class Reveal:
    """What an auditor says of one task; `evidence` is None when the openings were withheld."""

    task: TaskId
    verdict: AuditVerdict
    projection: bytes
    salt: bytes
    evidence: BlobRef | None
    profile: bytes

    def as_tuple(self) -> tuple[object, ...]:
        """In the order of the Solidity struct."""
        proof = NOTHING if self.evidence is None else self.evidence.value
        return (self.task.value, int(self.verdict), self.projection, self.salt, proof, self.profile)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What `auditOf` answers; auditors in the order of their commitments, each with its verdict or None."""

    phase: AuditPhase
    round: int
    auditors: tuple[Address, ...]
    verdicts: tuple[AuditVerdict | None, ...]
    challenged: bool


@dataclass(frozen=True, slots=True)
class DisputeRecord:
    """What `disputeOf` answers; counts are of the present level, times are chain seconds."""

    phase: DisputePhase
    outcome: DisputeOutcome
    level: int
    round: int
    commit_by: int
    reveal_by: int
    appeal_by: int
    seats: int
    revealed: int
    good: int
    bad: int
    wrong: tuple[int, int]
    appellant: Address | None
    profile: bytes


class Arbiter(Beacon):
    """Calls to one network's arbiter and its beacon. `bond` raises the contract's allowance before it pulls a bond."""

    def __init__(self, read: Read, send: Send, bond: Callable[[Wei], Awaitable[None]], servers: DrandServers) -> None:
        super().__init__(read, send, servers)
        self._bond = bond
        self._rules: AuditRules | None = None

    # Audits

    async def commit_audit(self, filing: Filing, commitment: bytes, *, joining: bool = False) -> TxReceipt:
        """Take a seat; the first one holds the task. `joining`: somebody has, so the terms will do."""
        told = filing.terms_only() if joining else filing.as_tuple()
        return _receipt(await self._send(ARBITER, "commitAudit", told, commitment))

    async def reveal_audits(self, reveals: Sequence[Reveal]) -> TxReceipt:
        """Say verdicts; the last one of an audit closes it, unless it is contested. One that is refused refuses all."""
        least_gas = VERDICT_LEAST_GAS + (len(reveals) - 1) * VERDICT_MORE_GAS
        told = [reveal.as_tuple() for reveal in reveals]
        return _receipt(await self._send(ARBITER, "revealAudits", told, least_gas=least_gas))

    async def close_audit(self, filing: Filing) -> TxReceipt:
        """End an audit that is contested, or whose reveal window is over. Raises ChainReverted TooEarly before that."""
        return _receipt(await self._send(ARBITER, "closeAudit", filing.terms_only()))

    async def challenge(self, filing: Filing) -> TxReceipt:
        """Bring the own task before jurors; pulls the challenge bond from the wallet."""
        await self._bond((await self.rules()).challenge_bond)
        return _receipt(await self._send(ARBITER, "challenge", filing.as_tuple()))

    # Disputes

    async def commit_vote(self, task: TaskId, commitment: bytes) -> TxReceipt:
        return _receipt(await self._send(ARBITER, "commitVote", task.value, commitment))

    async def reveal_vote(self, task: TaskId, vote: int, salt: bytes) -> TxReceipt:
        return _receipt(await self._send(ARBITER, "revealVote", task.value, vote, salt))

    async def tally(self, task: TaskId) -> TxReceipt:
        return _receipt(await self._send(ARBITER, "tally", task.value))

    async def appeal(self, task: TaskId) -> TxReceipt:
        """Ask for a second, larger jury; pulls the appeal bond from the wallet."""
        await self._bond(Wei(APPEAL_BONDS * (await self.rules()).challenge_bond))
        return _receipt(await self._send(ARBITER, "appeal", task.value))

    async def execute(self, filing: Filing) -> TxReceipt:
        """Carry out the final outcome."""
        return _receipt(await self._send(ARBITER, "execute", filing.terms_only()))

    # Money

    async def collect(self) -> TxReceipt:
        """Move protocol and audit fees from the board into the pool."""
        return _receipt(await self._send(ARBITER, "collect"))

    async def withdraw(self) -> TxReceipt:
        """Push the wallet's credit to the wallet."""
        return _receipt(await self._send(ARBITER, "withdraw"))

    async def credit_of(self, account: Address) -> Wei:
        """What `account` may withdraw."""
        return Wei((await self._read(ARBITER, "creditOf", str(account)))[0])

    async def pool(self) -> Wei:
        """What pays auditors and jurors, without what still lies on the board."""
        return Wei((await self._read(ARBITER, "pool"))[0])

    async def bonds(self) -> Wei:
        """Bonds of unfinished disputes."""
        return Wei((await self._read(ARBITER, "bonds"))[0])

    # What stands

    async def rules(self) -> AuditRules:
        """The arbiter's rules; they never change, so they are asked once."""
        if self._rules is None:
            (values,) = await self._read(ARBITER, "params")
            self._rules = AuditRules.from_tuple(values)
        return self._rules

    async def audit(self, task: TaskId) -> AuditRecord:
        (values,) = await self._read(ARBITER, "auditOf", task.value)
        phase, round_, auditors, verdicts, challenged = values
        seats = [number for number, auditor in enumerate(auditors) if auditor != NOBODY]
        return AuditRecord(
            phase=AuditPhase(phase),
            round=round_,
            auditors=tuple(Address(auditors[seat]) for seat in seats),
            verdicts=tuple(AuditVerdict(verdicts[seat]) if verdicts[seat] else None for seat in seats),
            challenged=challenged,
        )

    async def dispute(self, task: TaskId) -> DisputeRecord:
        (values,) = await self._read(ARBITER, "disputeOf", task.value)
        phase, outcome, level, round_, commit_by, reveal_by, appeal_by, *counts, wrong, appellant, profile = values
        seats, revealed, good, bad = counts
        return DisputeRecord(
            phase=DisputePhase(phase),
            outcome=DisputeOutcome(outcome),
            level=level,
            round=round_,
            commit_by=commit_by,
            reveal_by=reveal_by,
            appeal_by=appeal_by,
            seats=seats,
            revealed=revealed,
            good=good,
            bad=bad,
            wrong=(wrong[0], wrong[1]),
            appellant=None if appellant == NOBODY else Address(appellant),
            profile=profile,
        )

    async def jurors(self, task: TaskId, level: int) -> tuple[Address, ...]:
        """Who holds the seats of a level, in the order of commitment."""
        (found,) = await self._read(ARBITER, "jurorsOf", task.value, level)
        return tuple(Address(juror) for juror in found)

    async def ballot(self, task: TaskId, level: int, juror: Address) -> tuple[bool, int]:
        """Whether it holds a seat, and its vote: 0 before it is revealed."""
        committed, vote = await self._read(ARBITER, "ballotOf", task.value, level, str(juror))
        return bool(committed), int(vote)

    async def passed_of(self, node: Address) -> int:
        """Audits that a node passed since its last setback."""
        return int((await self._read(ARBITER, "passedOf", str(node)))[0])

    async def rate_bps_of(self, node: Address) -> int:
        """Chance of an audit of this node's sampled tasks, in basis points."""
        return int((await self._read(ARBITER, "rateBpsOf", str(node)))[0])


def _receipt(mined: Mined) -> TxReceipt:
    return TxReceipt(tx_hash=mined.tx_hash, gas_used=mined.gas_used, gas_price=mined.gas_price, block=mined.block)
