"""Whether the share of a training that its node committed on chain is right: the board takes the node's word for it."""

from __future__ import annotations

from gesso_protocol.errors import UsageError
from gesso_protocol.money import BPS, done_bps
from gesso_protocol.training.spec import TrainLora

LATE_TENTHS = 9


def late_from(claimed_at: int, commit_window_s: int) -> int:
    """The chain second from which a part is committed because its time is nearly over: the window's last tenth.

    Anybody can hold the second of a commit against it, so being out of time is a reason that the chain shows.
    """
    return claimed_at + -(-commit_window_s * LATE_TENTHS // 10)


def share_of(spec: TrainLora, done: int) -> int:
    """The basis points of a task's work that are done when it ends after update `done` of the run, rounded down.

    Weighed like the price: a picture's step is two passes, an update's is three; last samples are drawn in any case.
    Checkpoints, which the price counts too, come as evenly as updates and change nothing of it.
    Nothing when no update was made. Raises `UsageError` for updates that are not the task's.
    """
    if done == spec.first_step:
        return 0
    if not spec.first_step < done <= spec.steps:
        raise UsageError(f"a task that does updates {spec.first_step + 1} to {spec.steps} does not end after {done}")
    return done_bps(spec.passes(done), spec.passes(spec.steps))


def share_fault(
    claimed_bps: int, spec: TrainLora, done: int, *, stop_requested: bool, broke: bool | None, late: bool = False
) -> str:
    """What is wrong with a share, in words, or nothing.

    `claimed_bps` and `stop_requested` are what the board's `doneOf` answers, `done` the updates of the run
    that the trace shows, with those that it was resumed from. `broke`: whether the run leaves the numbers
    after its last checkpoint when it is run again; None where nobody tried. `late`: the commit is no earlier than
    `late_from`. To claim less is the node's own affair.
    """
    said = f"{done - spec.first_step} of {spec.steps - spec.first_step} updates"
    most = share_of(spec, done)
    if claimed_bps > most:
        return f"{claimed_bps / 100:g} % were claimed, {said} were done"
    if claimed_bps < BPS and done < spec.steps and not stop_requested and not late and broke is False:
        return f"it ended after {said}, though nobody had asked and it could have gone on in time"
    return ""


def updates_of(spec: TrainLora, bps: int) -> int:
    """The updates after which a run ended whose share on chain is `bps`: the end, or the checkpoint that the share is
    of. The run's first update when it is of none."""
    if bps >= BPS:
        return spec.steps
    ends = range(spec.first_step + spec.checkpoint_every, spec.steps, spec.checkpoint_every)
    return next((end for end in ends if share_of(spec, end) == bps), spec.first_step)
