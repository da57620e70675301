"""What the chain does by itself: transactions that were signed beforehand, posted by as many wallets at once.

Transfers of tokens, and the calls that tasks are made of. Used by `throughput`, not by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import psutil

import _venv  # noqa: F401 - puts the virtual environment in charge
from gesso.chain import Chain, ChainSettings, Wallet
from gesso.chain.abi import function
from gesso.chain.rpc import Rpc
from gesso_contracts import DEV_TOKEN, TASK_BOARD
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import BlobRef
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms

Call: TypeAlias = tuple[str, bytes, int]
"""To whom, what, and for how much gas at most."""

TRANSFERS = 1500
AT_ONCE = 64
SETTLE_BATCH = 50
FEE = Wei(10**16)
WINDOW_S = 3600
LATER_S = 60
"""By then everybody is drawn and a challenge window is over."""
PRICE = 10**11
STUCK_S = 2.0
ROOM = 200_000
"""Gas that no submit, claim or commit needs."""


@dataclass(frozen=True)
class Run:
    """One stretch of work: how much a second, and the processor seconds that it took on each side."""

    per_s: float
    chain_cpu_s: float
    clients_cpu_s: float
    wall_s: float


def chain_cpu_s() -> float:
    """Processor seconds of the chain's process so far."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True) if "python" not in child.name()]
    return sum(each.user + each.system for each in times)


def own_cpu_s() -> float:
    used = psutil.Process().cpu_times()
    return float(used.user + used.system)


async def transfers(rpc: Rpc, wallets: Sequence[Wallet], token: str) -> Run:
    """Transactions a second; posts are shared as everywhere in the adapter."""
    data = function(DEV_TOKEN, "transfer").encode(str(wallets[0].address), 1)
    return await posted(rpc, {wallet: [(token, data, 80_000)] * (TRANSFERS // len(wallets)) for wallet in wallets})


async def calls_of_tasks(
    rpc: Rpc, settings: ChainSettings, requester: Wallet, nodes: Sequence[Wallet], tasks: int
) -> Run:
    """Tasks a second without those who make them: all submits, all claims and commits, all settles, in three waves.
    Between waves the chain's clock is put forward, so nobody waits for a draw or a window."""
    async with Chain.open(settings, requester) as chain:
        await chain.deposit(Wei(FEE * tasks))
        terms = [_terms(requester, number) for number in range(tasks)]
        shares = {node: terms[place :: len(nodes)] for place, node in enumerate(nodes)}
        board = str(settings.contracts.task_board)
        submits = [(board, _call("submit", each.as_tuple()), ROOM) for each in terms]
        waves = [await posted(rpc, {requester: submits})]
        for wave in (_works, _settles):
            await rpc.request("evm_setNextBlockTimestamp", (await rpc.latest()).timestamp + LATER_S)
            waves.append(await posted(rpc, {node: wave(board, share) for node, share in shares.items()}))
        states = {(await chain.task(chain.task_id(each))).state for each in terms[:: max(1, tasks // 20)]}
        if states != {TaskState.SETTLED}:
            raise ChainError("calls that were signed beforehand did not settle their tasks")
    wall_s = sum(wave.wall_s for wave in waves)
    chain_s, clients_s = sum(wave.chain_cpu_s for wave in waves), sum(wave.clients_cpu_s for wave in waves)
    return Run(tasks / wall_s, chain_s, clients_s, wall_s)


async def posted(rpc: Rpc, calls: Mapping[Wallet, Sequence[Call]]) -> Run:
    """Each wallet's in their order, until the last of each is mined."""
    chain_id = await rpc.chain_id()
    rows = [await Row.signed(rpc, wallet, each, chain_id) for wallet, each in calls.items() if each]
    before, ours, start = chain_cpu_s(), own_cpu_s(), time.perf_counter()
    await asyncio.gather(*(row.send(rpc) for row in rows))
    for row in rows:
        await row.mined(rpc)
    wall_s = time.perf_counter() - start
    count = sum(len(row.calls) for row in rows)
    return Run(count / wall_s, chain_cpu_s() - before, own_cpu_s() - ours, wall_s)


@dataclass(frozen=True)
class Row:
    """One wallet's transactions, numbered from `first`."""

    wallet: Wallet
    calls: Sequence[Call]
    first: int
    chain_id: int
    raws: Sequence[bytes]

    @classmethod
    async def signed(cls, rpc: Rpc, wallet: Wallet, calls: Sequence[Call], chain_id: int) -> Row:
        first = await rpc.nonce(wallet.address, pending=True)
        raws = [_sign(wallet, call, nonce, chain_id, PRICE) for nonce, call in enumerate(calls, first)]
        return cls(wallet, calls, first, chain_id, raws)

    async def send(self, rpc: Rpc) -> None:
        for place in range(0, len(self.raws), AT_ONCE):
            for error in await rpc.send_all(self.raws[place : place + AT_ONCE]):
                if error is not None:
                    raise error

    async def mined(self, rpc: Rpc) -> None:
        """A burst can strand one in the pool, and all behind it: it is sent again at another price."""
        moved, count, price = time.perf_counter(), -1, PRICE
        while (found := await rpc.nonce(self.wallet.address, pending=False)) < self.first + len(self.calls):
            if found != count:
                moved, count = time.perf_counter(), found
            elif time.perf_counter() - moved > STUCK_S:
                moved, price = time.perf_counter(), 2 * price
                await rpc.send_all([_sign(self.wallet, self.calls[found - self.first], found, self.chain_id, price)])
            await asyncio.sleep(0.02)


def _sign(wallet: Wallet, call: Call, nonce: int, chain_id: int, price: int) -> bytes:
    to, data, gas = call
    prices = {"maxFeePerGas": price, "maxPriorityFeePerGas": price // 10**5}
    same = {"type": 2, "chainId": chain_id, "value": 0, "to": to, "data": data, "gas": gas, "nonce": nonce}
    return wallet.sign_transaction({**same, **prices}).raw


def _terms(requester: Wallet, number: int) -> Terms:
    return Terms(
        requester=requester.address,
        fee=FEE,
        spec=BlobRef.of(b"bench"),
        claim_window_s=WINDOW_S,
        commit_window_s=WINDOW_S,
        nonce=10**15 + number,
    )


def _call(name: str, *arguments: object) -> bytes:
    return function(TASK_BOARD, name).encode(*arguments)


def _works(board: str, terms: Sequence[Terms]) -> list[Call]:
    calls = list[Call]()
    for each in terms:
        calls.append((board, _call("claim", each.as_tuple()), ROOM))
        calls.append((board, _call("commit", each.as_tuple(), each.spec.value, bytes(32)), ROOM))
    return calls


def _settles(board: str, terms: Sequence[Terms]) -> list[Call]:
    batches = [terms[place : place + SETTLE_BATCH] for place in range(0, len(terms), SETTLE_BATCH)]
    return [(board, _call("settle", [each.as_tuple() for each in batch]), ROOM * len(batch)) for batch in batches]
