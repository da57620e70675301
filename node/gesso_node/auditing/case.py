"""One committed task as an auditor or juror sees it: the chain's word, and the journal's word on our part in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from gesso.chain.arbiter import AuditRecord, DisputeRecord, Filing
from gesso_node.auditing.record import AuditEntry, VoteEntry
from gesso_protocol.audit.disputes import DisputePhase, DisputeView, JurorMemory
from gesso_protocol.audit.lifecycle import AuditMemory, AuditPhase, AuditView
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.lifecycle import Patience, TaskRecord

LOOKING = frozenset({"inspect", "judge", "review"})
"""What is done about a case that needs the executor."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """What an auditor revealed: its word, where its evidence is, and its projection (32 bytes)."""

    verdict: AuditVerdict
    evidence: BlobRef | None
    projection: bytes


@dataclass(slots=True)
class Case:
    """A task from its commit to its end. Times are chain seconds."""

    task: TaskId
    filing: Filing
    committed_at: int
    block: int
    heard_at: int
    round: int
    round_starts: int
    record: TaskRecord
    claimed_at: int | None = None
    """When the node claimed, if that was seen: a training draws its seed from it."""
    audit: AuditRecord | None = None
    dispute: DisputeRecord | None = None
    jurors: tuple[Address, ...] = ()
    before: tuple[Address, ...] = ()
    ballots: tuple[Address, ...] = ()
    """Jurors of this level whose votes are known to be revealed."""
    seed: bytes | None = None
    jury_starts: int = 0
    jury_seed: bytes | None = None
    revealed: dict[Address, Revealed] = field(default_factory=dict)
    closed: bool = False
    """The audit ended without a dispute; the arbiter keeps nothing of it."""
    stale: bool = True
    """An event or our own transaction touched it: the chain is asked before anything is decided."""
    asked_at: int = 0
    not_before: int = 0
    judge_by: int = 0
    """From when on there is no time left to judge what we have sealed; 0 before the case was looked at."""
    left: str = ""
    """Why we have nothing to do here; it is looked at again when something happens."""
    busy: set[str] = field(default_factory=set)
    poked_at: int | None = None
    jury_poked_at: int | None = None
    drawn: bytes | None = None
    """The challenge whose entries these are. It stays when the beacon's word is taken back, until there is another."""
    entry: AuditEntry | None = None
    about: bytes | None = None
    """What these votes are about."""
    votes: dict[int, VoteEntry] = field(default_factory=dict)
    unopened: Counter[bytes] = field(default_factory=Counter)
    """How often the arbiter said that our seat holds another seal than that with this salt."""

    @property
    def level(self) -> int:
        """Of the dispute; 0 without one."""
        return 0 if self.dispute is None else self.dispute.level

    @property
    def disputed(self) -> bool:
        """Whether jurors are or were asked."""
        return self.dispute is not None and self.dispute.phase is not DisputePhase.NONE

    def engages(self, me: Address) -> bool:
        """Whether our executor may still be needed: we look at the case, or have sealed and are to reveal."""
        if self.busy & LOOKING:
            return True
        entry = self.entry
        sealed = entry is not None and entry.sealed and entry.closed is None
        return sealed and not self.left and not self.closed and me not in self.revealed

    def touch(self) -> None:
        """Something happened: ask the chain again, at once."""
        self.stale, self.not_before, self.left = True, 0, ""

    def undo(self) -> None:
        """Blocks were taken back: seeds, seats and verdicts from them did not happen. What we sealed did."""
        self.seed = self.jury_seed = self.audit = self.dispute = None
        self.jurors = self.before = self.ballots = ()
        self.revealed.clear()
        self.unopened.clear()
        self.poked_at = self.jury_poked_at = None
        self.closed = False
        self.touch()

    def committed_again(self, anew: Case) -> None:
        """The commit came back, perhaps another: what is under way in the case goes on, and is about its draw."""
        for name in _OF_COMMIT:
            setattr(self, name, getattr(anew, name))
        self.touch()

    def keep(self, entry: AuditEntry) -> None:
        """What a step wrote down, unless other parts are drawn by now: then the journal has it."""
        if self.entry is not None and self.entry.challenge == entry.challenge:
            self.entry = entry

    def keep_vote(self, entry: VoteEntry) -> None:
        """The same of a vote."""
        known = self.votes.get(entry.level)
        if known is not None and known.about == entry.about:
            self.votes[entry.level] = entry

    def opens(self, salt: bytes | None, patience: Patience) -> bool:
        """Whether our seat may hold the seal with this salt, for all that the arbiter said."""
        return salt is not None and self.unopened[salt] < patience.attempts

    def audit_view(self, rules: AuditRules, challenge_window_s: int, passed: int) -> AuditView:
        """As the rules of audits want it."""
        record = self.audit
        commit_by = self.round_starts + rules.audit_commit_window_s
        phase = AuditPhase.CLOSED if self.closed else AuditPhase.NONE
        return AuditView(
            task_id=self.task,
            terms=self.filing.terms,
            node=self.filing.node,
            result_root=self.filing.result_root,
            trace_root=self.filing.trace_root,
            state=self.record.state,
            committed_at=self.committed_at,
            challenge_window_s=challenge_window_s,
            rules=rules,
            round=self.round,
            round_starts=self.round_starts,
            seed=self.seed,
            passed=passed,
            phase=phase if record is None else record.phase,
            auditors=() if record is None else record.auditors,
            verdicts=() if record is None else tuple(int(verdict or 0) for verdict in record.verdicts),
            commit_by=commit_by,
            reveal_by=commit_by + rules.audit_reveal_window_s,
        )

    def audit_memory(self, me: Address, weights: tuple[int, int], patience: Patience, *, keeper: bool) -> AuditMemory:
        """Our side, as the rules of audits want it. `weights`: ours and all nodes' together."""
        entry = self.entry
        memory = AuditMemory(
            me=me,
            heard_at=self.heard_at,
            weight=weights[0],
            total_weight=weights[1],
            keeper=keeper,
            working=bool(self.busy & {"inspect", "judge"}),
            poke_sent_at=self.poked_at,
            patience=patience,
        )
        if entry is None:
            return memory
        return replace(
            memory,
            unable=entry.closed == UNABLE,
            failures=entry.failures,
            sealed=entry.sealed and self.opens(entry.salt, patience),
            verdict=entry.verdict,
            commit_sent_at=entry.commit_sent_at,
            reveal_sent_at=entry.reveal_sent_at,
            close_sent_at=entry.close_sent_at,
        )

    def dispute_view(self, rules: AuditRules) -> DisputeView:
        """As the rules of disputes want it."""
        dispute = self.dispute
        assert dispute is not None
        return DisputeView(
            task_id=self.task,
            terms=self.filing.terms,
            node=self.filing.node,
            rules=rules,
            phase=dispute.phase,
            level=dispute.level,
            round=dispute.round,
            round_starts=self.jury_starts,
            seed=self.jury_seed,
            outcome=dispute.outcome,
            auditors=() if self.audit is None else self.audit.auditors,
            jurors=self.jurors,
            revealed=self.jurors if dispute.revealed == dispute.seats else self.ballots,
            before=self.before,
            commit_by=dispute.commit_by,
            reveal_by=dispute.reveal_by,
            appeal_by=dispute.appeal_by,
        )

    def juror_memory(
        self, me: Address, weights: tuple[int, int], patience: Patience, *, keeper: bool, appeal: bool
    ) -> JurorMemory:
        """Our side of this level, as the rules of disputes want it."""
        entry = self.votes.get(self.level)
        memory = JurorMemory(
            me=me,
            weight=weights[0],
            total_weight=weights[1],
            keeper=keeper,
            appeal=appeal,
            working="review" in self.busy,
            poke_sent_at=self.jury_poked_at,
            patience=patience,
        )
        if entry is None:
            return memory
        return replace(
            memory,
            unable=entry.closed == UNABLE,
            failures=entry.failures,
            vote=entry.vote if self.opens(entry.salt, patience) else None,
            commit_sent_at=entry.commit_sent_at,
            reveal_sent_at=entry.reveal_sent_at,
            tally_sent_at=entry.tally_sent_at,
            appeal_sent_at=entry.appeal_sent_at,
            execute_sent_at=entry.execute_sent_at,
        )


UNABLE = "unable"
_OF_COMMIT = (
    "filing", "committed_at", "block", "heard_at", "round", "round_starts", "record", "claimed_at"
)  # fmt: skip
"""What a case has from the task's commit."""
