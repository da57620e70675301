"""A task on one line: submitted ─ claimed by 0x12…ab ─ step 14/25 ─ committed ─ settled."""

from __future__ import annotations

from gesso.cli.output import Output
from gesso_protocol import events

_BAR_CELLS = 16


class TaskLine:
    """Feed it events; it redraws one line on a terminal and writes one line a stage elsewhere."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._stages: list[str] = []
        self._step = ""
        self._open = False

    def show(self, event: events.Event) -> None:
        """Draw one event."""
        if isinstance(event, events.Step):
            self._step = f"step {event.index}/{event.total}"
            if self._out.live:
                self._draw(f"{bar(event.index, event.total)} {self._step}")
            elif event.index == event.total:
                self._out.say(self._step)
            return
        text = describe(event)
        if text is None:
            return
        if self._step and self._stages[-1:] != [self._step]:
            self._stages.append(self._step)
            self._step = ""
        self._stages.append(text)
        if self._out.live:
            self._draw("")
        else:
            self._out.say(text)

    def close(self) -> None:
        """End the line, so that what follows starts on its own."""
        if self._open:
            self._out.say("")
            self._open = False

    def _draw(self, tail: str) -> None:
        parts = [*self._stages, tail] if tail else self._stages
        self._out.redraw(" ─ ".join(parts))
        self._open = True


def bar(done: int, total: int) -> str:
    """A progress bar of fixed width."""
    filled = round(_BAR_CELLS * done / max(total, 1))
    return "━" * filled + "╌" * (_BAR_CELLS - filled)


def describe(event: events.Event) -> str | None:
    """The word for an event on the line, or None for those that are not drawn."""
    match event:
        case events.Submitted():
            return "submitted"
        case events.Claimed():
            return f"claimed by {event.node.short}"
        case events.Committed():
            return "committed"
        case events.Settled():
            return "settled"
        case events.Cancelled():
            return "cancelled, fee refunded"
        case events.Expired():
            return "expired, fee refunded"
        case events.Failed():
            return f"failed: {event.message}"
        case _:
            return None
