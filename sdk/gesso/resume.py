"""What is left of a training whose node was lost: its last good checkpoint, the run's seed, a share of the fee.

A lost node's word is signed and no more than a hint: the state is fetched and examined before anybody is paid to go on
from it, and given to the stores again, so that the next node finds it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from anyio import to_thread

from gesso.chain.events import TaskClaimed
from gesso.receipt import Origin
from gesso.rests import nonce_of_rest
from gesso.runseed import seed_of_run
from gesso.task import AsyncTask
from gesso.wiring import Ports
from gesso_protocol.errors import GessoError, ModelInvalid, SpecInvalid, StateDoubtful
from gesso_protocol.events import Claimed
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.money import Wei
from gesso_protocol.spec import TrainLora
from gesso_protocol.terms import Terms
from gesso_protocol.training.checkpoint import MAX_STATE_BYTES, Resume, most_state_bytes
from gesso_protocol.training.haste import haste

Place = tuple[int, BlobRef, int, str]
"""A checkpoint as its node tells of it: after which update, its blob, its size, and what its run draws from."""


async def rest_of_run(
    ports: Ports, task: AsyncTask, spec: TrainLora, claim: Claimed, *, trust: bool = False
) -> TrainLora | None:
    """The spec of what `claim`'s node left undone, from the newest of its checkpoints that is what it is said to be;
    without one, from where the task itself went on, and None when it was the run's first. Raises StateDoubtful where
    all that is left came too far to be believed, unless `trust`; Unreachable while the chain does not tell the seed."""
    told = [(one.index, one.state, one.size, one.seed) for one in task.checkpoints if one.node == claim.node]
    places = sorted({*told, *await _remembered(ports, task.id, claim.node)}, key=lambda place: -place[0])
    begun = None if spec.resume is None else spec
    if not places:
        return begun
    claimed_at = claim.commit_by - task.terms.commit_window_s
    seed = await seed_of_run(ports.chain, spec, task.id, claimed_at)
    run = task.id if spec.resume is None else spec.resume.task
    most, doubt = await _most_bytes(ports, spec), ""
    for step, state, size, drew_from in places:
        if drew_from != seed.hex():
            continue  # of a claim that the chain took back: no checkpoint of this run
        try:
            rest = spec.rest(Resume(task=run, seed=seed.hex(), step=step, state=state, size=size))
            if step <= spec.first_step or size > most:
                continue
            fault = "" if trust else haste(spec, step, task.terms.commit_window_s)
            if fault:
                doubt = doubt or fault
                continue
            await _examine(ports, rest)
        except (SpecInvalid, ModelInvalid):
            continue  # what it says is no checkpoint of this run
        except GessoError:
            continue  # nobody has it any more
        return rest
    if doubt:
        hint = f"go on from its checkpoint all the same: gesso train --resume {task.id} --trust-state"
        raise StateDoubtful(f"node {claim.node.short} was lost, and is not believed: {doubt}", hint=hint)
    return begun


async def origin_of(ports: Ports, terms: Terms, resume: Resume) -> Origin:
    """Where a task began that does the rest of a run. The lost node is found where that rest was ordered in place of
    the run's first task. Raises Unreachable, ChainError."""
    origin = Origin(run=resume.task, step=resume.step, state=resume.state)
    if terms.nonce != nonce_of_rest(resume.task):
        return origin
    claims = [event for event in await ports.chain.course_of(resume.task) if isinstance(event, TaskClaimed)]
    return origin.model_copy(update={"lost": resume.task, "node": claims[-1].node if claims else None})


def share_of_fee(fee: Wei, lost: TrainLora, rest: TrainLora) -> Wei:
    """What is left of the lost task's fee when the updates that its node did are not paid for again; rounded up."""
    whole, left = lost.steps - lost.first_step, rest.steps - rest.first_step
    return Wei(-(-int(fee) * left // whole))


async def _remembered(ports: Ports, task: TaskId, node: Address) -> Iterable[Place]:
    kept = await ports.directory.checkpoint_of(task, node)
    return () if kept is None else ((kept.step, kept.state, kept.size, kept.seed),)


async def _most_bytes(ports: Ports, spec: TrainLora) -> int:
    if spec.model_manifest is None:
        return MAX_STATE_BYTES
    try:
        raw = await ports.blobs.get(spec.model_manifest, max_bytes=ModelManifest.MAX_BYTES)
        return most_state_bytes(ModelManifest.decode(raw).size)
    except GessoError:
        return MAX_STATE_BYTES


async def _examine(ports: Ports, rest: TrainLora) -> None:
    """Raises ModelInvalid for what is no state after that update, and what the stores raise."""
    from gesso.checkpointfile import check_state

    resume = rest.resume
    assert resume is not None
    with tempfile.TemporaryDirectory(prefix="gesso-checkpoint-") as folder:
        path = Path(folder) / "checkpoint.safetensors"
        await ports.blobs.fetch(resume.state, path, max_bytes=resume.size)
        if path.stat().st_size != resume.size:
            raise ModelInvalid("the checkpoint has another size than its node says")
        await to_thread.run_sync(lambda: check_state(path, step=resume.step, rank=rest.rank))
        await ports.blobs.put(path, expect=resume.state)
