"""How much gas a transaction may use: asked of the chain, or known from earlier ones of its kind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gesso.chain.rpc import LATEST, Rpc
from gesso_protocol.errors import ChainError

MARGIN_PERCENT = 130
LEAST_MARGIN = 30_000
KEPT = 16
"""Of each kind; limits are made for the hungriest of them."""


class GasLimits:
    """Gas limits within `most`: an endpoint that lies about gas makes a typed error, not an expensive transaction."""

    def __init__(self, rpc: Rpc, most: int) -> None:
        self._rpc = rpc
        self._most = most
        self._used: dict[str, list[int]] = {}
        self._asking: dict[str, asyncio.Future[int | None]] = {}

    async def of(self, message: Mapping[str, Any], *, least: int, kind: str | None, tried: bool = False) -> int:
        """For this call. With a `kind` whose gas is known nothing is asked, and a refusal is found out on chain;
        `tried` has the call made once to hear of one, which costs the chain a fraction of an estimate.

        Raises ChainError above the limit, and what the contract throws if the chain is asked.
        """
        known = self._used.get(kind) if kind is not None else None
        if known:
            needed = max(known)
        elif kind is not None and kind in self._asking:
            needed = await self._shared(kind, message)
        else:
            needed, tried = await self._asked(kind, message), False
        if tried:
            await self._rpc.request("eth_call", dict(message), LATEST)
        gas = max(needed * MARGIN_PERCENT // 100, needed + LEAST_MARGIN, least)
        if gas > self._most:
            raise ChainError(
                f"the chain asks for {gas} gas for one transaction; at most {self._most} is allowed",
                hint="ask another endpoint, or raise `max_gas` in the chain's settings",
            )
        return gas

    async def _asked(self, kind: str | None, message: Mapping[str, Any]) -> int:
        """An estimate, which others of its kind that are asked for meanwhile share."""
        if kind is None:
            return await self._rpc.estimate(message)
        told = self._asking[kind] = asyncio.get_running_loop().create_future()
        needed = None
        try:
            needed = await self._rpc.estimate(message)
            self.learn(kind, needed)
        finally:
            told.set_result(needed)
            del self._asking[kind]
        return needed

    async def _shared(self, kind: str, message: Mapping[str, Any]) -> int:
        """What another one of the kind is told; where that is refused, this one asks for itself."""
        needed = await asyncio.shield(self._asking[kind])
        return await self._rpc.estimate(message) if needed is None else needed

    def learn(self, kind: str | None, gas_used: int | None) -> None:
        """A transaction of this kind succeeded with so much, or was estimated at it."""
        if kind is not None and gas_used is not None:
            self._used[kind] = [*self._used.get(kind, ())[1 - KEPT :], gas_used]

    def forget(self, kind: str | None) -> None:
        """One ran out of it: ask again, what it needs has changed."""
        if kind is not None:
            self._used.pop(kind, None)
