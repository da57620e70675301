"""What the beacon drew for one task: whether it is audited, and which steps are run again."""

from __future__ import annotations

from collections.abc import Sequence

from gesso.audits.facts import Draw
from gesso.chain.arbiter import Arbiter, Filing
from gesso_protocol.audit.challenge import challenge, checks_of, picked, steps_to_check
from gesso_protocol.events import AuditOpened, Event
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.money import BPS
from gesso_protocol.spec import Spec, TextToImage, TrainLora
from gesso_protocol.training.audit import segments_to_check
from gesso_protocol.training.share import updates_of


async def read_draw(
    arbiter: Arbiter, filing: Filing, task: TaskId, committed_at: int, spec: Spec, share_bps: int = BPS
) -> Draw:
    """The draw of a task that was committed at chain second `committed_at`, `share_bps` of the work.

    The rate is the node's of now; it differs from that of the draw only where the node has been audited in between.
    Raises Unreachable, ChainError.
    """
    rules = await arbiter.rules()
    passed, rate = await arbiter.passed_of(filing.node), await arbiter.rate_bps_of(filing.node)
    drawn = await _spoken(arbiter, filing, task, committed_at)
    if drawn is None:
        return Draw(rate_bps=rate, picked=None)
    fee = int(filing.terms.fee)
    chosen = picked(drawn, filing.terms.audit, fee, passed, rules)
    steps = checked_steps(drawn, spec, large=fee >= rules.large_fee)
    return Draw(rate_bps=rate, picked=chosen, steps=steps, updates=checked_updates(drawn, spec, share_bps))


async def challenge_of(
    arbiter: Arbiter | None, filing: Filing, task: TaskId, past: Sequence[Event], committed_at: int
) -> bytes | None:
    """What a task's checks are drawn from, whether it was audited or not; None while the beacon has not spoken.

    Raises Unreachable, ChainError.
    """
    opened = next((event for event in past if isinstance(event, AuditOpened)), None)
    if opened is not None:
        return bytes.fromhex(opened.challenge[2:])
    return None if arbiter is None else await _spoken(arbiter, filing, task, committed_at)


async def drawing_round(arbiter: Arbiter, record: TaskRecord) -> int:
    """The round that draws what is looked into of a committed or held task. Raises Unreachable, ChainError."""
    if record.state is TaskState.HELD:
        return (await arbiter.audit(record.task_id)).round
    return (await arbiter.clock()).round_at(record.state_since) + 1


def checked_steps(drawn: bytes, spec: Spec, *, large: bool) -> tuple[tuple[int, int], ...]:
    """The (picture, step) pairs that this challenge has run again; none for work that is not pictures."""
    if not isinstance(spec, TextToImage):
        return ()
    return steps_to_check(drawn, spec.count, spec.steps, checks_of(spec.count, spec.steps, large=large))


def checked_updates(drawn: bytes, spec: Spec, share_bps: int) -> tuple[tuple[int, int], ...]:
    """The (first, beyond the last) updates that this challenge has run again; none for work that is no training."""
    if not isinstance(spec, TrainLora):
        return ()
    done = updates_of(spec, share_bps)
    return tuple((one.first, one.last) for one in segments_to_check(drawn, spec, done))


async def _spoken(arbiter: Arbiter, filing: Filing, task: TaskId, committed_at: int) -> bytes | None:
    """The challenge of the first round after the commit, from wherever the beacon is heard."""
    seed = await arbiter.listen(await arbiter.round_at(committed_at) + 1)
    return None if seed is None else challenge(seed, task, filing.result_root, filing.trace_root)
