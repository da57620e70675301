"""A network's beacon: what a round yielded, who is asked for it, and how it gets onto the chain.

Two kinds. A beacon of block hashes speaks when somebody makes it, by a transaction that anyone sends. drand's rounds
are public by themselves: whoever needs one asks drand's servers and has the contract check the answer, in a call that
costs nothing. Its seed is known from then on; it is written onto the chain only for tasks that are really audited.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio

from gesso.chain.drand import DrandServers
from gesso.chain.mined import Mined
from gesso.chain.words import Values
from gesso_contracts import BLOCK_BEACON, DRAND_BEACON, Contract
from gesso_protocol import drand
from gesso_protocol.errors import ChainReverted, Unreachable

_log = logging.getLogger(__name__)

_Known = TypeVar("_Known")
NOTHING = bytes(32)
BEACON_LEAST_GAS = 120_000
"""A round may begin between estimate and block, and then a poke writes more than it was estimated for."""
PROOF_LEAST_GAS = 300_000
"""A round may have been known at the estimate, and not any more after a reorganisation."""
MAX_HEARD = 4096
ASK_AGAIN_S = 1.0
"""drand's servers are not asked more often for one round that they do not have."""


class Read(Protocol):
    def __call__(self, contract: Contract, name: str, *arguments: object) -> Awaitable[Values]: ...


class Send(Protocol):
    def __call__(self, contract: Contract, name: str, *arguments: object, least_gas: int = 0) -> Awaitable[Mined]: ...


@dataclass(frozen=True, slots=True)
class BeaconClock:
    """When rounds begin, in chain seconds: round `round` at `start`, the others every `period_s`. What a round yields
    can be known `lag_s` after its beginning."""

    round: int
    start: int
    period_s: int
    lag_s: int = 0

    def round_at(self, second: int) -> int:
        """The round that is current at `second`."""
        return self.round + (second - self.start) // self.period_s

    def start_of(self, round_: int) -> int:
        """First second of a round."""
        return self.start + (round_ - self.round) * self.period_s


class Beacon:
    """Calls to one network's beacon. `servers` are asked where it is drand's."""

    def __init__(
        self, read: Read, send: Send, servers: DrandServers, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._read = read
        self._send = send
        self._servers = servers
        self._wall_clock = wall_clock
        self._stride: int | None = None
        """Rounds of drand to one of the beacon's; 0 where the beacon is another."""
        self._clock: BeaconClock | None = None
        self._heard: dict[int, bytes] = {}
        """Signatures that the contract called right, compressed."""
        self._asked_at: dict[int, float] = {}
        self._asking = anyio.Lock()
        self._fixing = anyio.Lock()

    async def is_drand(self) -> bool:
        """Whether rounds are drand's."""
        if self._stride is None:
            try:
                self._stride = int((await self._read(DRAND_BEACON, "stride"))[0])
            except ChainReverted:
                self._stride = 0
        return self._stride > 0

    async def clock(self) -> BeaconClock:
        """The beacon's rounds, to be computed without asking again: they are all of one length."""
        if self._clock is None:
            lag_s = int((await self._read(DRAND_BEACON, "lag"))[0]) if await self.is_drand() else 0
            round_ = await self.round_at(int(time.time()))
            first, second = await self.start_of(round_), await self.start_of(round_ + 1)
            self._clock = BeaconClock(round_, first, second - first, lag_s)
        return self._clock

    async def round_at(self, second: int) -> int:
        """The beacon's round that is current at that chain second."""
        return int((await self._read(BLOCK_BEACON, "roundAt", second))[0])

    async def start_of(self, round_: int) -> int:
        """First chain second of a round."""
        return int((await self._read(BLOCK_BEACON, "startOf", round_))[0])

    async def seed_of(self, round_: int) -> bytes | None:
        """32 bytes, or None while they are not known here. Asks the chain only."""
        heard = self._heard.get(round_)
        return await self.seed_on_chain(round_) if heard is None else drand.seed_of(heard)

    async def seed_on_chain(self, round_: int) -> bytes | None:
        """32 bytes, or None while no transaction has fixed them."""
        (seed,) = await self._read(BLOCK_BEACON, "seedOf", round_)
        return None if seed == NOTHING else bytes(seed)

    async def listen(self, round_: int) -> bytes | None:
        """As `seed_of`, and where the beacon is drand's its servers are asked too. Sends nothing to the chain."""
        seed = await self.seed_of(round_)
        if seed is not None or not await self.is_drand():
            return seed
        async with self._asking:
            if round_ not in self._heard and self._may_ask(round_):
                await self._ask(round_)
        heard = self._heard.get(round_)
        return None if heard is None else drand.seed_of(heard)

    async def resolve(self, round_: int) -> None:
        """Have a round that has begun speak: a beacon of block hashes by a transaction, drand by asking its servers."""
        if await self.is_drand():
            await self.listen(round_)
        else:
            await self._send(BLOCK_BEACON, "resolve", round_, least_gas=BEACON_LEAST_GAS)

    async def fix(self, round_: int) -> None:
        """Have the chain know a round, whoever pays for it; free where it does. Needed before a seat is taken.

        Raises Unreachable while drand's servers do not have the round.
        """
        async with self._fixing:
            if await self.seed_on_chain(round_) is not None:
                return
            await self.resolve(round_)
            if not await self.is_drand():
                return
            heard = self._heard.get(round_)
            if heard is None:
                raise Unreachable("drand's servers do not have this round yet", hint="it is asked for again")
            await self._send(DRAND_BEACON, "prove", round_, drand.uncompress(heard), least_gas=PROOF_LEAST_GAS)

    def _may_ask(self, round_: int) -> bool:
        """A stranger may have us look for a round, but not without end, nor before it can be there."""
        now = self._wall_clock()
        if now < drand.published_at(self._number(round_)) or now < self._asked_at.get(round_, 0.0) + ASK_AGAIN_S:
            return False
        _bounded(self._asked_at)[round_] = now
        return True

    def _number(self, round_: int) -> int:
        """drand's own number of a round."""
        return round_ * (self._stride or 1)

    async def _ask(self, round_: int) -> None:
        async with aclosing(self._servers.signatures(self._number(round_))) as found:
            async for server, signature in found:
                if await self._is_right(server, round_, signature):
                    self._servers.prefer(server)
                    _bounded(self._heard)[round_] = signature
                    return

    async def _is_right(self, server: str, round_: int, signature: bytes) -> bool:
        """What the contract itself says, before anybody pays for saying so."""
        try:
            await self._read(DRAND_BEACON, "prove", round_, drand.uncompress(signature))
        except ChainReverted as refusal:
            _log.warning("drand server %s lies about round %d: %s", server, round_, refusal.name)
            return False
        return True


def _bounded(known: dict[int, _Known]) -> dict[int, _Known]:
    while len(known) >= MAX_HEARD:
        known.pop(next(iter(known)))
    return known
