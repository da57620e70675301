"""Whether a task that says it does the rest of a run may say so: the chain knows the run that it names. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gesso_protocol.fields import TaskKind
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.spec import TrainLora, spec_ref
from gesso_protocol.terms import Terms


@dataclass(frozen=True, slots=True)
class BegunRun:
    """What the chain shows of the task that a run began with. `claimed_at`: second of its last claim, None without."""

    terms: Terms
    state: TaskState
    claimed_at: int | None
    committed: bool


def rest_fault(spec: TrainLora, terms: Terms, begun: BegunRun | None, seed: bytes | None) -> str:
    """Why `spec`, ordered under `terms`, is not the rest of the run that its `resume` names; nothing when it is, or
    when it is a whole run.

    `seed` is what the chain says that the run drew from, None where that was not looked at. That the state is the
    run's own work nobody can see here.
    """
    resume = spec.resume
    if resume is None:
        return ""
    if begun is None:
        return "the board knows no such task"
    if begun.terms.kind != int(TaskKind.TRAIN_LORA):
        return "that task is no training"
    if begun.terms.requester != terms.requester:
        return "another requester ordered that run"
    if begun.terms.spec != spec_ref(spec.run):
        return "that run was ordered in other words"
    if begun.state is not TaskState.EXPIRED or begun.claimed_at is None or begun.committed:
        return "that run was not lost by a node that had begun it"
    if seed is not None and seed.hex() != resume.seed:
        return "that run draws from another seed"
    return ""
