"""The trainer as the run drives it: one update at a time, its whole state in and out. Engines implement it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gesso.checkpointfile import Shapes, State


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is written into an adapter's files beside its weights. No paths, no names of people's folders."""

    task: str
    spec: str
    base: str
    base_manifest: str
    dataset: str
    trigger: str
    steps: int
    seed: int
    extra: Mapping[str, str]


class Trainer(Protocol):
    """One run's network on one engine. Updates draw from the run's seed and their number, never from a generator."""

    @property
    def shapes(self) -> Shapes:
        """Every trained parameter by its name in the exported file."""
        ...

    def update(self, step: int) -> float:
        """Do update `step` (from 0) and give its loss, which may be no number. Raises MemoryError."""
        ...

    def state(self, step: int) -> State:
        """The state after `step` updates, copied."""
        ...

    def restore(self, state: State) -> None:
        """Go to a state. Raises ModelInvalid when it is of another network."""
        ...

    def loss_at(self, step: int, *, trained: bool) -> float:
        """The loss on the draws of update `step` without learning from it; the base's own when not `trained`."""
        ...

    def sample(self, prompt: str, seed: int) -> tuple[int, int, bytes]:
        """Draw with the present weights: width, height and raw RGB."""
        ...

    def export(self, folder: Path, provenance: Provenance) -> None:
        """Write the adapter's files and prove them by loading. Raises ModelInvalid when a reload differs."""
        ...

    def close(self) -> None:
        """Leave the engine as it was, to the bit."""
        ...
