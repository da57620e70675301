"""The other nodes: who they are, what they weigh, and which of them are at work.

A node that knows everybody knows from when somebody else may claim a task. Names come from the chain's events, gossip
and relays, all of them hints; the registry says what each weighs, and the sum of weights on the board proves that
nobody is missing. Without that proof nobody is believed to be alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

import anyio
import structlog

from gesso.chain import Chain, NodeState
from gesso_protocol.draw import Draw
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import Address, ListingId, TaskId
from gesso_protocol.sortition import seed_bytes

log = structlog.get_logger("gesso.node.rivals")

LIVELY_FOR_S = 60
"""Who has claimed a task of a model so lately will claim the next one too, if it is drawn."""
ASK_EVERY_S = 15.0
MAX_NODES = 2_000
"""Beyond so many a draw takes longer to compute than it saves."""
MAX_LIVELY = 4_096
AT_ONCE = 32


class Rivals:
    """Kept true by the observer's events and by `run`; a draw is pure arithmetic."""

    def __init__(self, chain: Chain, told: Callable[[], Awaitable[Iterable[Address]]] | None = None) -> None:
        self._chain = chain
        self._told = told
        self._weights: dict[Address, int] = {}
        self._stale: set[Address] = set()
        self._total = 0
        self._per_weight: int | None = None
        self._claimed_at: OrderedDict[tuple[ListingId, Address], int] = OrderedDict()
        self.version = 0
        """Another one whenever a draw may come out differently."""

    def changed(self, node: Address) -> None:
        """Something happened to a node's weight, or to what we know of it."""
        if len(self._weights) + len(self._stale) < MAX_NODES or node in self._weights:
            self._stale.add(node)

    def claimed(self, node: Address, model: ListingId, now: int) -> None:
        """A node was seen to claim a task of a model."""
        self._claimed_at[model, node] = now
        self._claimed_at.move_to_end((model, node))
        while len(self._claimed_at) > MAX_LIVELY:
            self._claimed_at.popitem(last=False)

    def lively(self, model: ListingId, now: int) -> frozenset[Address]:
        """Who seems to be at work on tasks of this model."""
        return frozenset(
            node for (of, node), at in self._claimed_at.items() if of == model and now <= at + LIVELY_FOR_S
        )

    @property
    def complete(self) -> bool:
        """Whether these are proven to be all nodes with weight."""
        return not self._stale and self._total > 0 and sum(self._weights.values()) == self._total

    def draw(self, seed: int, task: TaskId, step_s: int) -> Draw:
        """The draw of one task among those that are known."""
        return Draw.of(seed_bytes(seed), task, self._weights, self._total, step_s)

    async def refresh(self, total_weight: int) -> None:
        """Weigh those of whom something new was heard. Raises Unreachable, ChainError."""
        if self._per_weight is None:
            self._per_weight = int(await self._chain.stake_per_weight())
        if total_weight != self._total:
            self._total = total_weight
            self.version += 1
        stale = list(self._stale)
        for first in range(0, len(stale), AT_ONCE):
            async with anyio.create_task_group() as group:
                for node in stale[first : first + AT_ONCE]:
                    group.start_soon(self._weigh, node, self._per_weight)

    async def run(self) -> None:
        """Until cancelled: ask around for names while somebody is missing."""
        while True:
            if not self.complete and self._told is not None:
                try:
                    for node in await self._told():
                        if node not in self._weights:
                            self.changed(node)
                    await self.refresh(await self._chain.total_weight())
                except GessoError as error:
                    log.debug("rivals.not-asked", code=error.code)
            await anyio.sleep(ASK_EVERY_S)

    async def _weigh(self, node: Address, per_weight: int) -> None:
        """As the board's total counts it: one whose activation still takes a while included."""
        record = await self._chain.node(node)
        weight = int(record.stake) // per_weight if record.state is NodeState.ACTIVE else 0
        if self._weights.get(node) != weight:
            self._weights[node] = weight
            self.version += 1
        self._stale.discard(node)
