"""A task on one line: submitted ─ claimed by 0x12…ab ─ step 14/25 ─ committed ─ settled.

Where it is audited, the audit has a line of its own, and so has a dispute: audit ─ picked ─ 0x34…cd checks it ─ passed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence

from gesso.cli.output import Output
from gesso_protocol import events
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, Ballot, DisputeOutcome, Vote
from gesso_protocol.ids import Address
from gesso_protocol.money import format_amount

_AGAINST = re.compile(r"FLAGS it|got no openings|disputed|: bad\b|GUILTY|slashed [0-9.]+|failed: .*|loses [0-9.]+")
_BAR_CELLS = 16
_IN_DOUBT = "in doubt, fee burned"
_CIRCUMSTANCE = {"at_ms", "gas_used", "preview", "tx"}
_VERDICTS = {AuditVerdict.PASS: "passes it", AuditVerdict.FLAG: "FLAGS it", AuditVerdict.WITHHELD: "got no openings"}
_CLOSED = {AuditOutcome.PASSED: "passed", AuditOutcome.VOID: "nobody said anything", AuditOutcome.DISPUTED: "disputed"}
_BALLOTS = {Ballot.GOOD: "good", Ballot.BAD: "bad", Ballot.CANNOT_TELL: "cannot tell"}
_ENDS = {
    DisputeOutcome.GUILTY: "GUILTY", DisputeOutcome.INNOCENT: "innocent", DisputeOutcome.UNDECIDED: "undecided",
    DisputeOutcome.UPHELD: "not proven, node paid", DisputeOutcome.UNHEARD: "too few jurors, node paid",
}  # fmt: skip


class TaskLine:
    """Feed it events; it redraws one line on a terminal and writes one line a stage elsewhere."""

    def __init__(self, out: Output, names: Mapping[Address, str] | None = None, *, pictures: int = 1) -> None:
        """`names` are shown instead of addresses that they are given for; `pictures` is how many the task draws."""
        self._out = out
        self._pictures = pictures
        self._names = {address.short: name for address, name in (names or {}).items()}
        self._stages: list[str] = []
        self._step = ""
        self._kept = ""
        """Up to where a training can go on elsewhere."""
        self._open = False
        self._audited = False
        self._shown: set[str] = set()
        self._drawn: set[int] = set()

    @property
    def unanswered(self) -> bool:
        """True while no node has let hear anything of the task."""
        return not self._step and self._stages in ([], ["submitted"])

    def show(self, event: events.Event) -> None:
        """Draw one event; one that was drawn before is passed over, as when a task is followed twice."""
        same = event.model_dump_json(exclude=_CIRCUMSTANCE)
        if same in self._shown:
            return
        self._shown.add(same)
        if isinstance(event, events.TrainingStep):
            loss = "" if event.loss is None else f" loss {event.loss:.4f}"
            self._step = f"step {event.index}/{event.total}{loss}"
            if self._out.live:
                self._draw(f"{bar(event.index, event.total)} {self._step}{self._kept}")
            elif event.checkpoint:
                self._out.say(self._step)
            return
        if isinstance(event, events.Checkpoint):
            self._kept = f", kept up to {event.index}"
            if not self._out.live:
                self._out.say(f"checkpoint {event.index}/{event.total} is kept")
            return
        if isinstance(event, events.TrainingPaused):
            self._show_pause(event)
            return
        if isinstance(event, events.Step):
            self._show_step(event)
            return
        text = describe(event)
        if text is None:
            return
        if isinstance(event, events.AuditOpened | events.DisputeOpened):
            self._audited = True
            self._break_line()
        if isinstance(event, events.Expired) and self._audited:
            text = "fee refunded" if event.refund else _IN_DOUBT
        for short, name in self._names.items():
            text = text.replace(short, name)
        # A node draws while its claim is on the way, so steps may come first; on the line they go on after it.
        # Of an old task a relay tells them before the chain has told anything.
        early = isinstance(event, events.Submitted | events.Claimed)
        if self._step and not early and self._stages[-1:] != [self._step]:
            self._stages.append(self._step)
            self._step = ""
        self._stages.append(text)
        if self._out.live:
            self._draw("")
        else:
            self._out.say(text)

    def _show_pause(self, event: events.TrainingPaused) -> None:
        """Nothing is wrong where updates stop for a while."""
        why = ": it goes on" if event.over else ": paused, its node checks others' work"
        self._step = f"step {event.index}/{event.total}"
        if self._out.live:
            self._draw(f"{bar(event.index, event.total)} {self._step}{why}{self._kept}")
        else:
            self._out.say(self._step + why)

    def _show_step(self, event: events.Step) -> None:
        which = "" if self._pictures == 1 else f"picture {event.image + 1}/{self._pictures} "
        step = f"{which}step {event.index}/{event.total}"
        if self._out.live:
            self._draw(f"{bar(event.index, event.total)} {step}")
        elif event.index == event.total and self._stages and event.image not in self._drawn:
            self._drawn.add(event.image)  # once, though two nodes may draw before one of them has claimed
            self._out.say(step)
        self._step = step

    def remark(self, text: str) -> None:
        """A line of its own, between what is drawn; what was drawn stands below it again."""
        drawn = self._open
        if drawn:
            self._out.redraw("")
        self._out.say(text)
        if drawn:
            self._draw("")

    def close(self) -> None:
        """End the line, so that what follows starts on its own."""
        if self._open:
            self._out.say("")
            self._open = False

    def _draw(self, tail: str) -> None:
        parts = [*self._stages, tail] if tail else self._stages
        if len(" ─ ".join(parts)) >= shutil.get_terminal_size().columns and len(parts) > 1:
            # A line that wraps cannot be redrawn: what does not fit begins the next one. No old bar stays behind.
            self._redraw(parts[:-1])
            self._break_line()
            self._stages = [] if tail else parts[-1:]
            parts = parts[-1:]
        self._redraw(parts)

    def _redraw(self, parts: Sequence[str]) -> None:
        self._out.redraw(_AGAINST.sub(lambda found: self._out.alarm(found[0]), " ─ ".join(parts)))
        self._open = True

    def _break_line(self) -> None:
        if self._out.live:
            self.close()
            self._stages = []


def bar(done: int, total: int) -> str:
    """A progress bar of fixed width."""
    filled = round(_BAR_CELLS * done / max(total, 1))
    return "━" * filled + "╌" * (_BAR_CELLS - filled)


def describe(event: events.Event) -> str | None:
    """The word for an event on the line, or None for those that are not drawn."""
    if (about := describe_audit(event)) is not None:
        return about
    match event:
        case events.Submitted():
            return "submitted"
        case events.Claimed():
            return f"claimed by {event.node.short}"
        case events.Delivered():
            return "delivered"
        case events.StopRequested():
            return "asked to stop"
        case events.PartCommitted(done_bps=done_bps):
            return f"{done_bps / 100:g} % done"
        case events.Committed():
            return "committed"
        case events.RestReturned(refund=refund):
            return f"{format_amount(refund)} came back"
        case events.Settled():
            return "settled"
        case events.Cancelled():
            return "cancelled, fee refunded"
        case events.Expired():
            return "expired, fee refunded" if event.refund else _IN_DOUBT
        case events.Resumed():
            return f"goes on from step {event.index}/{event.total} for {format_amount(event.fee)} as {event.task.short}"
        case events.Failed():
            return f"failed: {event.message}"
        case _:
            return None


def describe_audit(event: events.Event) -> str | None:
    """The same for what auditors, jurors and the arbiter do."""
    match event:
        case events.AuditOpened():
            return f"audit: picked, {event.auditor.short} checks it"
        case events.AuditCommitted():
            return f"{event.auditor.short} checks it too"
        case events.AuditRevealed():
            return f"{event.auditor.short} {_VERDICTS[event.verdict]}"
        case events.AuditClosed():
            return _CLOSED.get(event.outcome)
        case events.DisputeOpened():
            return f"{'appeal' if event.level else 'dispute'}: brought by {event.by.short}"
        case events.VoteRevealed():
            return f"juror {event.juror.short}: {_BALLOTS[Vote.of(event.vote).ballot]}"
        case events.DisputeTallied():
            return _ENDS.get(event.outcome)
        case events.DisputeExecuted(slashed=slashed):
            return f"slashed {format_amount(slashed)}" if slashed else "nobody slashed"
        case events.AuditorPenalised():
            return f"auditor {event.auditor.short} loses {format_amount(event.amount)}"
        case events.JurorPenalised():
            return f"juror {event.juror.short} loses {format_amount(event.amount)}"
        case _:
            return None
