"""Models whose audits this machine could not judge though it had sealed: where that happens again and again, it takes
no more seats for them until its operator has looked. What is sealed already is revealed all the same.
"""

from __future__ import annotations

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso_node.state.journal import Journal
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.spec import Spec

log = structlog.get_logger("gesso.node.auditing")

RESTS_AFTER = 2
"""Nodes of whose work an audit could not be judged in a row. Of several, as one alone may know what our machine cannot
bear, and would be rid of us."""
MAX_MODELS = 64
MAX_REASON_CHARS = 200
RESTING = "resting"
NOTE = "audits-not-judged"


class Unjudged(BaseModel):
    """A kind of task, its model and type of numbers, and the nodes whose audits of it came to nothing here since one
    was judged; `task`, `reason` and `at` (chain second) of the last."""

    model_config = ConfigDict(frozen=True)

    kind: str
    model: str
    dtype: str
    nodes: tuple[str, ...]
    task: str
    reason: str = Field(max_length=MAX_REASON_CHARS)
    at: int

    @property
    def resting(self) -> bool:
        """Whether no seats are taken for it."""
        return len(self.nodes) >= RESTS_AFTER

    def line(self) -> str:
        """For people."""
        state = "no seats taken" if self.resting else "failed once"
        return f"{self.kind} {self.model} {self.dtype}: {state}, {self.task[:14]}…: {self.reason}"

    def of(self, spec: Spec) -> bool:
        """Whether it is about tasks like this one."""
        return (self.kind, self.model, self.dtype) == _about(spec)


class _Noted(BaseModel):
    """As it is in the journal, the oldest first."""

    models: tuple[Unjudged, ...] = ()


class Rests:
    """Kept as a note of the journal, and read from there each time, as the operator's command clears it while the node
    runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def all(self) -> tuple[Unjudged, ...]:
        """What failed here and was not mended since."""
        stored = await self._journal.note(NOTE)
        try:
            return () if stored is None else _Noted.model_validate_json(stored).models
        except ValidationError:
            return ()

    async def rests(self, spec: Spec) -> bool:
        """Whether no seat is to be taken for such a task."""
        return any(one.resting and one.of(spec) for one in await self.all())

    async def failed(self, spec: Spec, task: TaskId, node: Address, reason: str, at: int) -> None:
        """An audit that we had sealed could not be judged by this machine."""
        known = await self.all()
        before = next((one for one in known if one.of(spec)), None)
        nodes = () if before is None else before.nodes
        if node not in nodes and len(nodes) < RESTS_AFTER:
            nodes = (*nodes, str(node))
        kind, model, dtype = _about(spec)
        one = Unjudged(
            kind=kind, model=model, dtype=dtype, nodes=nodes, task=str(task), reason=reason[:MAX_REASON_CHARS], at=at
        )
        await self._keep((*(other for other in known if other is not before), one)[-MAX_MODELS:])
        if one.resting:
            log.error("audit.resting", kind=kind, model=model, dtype=dtype, reason=reason,
                      hint="no seats are taken for it until you say: gesso node audits --resume")  # fmt: skip

    async def judged(self, spec: Spec) -> None:
        """This machine can do it."""
        known = await self.all()
        if any(one.of(spec) for one in known):
            await self._keep(tuple(one for one in known if not one.of(spec)))

    async def resume(self) -> tuple[Unjudged, ...]:
        """The operator has looked: seats are taken again for everything. Gives what had failed."""
        known = await self.all()
        if known:
            await self._keep(())
        return known

    async def _keep(self, models: tuple[Unjudged, ...]) -> None:
        await self._journal.set_note(NOTE, _Noted(models=models).model_dump_json())


def _about(spec: Spec) -> tuple[str, str, str]:
    return spec.kind, spec.model, spec.dtype
