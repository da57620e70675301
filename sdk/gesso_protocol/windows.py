"""How long a node may take for a task when its requester says nothing: by the work, so that nodes that know no better
than their kind of machine can take it."""

from __future__ import annotations

from gesso_protocol.spec import Spec, TrainLora
from gesso_protocol.training.window import LONGEST_WINDOW_S, UNMEASURED_S, window_for

SHORTEST_PICTURE_WINDOW_S = 600
FETCHING_S = 60


def commit_window(spec: Spec) -> int:
    """Seconds, generously: a lost node is not waited for longer than that."""
    if isinstance(spec, TrainLora):
        return window_for(spec)
    needed = FETCHING_S - (-spec.pixel_steps * int(UNMEASURED_S) // 10**6)
    return max(SHORTEST_PICTURE_WINDOW_S, min(needed, LONGEST_WINDOW_S))
