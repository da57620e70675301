"""The cheats that a devnet can stage: names and what each one leaves out come from the node's own list."""

from __future__ import annotations

import difflib
from typing import Any

from gesso.cli.output import Output
from gesso_devnet.seed import base_model_folder
from gesso_node.executors.cheats import CHEATS
from gesso_protocol.errors import UsageError

LORA = "missing-lora"
"""The cheat that needs an order with a LoRA."""
AGAIN = ("sold-twice",)
"""Cheats that need a task of the same node before."""


def cheating_executor(engine: str, name: str) -> dict[str, Any]:
    """The executor section of a node that cheats so; with the early weights that a wrong model needs."""
    section: dict[str, Any] = {"engine": engine, "cheat": name, "allow_cheats": True}
    if engine == "diffusers" and base_model_folder() is not None:
        from gesso_devnet import model

        section["child"] = {"options": {"cheat_files": {"early_unet": str(model.early_unet_path())}}}
    return section


def choose_cheat(name: str) -> str:
    """What the cheat does, in words. Raises UsageError for a name that there is not."""
    if name not in CHEATS:
        near = difflib.get_close_matches(name, CHEATS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(CHEATS)}"
        raise UsageError(f"there is no cheat called {name!r}", hint=hint)
    return CHEATS[name]


def list_cheats(out: Output) -> None:
    """Print all of them."""
    rows = [{"cheat": name, "what": what} for name, what in CHEATS.items()]
    out.table(rows, ["cheat", "what"], empty="there are none")
