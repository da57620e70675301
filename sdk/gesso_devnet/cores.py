"""What the nodes of a devnet run their models with: one machine's cores, shared out."""

from __future__ import annotations

import os
from typing import Any

from gesso_devnet.cheats import cheating_executor


def executor_section(engine: str, nodes: int, cheat: str | None = None) -> dict[str, Any]:
    """The executor section of one of so many nodes: each would take all cores, and spend them on waiting for others."""
    section: dict[str, Any] = {"engine": engine} if cheat is None else cheating_executor(engine, cheat)
    return {**section, "child": {"threads": threads_each(nodes), **section.get("child", {})}}


def threads_each(nodes: int) -> int:
    """CPU threads of each node's child. Two where there are two cores, as most of the time one node draws alone."""
    cores = len(os.sched_getaffinity(0))
    return max(min(cores, 2), cores // max(1, nodes))
