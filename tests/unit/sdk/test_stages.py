"""What the demo says about the stages of a task: those that it went through, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso_devnet.demo import Stages

PLAIN = {"submit", "claim", "execute", "commit", "settle", "fetch", "total"}


@pytest.mark.parametrize(
    ("kinds", "more"),
    [
        ((), set()),
        (("audit-opened", "audit-closed"), {"audit"}),
        (("audit-opened", "audit-closed", "dispute-executed"), {"audit", "dispute"}),
    ],
)
def test_only_what_happened_is_a_stage(kinds: tuple[str, ...], more: set[str]) -> None:
    """A new node's task is drawn one time in five: it has no dispute for that."""
    stages = Stages(0.0)
    for kind in ("submitted", "claimed", "step", "committed", "fetched", *kinds, "settled"):
        stages.note(cast("Any", SimpleNamespace(kind=kind)))
    assert set(stages.durations(1.0)) == PLAIN | more
