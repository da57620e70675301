"""Whether the share of a training that its node committed on chain is right: the board takes the node's word for it."""

from __future__ import annotations

from gesso_protocol.money import BPS, done_bps
from gesso_protocol.training.spec import TrainLora

LATE_TENTHS = 9


def late_from(claimed_at: int, commit_window_s: int) -> int:
    """The chain second from which a part is committed because its time is nearly over: the window's last tenth.

    Anybody can hold the second of a commit against it, so being out of time is a reason that the chain shows.
    """
    return claimed_at + -(-commit_window_s * LATE_TENTHS // 10)


def share_fault(
    claimed_bps: int, *, done: int, ordered: int, stop_requested: bool, broke: bool | None, late: bool = False
) -> str:
    """What is wrong with a share, in words, or nothing.

    `claimed_bps` and `stop_requested` are what the board's `doneOf` answers, `done` the updates that the trace shows of
    the `ordered` ones, both without those that the run was resumed from. `broke`: whether the run leaves the numbers
    after its last checkpoint when it is run again; None where nobody tried. `late`: the commit is no earlier than
    `late_from`. To claim less is the node's own affair.
    """
    most = done_bps(done, ordered)
    if claimed_bps > most:
        return f"{claimed_bps / 100:g} % were claimed, {done} of {ordered} updates were done"
    if claimed_bps < BPS and done < ordered and not stop_requested and not late and broke is False:
        return f"it ended after {done} of {ordered} updates, though nobody had asked and it could have gone on in time"
    return ""


def updates_of(spec: TrainLora, bps: int) -> int:
    """The updates after which a run ended whose share on chain is `bps`: the end, or the checkpoint that the share is
    of. The run's first update when it is of none."""
    if bps >= BPS:
        return spec.steps
    ordered = spec.steps - spec.first_step
    ends = range(spec.first_step + spec.checkpoint_every, spec.steps, spec.checkpoint_every)
    return next((end for end in ends if done_bps(end - spec.first_step, ordered) == bps), spec.first_step)
