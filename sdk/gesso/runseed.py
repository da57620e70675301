"""The seed of a training run, as its node and its requester both find it: from the chain, after the claim.

The beacon's round begins after the claim, so a node cannot choose its data order or noise. On a network without a
beacon the seed is derived from the task alone, which the node cannot choose either but knows beforehand.
"""

from __future__ import annotations

from gesso.chain.chain import Chain
from gesso_protocol.errors import Unreachable
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import TaskId
from gesso_protocol.spec import TrainLora
from gesso_protocol.training.draws import run_seed


class NotYet(Unreachable):
    """Nothing is wrong: what a run begins with is in no block yet."""


async def seed_of_run(chain: Chain, spec: TrainLora, task: TaskId, claimed_at: int) -> bytes:
    """32 bytes; those that the spec names where it does the rest of a run. `claimed_at` is the chain's second of the
    claim. Raises NotYet while the beacon's round is not there."""
    if spec.resume is not None:
        return bytes.fromhex(spec.resume.seed)
    return run_seed(await _beacon(chain, task, claimed_at), task.value, spec.seed)


async def seed_on_record(chain: Chain, spec: TrainLora, task: TaskId, claimed_at: int) -> bytes | None:
    """The seed that a whole run of the past drew from, without making the beacon speak for it; None while nobody says:
    a run that got anywhere had it speak. Raises Unreachable, ChainError."""
    arbiter = chain.arbiter
    if arbiter is None:
        return run_seed(_no_beacon(task), task.value, spec.seed)
    beacon = await arbiter.listen((await arbiter.clock()).round_at(claimed_at) + 1)
    return None if beacon is None else run_seed(beacon, task.value, spec.seed)


def _no_beacon(task: TaskId) -> bytes:
    return keccak256(b"gesso/train/1/no-beacon" + task.value)


async def _beacon(chain: Chain, task: TaskId, claimed_at: int) -> bytes:
    arbiter = chain.arbiter
    if arbiter is None:
        return _no_beacon(task)
    clock = await arbiter.clock()
    round_ = clock.round_at(claimed_at) + 1
    if await chain.now() < clock.start_of(round_):
        raise NotYet("the beacon's round for this run has not begun")
    seed = await arbiter.seed_of(round_)
    if seed is None:
        await arbiter.resolve(round_)
        seed = await arbiter.seed_of(round_)
    if seed is None:
        raise NotYet("the beacon has not given the seed of this run yet")
    return seed
