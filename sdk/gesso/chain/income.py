"""What a listing has earned as the board's log tells it: asked for this listing alone, from the newest block backwards.

The board writes one event a transaction for a listing that earned something in it, so this is a small part of its log.
"""

from __future__ import annotations

from dataclasses import dataclass

from gesso.chain.backwards import backwards
from gesso.chain.events import EventDecoder, RoyaltyPaid
from gesso.chain.reach import Reach
from gesso.chain.rpc import Rpc
from gesso_protocol.hashing import word
from gesso_protocol.ids import ListingId
from gesso_protocol.money import Wei


@dataclass(frozen=True, slots=True)
class Income:
    """Royalties in base units; `whole` when every block was looked through, else they are those of the latest."""

    earned: Wei
    whole: bool


async def read_income(rpc: Rpc, decoder: EventDecoder, board: str, listing: ListingId, *, reach: Reach) -> Income:
    """Of all blocks that are looked through. Raises Unreachable, ChainError."""
    whole, earned = False, 0
    async for first, logs in backwards(rpc, board, word(int(listing)), reach=reach):
        events = map(decoder.decode, logs)
        earned += sum(event.amount for event in events if isinstance(event, RoyaltyPaid) and event.listing == listing)
        whole = first == 0
    return Income(Wei(earned), whole)
