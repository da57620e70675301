"""The other nodes: who they are, what they weigh, which of them are at work, and which let nobody go first.

A node that knows everybody knows from when somebody else may claim a task. Names come from the chain's events, gossip
and relays, all of them hints; the registry says what each weighs, and the sum of weights on the board proves that
nobody is missing. Without that proof nobody is believed to be alone.

Hints are cheap to make up, so a name without weight takes no place that a node could need: nodes with weight are kept
(each costs a stake), strangers are asked about a few at a time and remembered only so as not to be asked about again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence

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
SURELY_FOR_S = 40
"""And so lately that everybody thinks so, also who reads the chain a little later than we do."""
RUDE_FOR_S = 86_400
"""Whoever claims in the turn of a node at work is not counted on for so long: it may have a picture for nothing once a
day for its stake, if its own requester is in on it, and has to do the task all the same."""
MAX_RUDE = 4_096
ASK_EVERY_S = 15.0
MAX_NODES = 2_000
"""Beyond so many a draw takes longer to compute than it saves."""
MAX_LIVELY = 4_096
AT_ONCE = 32
MAX_HINTS = 64
"""Names that somebody only told of, and that one round asks the registry about."""
MAX_WEIGHTLESS = 8_192
"""Names that turned out to weigh nothing; beyond so many the oldest may be asked about again."""


class Rivals:
    """Kept true by the observer's events and by `run`; a draw is pure arithmetic."""

    def __init__(self, chain: Chain, told: Callable[[], Awaitable[Iterable[Address]]] | None = None) -> None:
        self._chain = chain
        self._told = told
        self._weights: dict[Address, int] = {}
        self._stale: set[Address] = set()
        self._hinted: set[Address] = set()
        self._weightless: OrderedDict[Address, None] = OrderedDict()
        self._total = 0
        self._per_weight: int | None = None
        self._claimed_at: OrderedDict[tuple[ListingId, Address], int] = OrderedDict()
        self._rude_at: OrderedDict[Address, int] = OrderedDict()
        self.version = 0
        """Another one whenever a draw may come out differently."""

    def changed(self, node: Address) -> None:
        """The chain says that something happened to a node's weight: each costs gas, so it is always looked at."""
        self._stale.add(node)

    def told(self, node: Address) -> None:
        """Somebody says that there is such a node, which anybody can say of any name."""
        if node not in self._weights and node not in self._weightless and len(self._hinted) < MAX_HINTS:
            self._hinted.add(node)

    def claimed(self, node: Address, model: ListingId, at: int) -> None:
        """A node claimed a task of a model in second `at`."""
        self._claimed_at[model, node] = at
        self._claimed_at.move_to_end((model, node))
        while len(self._claimed_at) > MAX_LIVELY:
            self._claimed_at.popitem(last=False)

    def jumped(self, node: Address, at: int) -> None:
        """A node claimed, in second `at`, in the turn of another one, which was at work."""
        self._rude_at[node] = at
        self._rude_at.move_to_end(node)
        while len(self._rude_at) > MAX_RUDE:
            self._rude_at.popitem(last=False)

    def rude(self, now: int) -> frozenset[Address]:
        """Who is not counted on to let others go first."""
        return frozenset(node for node, at in self._rude_at.items() if now <= at + RUDE_FOR_S)

    def lively(self, model: ListingId, now: int, within_s: int = LIVELY_FOR_S) -> frozenset[Address]:
        """Who seems to be at work on tasks of this model."""
        return frozenset(node for (of, node), at in self._claimed_at.items() if of == model and now <= at + within_s)

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
        await self._weigh_all(list(self._stale), self._per_weight)

    async def run(self) -> None:
        """Until cancelled: ask around for names while somebody is missing."""
        while True:
            if not self.complete and self._told is not None:
                try:
                    await self._ask(self._told)
                except GessoError as error:
                    log.debug("rivals.not-asked", code=error.code)
            await anyio.sleep(ASK_EVERY_S)

    async def _ask(self, told: Callable[[], Awaitable[Iterable[Address]]]) -> None:
        for node in await told():
            self.told(node)
        await self.refresh(await self._chain.total_weight())
        hinted, self._hinted = list(self._hinted), set()
        await self._weigh_all(hinted, self._per_weight or int(await self._chain.stake_per_weight()))

    async def _weigh_all(self, nodes: Sequence[Address], per_weight: int) -> None:
        for first in range(0, len(nodes), AT_ONCE):
            async with anyio.create_task_group() as group:
                for node in nodes[first : first + AT_ONCE]:
                    group.start_soon(self._weigh, node, per_weight)

    async def _weigh(self, node: Address, per_weight: int) -> None:
        """As the board's total counts it: one whose activation still takes a while included."""
        record = await self._chain.node(node)
        weight = int(record.stake) // per_weight if record.state is NodeState.ACTIVE else 0
        if self._weights.get(node, 0) != weight:
            self.version += 1
        self._keep(node, weight)
        self._stale.discard(node)

    def _keep(self, node: Address, weight: int) -> None:
        if weight == 0:
            self._weights.pop(node, None)
            self._weightless[node] = None
            self._weightless.move_to_end(node)
            while len(self._weightless) > MAX_WEIGHTLESS:
                self._weightless.popitem(last=False)
        elif node in self._weights or len(self._weights) < MAX_NODES:
            self._weights[node] = weight
            self._weightless.pop(node, None)
