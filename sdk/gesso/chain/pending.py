"""Claims that wait for their block: how long that takes, and whether one would be in the next, and go through.

That an endpoint knows a transaction says little: it may have failed long ago, wait behind a gap for ever, pay too
little for any block, or run out of gas in one. Nor is what holds now binding: whoever sent it may put another
transaction of the same number in its place while it waits.
"""

from __future__ import annotations

import asyncio
from math import inf

from gesso.chain.rpc import Header, Rpc
from gesso_protocol.errors import GessoError, Unreachable
from gesso_protocol.ids import Address

BASE_FEE_STEP = 8
"""A block's base fee is at most an eighth above that of the one before it (EIP-1559)."""
INTERVAL_BLOCKS = 16
"""Enough for whole seconds to tell an interval by, few enough to notice a chain that has become slow."""


async def goes_next(rpc: Rpc, tx_hash: str, sender: Address, to: Address, data: bytes) -> bool:
    """Whether this transaction is `sender`'s call, waits, can be in the very next block, and does not fail there as
    things stand. False too once it is in a block: what became of it is then for the contract to tell.

    Raises Unreachable, ChainError.
    """
    found, count, head, coins = await asyncio.gather(
        rpc.transaction(tx_hash), rpc.nonce(sender, pending=False), rpc.latest(), rpc.balance(sender)
    )
    if found is None or found.block is not None:
        return False
    if (found.sender, found.to, found.data) != (sender.lower(), to.lower(), data):
        return False
    payable = most_base_fee(head) <= found.most and found.gas * found.most <= coins
    return payable and found.nonce == count and await _succeeds(rpc, sender, to, data, found.gas)


def most_base_fee(head: Header) -> int:
    """What a unit of gas may cost in the block after this one, before any tip."""
    return head.base_fee + max(head.base_fee // BASE_FEE_STEP, 1)


async def interval_s(rpc: Rpc) -> float:
    """Seconds from block to block, over the last `INTERVAL_BLOCKS`; infinitely many while there are none to tell by."""
    head = await rpc.latest()
    first = await rpc.header(max(0, head.number - INTERVAL_BLOCKS))
    if first is None or first.number >= head.number:
        return inf
    return (head.timestamp - first.timestamp) / (head.number - first.number)


async def _succeeds(rpc: Rpc, sender: Address, to: Address, data: bytes, gas: int) -> bool:
    try:
        await rpc.call(to, data, sender=sender, gas=gas)
    except Unreachable:
        raise
    except GessoError:  # the contract's own no, or the endpoint's: it ran out of gas
        return False
    return True
