"""Tasks in few words, from the book and from the journal."""

from __future__ import annotations

from gesso_node.operator.status import TaskLine, money
from gesso_node.state.book import Known
from gesso_node.state.journal import Entry


def task_line(known: Known) -> TaskLine:
    """A task that is under way."""
    entry = known.entry
    return TaskLine(
        task=str(known.task),
        state=known.record.state.name.lower(),
        doing=tuple(sorted(known.busy)),
        model=entry.spec.model if entry and entry.spec else "",
        failure=entry.last_failure if entry else "",
    )


def ended_line(entry: Entry) -> TaskLine:
    """A task that is over."""
    return TaskLine(
        task=str(entry.task),
        state="closed",
        model=entry.spec.model if entry.spec else "",
        ended=str(entry.closed),
        paid=money(entry.paid) if entry.paid is not None else "",
        failure=entry.last_failure or str(entry.refusal or ""),
    )
