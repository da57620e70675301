"""How long a node may take for a training: what its requester gives and what a node asks for are one rule."""

from __future__ import annotations

from gesso_protocol.training.share import late_from
from gesso_protocol.training.spec import TrainLora

UNMEASURED_S = 10.0
"""Seconds a megapixel-step that a machine without an accelerator takes for its pace before it has measured one: several
times what two cores need for a small base."""
LOADING_S = 300
"""For the base and the data set to be fetched and loaded."""
SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 900, 24 * 3600


def window_needed(spec: TrainLora) -> int:
    """The commit window in which any machine can do it: nine tenths of it hold the work at the unmeasured pace."""
    seconds = LOADING_S + -(-spec.pixel_steps * int(UNMEASURED_S) // 10**6)
    window = -(-seconds * 10 // 9)
    assert late_from(0, window) >= seconds
    return window


def haste_of(spec: TrainLora, window_s: int) -> str:
    """Who can do it in such a window, in words; nothing where any machine can."""
    if window_s >= window_needed(spec):
        return ""
    pace = late_from(0, window_s) * 10**6 / spec.pixel_steps
    return f"only nodes that need less than {pace:.3g} s a megapixel-step can do this in {window_s:,} s and take it"


def window_for(spec: TrainLora) -> int:
    """How many seconds a node may take for this work, generously: a lost node is not waited for longer than that. What
    needs more than `LONGEST_WINDOW_S` is for machines with an accelerator."""
    return max(SHORTEST_WINDOW_S, min(window_needed(spec), LONGEST_WINDOW_S))
