"""What the audit of one task amounts to: pure, from the chain's events and the draw; one document and one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from gesso.quote import AuditChoice
from gesso_protocol import events
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, Ballot, DisputeOutcome, Vote
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.money import Wei, format_amount

Status: TypeAlias = Literal[
    "pending", "waived", "not-picked", "unaudited", "open", "passed", "void", "disputed", "guilty", "innocent",
    "undecided", "upheld", "unheard",
]  # fmt: skip
Said: TypeAlias = Literal["pass", "flag", "withheld"]
Found: TypeAlias = Literal["good", "bad", "cannot-tell"]

AUDIT_EVENTS = (
    events.AuditOpened, events.AuditCommitted, events.AuditRevealed, events.AuditClosed, events.DisputeOpened,
    events.VoteCommitted, events.VoteRevealed, events.DisputeTallied, events.Appealed, events.DisputeExecuted,
    events.AuditorPenalised, events.JurorPenalised,
)  # fmt: skip
MAX_EVENTS = 1024
"""More than any audit with its appeal can make; what a broken chain says beyond is not kept."""
ENDINGS = (events.Settled, events.Expired, events.Cancelled)

_NOTHING = Wei(0)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Draw(_Frozen):
    """What the beacon said of a task: the node's rate, and whether it was picked (None: the round is not fixed)."""

    rate_bps: int
    picked: bool | None
    steps: tuple[tuple[int, int], ...] = ()
    """(picture, step) that an audit runs again, counted from 0."""
    updates: tuple[tuple[int, int], ...] = ()
    """(first, beyond the last) update of the segments of a training that an audit runs again, counted from 0."""


class AuditorFacts(_Frozen):
    """One auditor: what it said (None: nothing), and what it lost."""

    auditor: Address
    said: Said | None = None
    evidence: BlobRef | None = None
    lost: Wei = _NOTHING


class JurorFacts(_Frozen):
    """One juror of one level: what it found (None: it did not reveal), and what it lost."""

    juror: Address
    level: int
    found: Found | None = None
    lost: Wei = _NOTHING


class AuditFacts(_Frozen):
    """The audit of one task. Money is base units of the fee token; steps are (picture, step), counted from 0; updates
    are those of a training's segments, (first, beyond the last).

    `error_of_limit` is how far the node's outputs lie from an auditor's, as a share of what auditors may differ between
    them; None where nobody has the openings. `gesso task audit` measures against the calibrated limits.
    `unaudited` means that the task was to be audited and nobody did; `void` that auditors came and said nothing.
    """

    asked: AuditChoice = "sampled"
    status: Status = "pending"
    rate_bps: int | None = None
    steps: tuple[tuple[int, int], ...] = ()
    updates: tuple[tuple[int, int], ...] = ()
    error_of_limit: float | None = None
    evidence: BlobRef | None = None
    auditors: tuple[AuditorFacts, ...] = ()
    jurors: tuple[JurorFacts, ...] = ()
    appealed_by: Address | None = None
    slashed: Wei = _NOTHING
    burned: Wei = _NOTHING
    to_requester: Wei = _NOTHING
    to_pool: Wei = _NOTHING
    refund: Wei | None = None
    """The fee, where it went back to the requester."""

    @property
    def over(self) -> bool:
        """True when no event of this audit can follow."""
        return self.status not in ("pending", "open", "disputed")

    def line(self) -> str:
        """One line for people, as it stands on receipts."""
        return _line(self)


def audit_facts(asked: AuditChoice, happened: Iterable[events.Event], *, draw: Draw | None = None) -> AuditFacts:
    """Fold a task's events, oldest first. Events of other kinds than audits are passed over, but for the refund."""
    facts = AuditFacts(asked=asked)
    if draw is not None:
        facts = facts.model_copy(update={"rate_bps": draw.rate_bps, "steps": draw.steps, "updates": draw.updates})
    ended = False
    for event in happened:
        facts = _after(facts, event)
        ended = ended or isinstance(event, ENDINGS)
    if facts.status == "pending":
        return facts.model_copy(update={"status": _undrawn(asked, draw, ended)})
    return facts


def _undrawn(asked: AuditChoice, draw: Draw | None, ended: bool) -> Status:
    """Where a task stands that no auditor has come to."""
    if asked == "none":
        return "waived"
    picked = None if draw is None else draw.picked
    if picked is False:
        return "not-picked"
    if not ended:
        return "pending"
    return "unaudited" if picked or asked == "always" else "pending"


def _after(facts: AuditFacts, event: events.Event) -> AuditFacts:
    match event:
        case events.AuditOpened():
            return _auditor(facts.model_copy(update={"status": "open"}), event.auditor, {})
        case events.AuditCommitted():
            return _auditor(facts, event.auditor, {})
        case events.AuditRevealed():
            return _revealed(facts, event)
        case events.AuditClosed():
            known: dict[AuditOutcome, Status] = {AuditOutcome.PASSED: "passed", AuditOutcome.VOID: "void"}
            return facts.model_copy(update={"status": known.get(event.outcome, "disputed")})
        case events.DisputeOpened():
            return facts.model_copy(update={"status": "disputed"})
        case events.VoteCommitted():
            return _juror(facts, event.juror, event.level, {})
        case events.VoteRevealed():
            return _juror(facts, event.juror, event.level, {"found": _found(event.vote)})
        case events.Appealed():
            return facts.model_copy(update={"appealed_by": event.by})
        case events.DisputeExecuted():
            return _executed(facts, event)
        case events.AuditorPenalised():
            lost = next((other.lost for other in facts.auditors if other.auditor == event.auditor), _NOTHING)
            return _auditor(facts, event.auditor, {"lost": Wei(lost + event.amount)})
        case events.JurorPenalised():
            level = max((other.level for other in facts.jurors if other.juror == event.juror), default=0)
            return _juror(facts, event.juror, level, {"lost": event.amount})
        case events.Expired() | events.Cancelled():
            return facts.model_copy(update={"refund": event.refund})
        case _:
            return facts


def _revealed(facts: AuditFacts, event: events.AuditRevealed) -> AuditFacts:
    said: dict[AuditVerdict, Said] = {
        AuditVerdict.PASS: "pass",
        AuditVerdict.FLAG: "flag",
        AuditVerdict.WITHHELD: "withheld",
    }
    facts = _auditor(facts, event.auditor, {"said": said[event.verdict], "evidence": event.evidence})
    return facts.model_copy(update={"evidence": facts.evidence or event.evidence})


def _executed(facts: AuditFacts, event: events.DisputeExecuted) -> AuditFacts:
    endings: dict[DisputeOutcome, Status] = {
        DisputeOutcome.GUILTY: "guilty", DisputeOutcome.INNOCENT: "innocent", DisputeOutcome.UPHELD: "upheld",
        DisputeOutcome.UNHEARD: "unheard",
    }  # fmt: skip
    money = {name: getattr(event, name) for name in ("slashed", "burned", "to_requester", "to_pool")}
    return facts.model_copy(update={"status": endings.get(event.outcome, "undecided"), **money})


def _auditor(facts: AuditFacts, who: Address, changed: dict[str, object]) -> AuditFacts:
    known = {entry.auditor: entry for entry in facts.auditors}
    known[who] = known.get(who, AuditorFacts(auditor=who)).model_copy(update=changed)
    return facts.model_copy(update={"auditors": tuple(known.values())})


def _juror(facts: AuditFacts, who: Address, level: int, changed: dict[str, object]) -> AuditFacts:
    known = {(entry.juror, entry.level): entry for entry in facts.jurors}
    seat = (who, level)
    known[seat] = known.get(seat, JurorFacts(juror=who, level=level)).model_copy(update=changed)
    return facts.model_copy(update={"jurors": tuple(known.values())})


def _found(vote: int) -> Found | None:
    ballots: dict[Ballot, Found] = {Ballot.GOOD: "good", Ballot.BAD: "bad", Ballot.CANNOT_TELL: "cannot-tell"}
    return ballots[Vote.of(vote).ballot] if vote & 3 else None


def _line(facts: AuditFacts) -> str:
    match facts.status:
        case "pending":
            return "not decided yet"
        case "waived":
            return "no, as asked"
        case "not-picked":
            return f"not picked ({percent(facts.rate_bps)})" if facts.rate_bps is not None else "not picked"
        case "unaudited":
            asked = "asked for" if facts.asked == "always" else "picked"
            return f"{asked}, nobody audited" + (", fee returned" if facts.asked == "always" else "")
        case "void":
            return f"{auditors_of(facts)} came and said nothing; the node is paid as if nobody had asked"
        case "open":
            return f"under way ({auditors_of(facts)})"
        case "passed":
            return f"yes ({', '.join(_particulars(facts))})"
        case _:
            return _disputed(facts)


def _particulars(facts: AuditFacts) -> list[str]:
    parts = [auditors_of(facts)]
    if facts.steps:
        parts.append(steps_text(facts.steps))
    if facts.updates:
        parts.append(updates_text(facts.updates))
    if facts.error_of_limit is not None:
        parts.append(f"max error {facts.error_of_limit:.2g} of limit")
    return parts


def _disputed(facts: AuditFacts) -> str:
    why = _charge(facts)
    votes = votes_text(facts)
    if facts.status == "disputed":
        return f"{why}; before jurors{f' ({votes})' if votes else ''}"
    if facts.status == "innocent":
        return f"yes, after a dispute ({why}; {votes})"
    if facts.status == "undecided":
        return f"undecided ({why}; {votes}); fee burned, nobody slashed"
    if facts.status == "upheld":
        return f"not proven ({why}; {votes}); node paid, a challenge's bond is lost"
    if facts.status == "unheard":
        return f"not proven ({why}; too few jurors: {votes}); node paid, a challenge's bond came back"
    money = f"slashed {format_amount(facts.slashed)}, of which {format_amount(facts.to_requester)} to the requester"
    return f"FAILED ({why}; {votes}); fee returned, node {money}"


def _charge(facts: AuditFacts) -> str:
    flags = [entry.said for entry in facts.auditors if entry.said in ("flag", "withheld")]
    if not flags:
        return "auditors disagree" if len(facts.auditors) > 1 else "challenged by the requester"
    word = "found the openings withheld" if set(flags) == {"withheld"} else "flagged it"
    return f"{len(flags)} of {auditors_of(facts)} {word}"


def auditors_of(facts: AuditFacts) -> str:
    """`1 auditor`, `2 auditors`."""
    count = len(facts.auditors)
    return f"{count} auditor{'' if count == 1 else 's'}"


def votes_text(facts: AuditFacts) -> str:
    """How the last committee voted: `3 of 3 jurors found it bad`."""
    level = max((entry.level for entry in facts.jurors), default=0)
    bench = [entry for entry in facts.jurors if entry.level == level]
    words = {"bad": "found it bad", "good": "found it good", "cannot-tell": "could not tell", None: "kept silent"}
    counted = {found: sum(entry.found == found for entry in bench) for found in words}
    parts = [f"{count} {words[found]}" for found, count in counted.items() if count]
    if len(parts) == 1:
        (found,) = (found for found, count in counted.items() if count)
        parts = [f"{len(bench)} of {len(bench)} jurors {words[found]}"]
    text = ", ".join(parts) if parts else "no juror came"
    return f"{text}, on appeal" if level else text


def steps_text(steps: Sequence[tuple[int, int]]) -> str:
    """`steps 7 and 19`, counted from 1 as progress is; with several pictures `picture 2 step 7 and …`."""
    many = any(image for image, _ in steps)
    names = [f"picture {image + 1} step {step + 1}" if many else str(step + 1) for image, step in steps]
    joined = names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
    return joined if many else f"step{'' if len(names) == 1 else 's'} {joined}"


def updates_text(updates: Sequence[tuple[int, int]]) -> str:
    """`updates 21-40 and 81-100`, counted from 1 as progress is."""
    return "updates " + " and ".join(f"{first + 1}-{last}" for first, last in updates)


def percent(bps: int) -> str:
    """Basis points as percent."""
    return f"{bps / 100:g} %"
