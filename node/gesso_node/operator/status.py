"""One read model of a node, for the command line, the status page and the metrics alike."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from gesso_node.auditing.report import AuditTotals
from gesso_protocol.money import format_amount

VERSION = "0.1.0"


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class TaskLine(_View):
    """A task in few words; `step` of `total` while it is executed."""

    task: str
    state: str
    doing: tuple[str, ...] = ()
    model: str = ""
    step: int = 0
    total: int = 0
    ended: str = ""
    paid: str = ""
    failure: str = ""


class ExecutorLine(_View):
    """The executor and how its processes have ended so far."""

    engine: str
    busy: bool
    warm: tuple[str, ...]
    started: int
    ended: dict[str, int]


class NodeStatus(_View):
    """Everything an operator asks first. Money is in whole tokens, as text."""

    name: str
    version: str = VERSION
    wallet: str
    peer: str | None
    peers: int
    addresses: tuple[str, ...]
    chain_id: int
    block: int
    healthy: bool
    draining: bool
    weight: int
    total_weight: int
    slots: int
    held: int
    free: int
    """Tasks more that it would claim now: none beside a training."""
    uptime_s: int
    earned: str
    current: TaskLine | None
    open_tasks: tuple[TaskLine, ...]
    recent: tuple[TaskLine, ...]
    refused: dict[str, int]
    ended: dict[str, int]
    failed: dict[str, int]
    models: tuple[str, ...]
    model_bytes: int
    executor: ExecutorLine
    heard: int
    roles: tuple[str, ...] = ("worker",)
    auditing: AuditTotals = AuditTotals()

    def summary(self) -> str:
        """A screenful for people."""
        state = "draining" if self.draining else "healthy" if self.healthy else "not well: the chain does not answer"
        now = f"{self.current.task} {self.current.step}/{self.current.total} steps" if self.current else "nothing"
        passed = " · ".join(f"{reason} {count}" for reason, count in self.refused.items()) or "nothing"
        ended = " · ".join(f"{how} {count}" for how, count in self.ended.items()) or "nothing yet"
        lines = [
            f"gesso node {self.version}   {self.name}   {self.wallet}   up {self.uptime_s} s   {state}",
            f"Weight  {self.weight} of {self.total_weight}   block {self.block}   peers {self.peers}",
            f"Doing   {now}   ({self.held} of {self.slots} slots taken, {self.free} free)",
            f"Earned  {self.earned}",
            f"Ended   {ended}",
            f"Passed  {passed}",
            f"Audits  {self._audits()}",
            f"Models  {' '.join(self.models) or 'none'}   {self.model_bytes / 1e9:.2f} GB",
        ]
        if self.weight == 0:
            lines.append(f"Next    it has no weight, so it cannot claim; why: gesso node doctor {self.name}")
        return "\n".join(lines)

    def _audits(self) -> str:
        if "auditor" not in self.roles:
            return "off"
        totals = self.auditing
        return f"{totals.audits} done, {totals.open} under way, {totals.votes} votes   earned {totals.fees}" + (
            f"   lost {totals.penalties}" if totals.penalties != "0" else ""
        )


def money(amount: int) -> str:
    """Whole tokens as text."""
    return format_amount(amount)
