"""How much gas a transaction may use: asked of the chain, or known from the last ones of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gesso.chain.rpc import LATEST, Rpc
from gesso_protocol.errors import ChainError

MARGIN_PERCENT = 130
LEAST_MARGIN = 30_000
LEARNT_AFTER = 3
"""Transactions of a kind before their gas is believed to be known."""


class GasLimits:
    """Gas limits within `most`: an endpoint that lies about gas makes a typed error, not an expensive transaction."""

    def __init__(self, rpc: Rpc, most: int) -> None:
        self._rpc = rpc
        self._most = most
        self._used: dict[str, list[int]] = {}

    async def of(self, message: Mapping[str, Any], *, least: int, kind: str | None, tried: bool = False) -> int:
        """For this call. With a `kind` whose gas is known nothing is asked, and a refusal is found out on chain;
        `tried` has the call made once to hear of one, which costs the chain a fraction of an estimate.

        Raises ChainError above the limit, and what the contract throws if the chain is asked.
        """
        known = self._used.get(kind, []) if kind is not None else []
        if len(known) < LEARNT_AFTER:
            needed = await self._rpc.estimate(message)
        else:
            needed = max(known)
            if tried:
                await self._rpc.request("eth_call", dict(message), LATEST)
        gas = max(needed * MARGIN_PERCENT // 100, needed + LEAST_MARGIN, least)
        if gas > self._most:
            raise ChainError(
                f"the chain asks for {gas} gas for one transaction; at most {self._most} is allowed",
                hint="ask another endpoint, or raise `max_gas` in the chain's settings",
            )
        return gas

    def learn(self, kind: str | None, gas_used: int) -> None:
        """A transaction of this kind succeeded with so much."""
        if kind is not None:
            self._used[kind] = [*self._used.get(kind, ())[-15:], gas_used]

    def forget(self, kind: str | None) -> None:
        """One failed: ask again, what it needs may have changed."""
        if kind is not None:
            self._used.pop(kind, None)
