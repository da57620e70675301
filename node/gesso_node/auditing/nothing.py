# ruff: noqa: ARG002 - it takes what all works take, and needs none of it
"""Trainings of which nothing came: there is nothing to run again, and nothing is paid.

A node commits a part of nothing where its requester's input lets nobody train, or could not be had in time. To look
whether that was so would prove little: numbers that break on one machine may hold on another, and what is served to
an auditor now was perhaps not served to the node. It costs its requester no money, only the time until the commit. So
nobody takes a seat for it, which would also count as a passed audit; a jury that is asked finds no fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gesso_node.auditing.ask import Phase
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.work import NO_PROJECTION, Assigned, Finding
from gesso_protocol.audit.verdict import Decision, Verdict
from gesso_protocol.ids import BlobRef


@dataclass(frozen=True, slots=True)
class Nothing:
    """What opening and computing nothing gives."""

    projection: bytes = NO_PROJECTION


class NothingWork(Assigned[RunAssignment]):
    """A part of nothing before a juror."""

    async def ready(self, *, seconds: float) -> None:
        return None

    async def opened(self, phase: Phase, seconds: float) -> Nothing:
        return Nothing()

    async def published(self, refs: Iterable[BlobRef]) -> Nothing:
        return Nothing()

    async def compute(self, opened: Nothing, *, seconds: float) -> Nothing:
        return opened

    async def examine(self, opened: Nothing, own: Nothing | None, *, strict: bool, seconds: float) -> Finding:
        return Finding(Verdict(Decision.PASS, ()), NO_PROJECTION, "", None)

    async def publish(self, opened: Nothing) -> None:
        return None

    def forget(self) -> None:
        return None
