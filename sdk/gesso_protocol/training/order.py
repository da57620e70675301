"""Which pictures an update looks at: each epoch shows every picture `repeats` times, in batches of one size."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from gesso_protocol.training.dataset import Sample
from gesso_protocol.training.draws import Draws


@dataclass(frozen=True)
class DataOrder:
    """The order of a run; random access by update, so nothing has to be carried from one step to the next."""

    draws: Draws
    samples: tuple[Sample, ...]
    batch: int
    accumulation: int

    def batches(self, step: int) -> tuple[tuple[int, ...], ...]:
        """Numbers of the pictures of update `step` (from 0): `accumulation` batches, all of one size within a batch."""
        first = step * self.accumulation
        return tuple(self._batch(first + at) for at in range(self.accumulation))

    def _batch(self, number: int) -> tuple[int, ...]:
        epoch, at = divmod(number, _batches_an_epoch(self.samples, self.batch))
        return _epoch(self, epoch)[at]


def _groups(samples: Sequence[Sample]) -> dict[tuple[int, int], list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault((sample.width, sample.height), []).extend([number] * sample.repeats)
    return dict(sorted(groups.items()))


@functools.lru_cache(maxsize=64)
def _batches_an_epoch(samples: tuple[Sample, ...], batch: int) -> int:
    return sum(-(-len(group) // batch) for group in _groups(samples).values())


@functools.lru_cache(maxsize=8)
def _epoch(order: DataOrder, epoch: int) -> tuple[tuple[int, ...], ...]:
    batches: list[tuple[int, ...]] = []
    item = 0
    for group in _groups(order.samples).values():
        keys = {at: order.draws.order_key(epoch, item + at) for at in range(len(group))}
        item += len(group)
        shuffled = [group[at] for at in sorted(keys, key=keys.__getitem__)]
        # the last batch of a size is filled from its beginning: every update costs the same
        shuffled += [shuffled[at % len(shuffled)] for at in range(-len(shuffled) % order.batch)]
        batches += [tuple(shuffled[at : at + order.batch]) for at in range(0, len(shuffled), order.batch)]
    turns = {at: order.draws.order_key(epoch, item + at) for at in range(len(batches))}
    return tuple(batches[at] for at in sorted(turns, key=turns.__getitem__))
