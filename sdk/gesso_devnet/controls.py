"""Hands on a running local chain: its clock, its snapshots, its faucet."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gesso.chain.rpc import Rpc
from gesso.chain.settings import ContractAddresses
from gesso.chain.wallet import Wallet
from gesso_devnet.chain import funding
from gesso_devnet.chain.accounts import known_accounts
from gesso_protocol.errors import UsageError
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei

TIMEOUT_S = 10.0
MAX_WARP_S = 365 * 86_400
_DURATION = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> int:
    """Seconds from 90, 90s, 15m, 1h or 2d. Raises UsageError."""
    parts = _DURATION.fullmatch(text.strip())
    seconds = int(parts[1]) * _UNIT_S[parts[2]] if parts else 0
    if not 0 < seconds <= MAX_WARP_S:
        raise UsageError(f"{text!r} is not a time span", hint="write 90s, 15m, 1h or 2d, at most a year")
    return seconds


async def warp(rpc_url: str, seconds: int) -> int:
    """Move the chain's clock forward and mine a block; returns the chain's time, unix seconds."""
    async with Rpc(rpc_url, timeout_s=TIMEOUT_S) as rpc:
        await rpc.request("evm_increaseTime", seconds)
        await rpc.request("evm_mine")
        return (await rpc.latest()).timestamp


@asynccontextmanager
async def at_once(rpc_url: str) -> AsyncIterator[None]:
    """Meanwhile whatever is sent to an embedded chain is mined as it comes, beside the regular blocks. Not for anvil,
    which makes either kind of block and forgets the other."""
    async with Rpc(rpc_url, timeout_s=TIMEOUT_S) as rpc:
        await rpc.request("evm_setAutomine", True)
        yield
        await rpc.request("evm_setAutomine", False)


async def snapshot(rpc_url: str) -> str:
    """Remember the chain's state; returns the name to restore it by."""
    async with Rpc(rpc_url, timeout_s=TIMEOUT_S) as rpc:
        return str(await rpc.request("evm_snapshot"))


async def restore(rpc_url: str, name: str) -> None:
    """Go back to a snapshot; it and all later ones are used up. Raises UsageError when there is none."""
    async with Rpc(rpc_url, timeout_s=TIMEOUT_S) as rpc:
        if not await rpc.request("evm_revert", name):
            raise UsageError(f"there is no snapshot {name!r}", hint="make one: gesso devnet snapshot")


async def fund(rpc_url: str, contracts: ContractAddresses, account: Address, tokens: Wei) -> None:
    """New fee tokens (base units) and some gas money for an account."""
    deployer = Wallet.from_key(known_accounts(1)[0].key)
    await funding.fund(rpc_url, contracts, deployer, {account: funding.Funds(tokens=tokens)})
