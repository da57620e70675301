"""What the beacon drew for one task: whether it is audited, and which steps are run again."""

from __future__ import annotations

from gesso.audits.facts import Draw
from gesso.chain.arbiter import Arbiter, Filing
from gesso_protocol.audit.challenge import challenge, checks_of, picked, steps_to_check
from gesso_protocol.ids import TaskId
from gesso_protocol.spec import Spec, TextToImage


async def read_draw(arbiter: Arbiter, filing: Filing, task: TaskId, committed_at: int, spec: Spec) -> Draw:
    """The draw of a task that was committed at chain second `committed_at`.

    The rate is the node's of now; it differs from that of the draw only where the node has been audited in between.
    Raises Unreachable, ChainError.
    """
    rules = await arbiter.rules()
    passed, rate = await arbiter.passed_of(filing.node), await arbiter.rate_bps_of(filing.node)
    seed = await arbiter.listen(await arbiter.round_at(committed_at) + 1)
    if seed is None:
        return Draw(rate_bps=rate, picked=None)
    drawn = challenge(seed, task, filing.node, filing.result_root, filing.trace_root)
    fee = int(filing.terms.fee)
    chosen = picked(drawn, filing.terms.audit, fee, passed, rules)
    return Draw(rate_bps=rate, picked=chosen, steps=checked_steps(drawn, spec, large=fee >= rules.large_fee))


def checked_steps(drawn: bytes, spec: Spec, *, large: bool) -> tuple[tuple[int, int], ...]:
    """The (picture, step) pairs that this challenge has run again; none for work that is not pictures."""
    if not isinstance(spec, TextToImage):
        return ()
    return steps_to_check(drawn, spec.count, spec.steps, checks_of(spec.count, spec.steps, large=large))
