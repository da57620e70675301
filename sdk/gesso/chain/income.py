"""What a listing has earned as the board's log tells it: asked for this listing alone, from the newest block backwards.

The board writes one event a transaction for a listing that earned something in it, so this is a small part of its log.
Bounded, as a chain can be older than anybody wants to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass

from gesso.chain.course import MAX_RANGES, logs_up_to
from gesso.chain.events import EventDecoder, RoyaltyPaid
from gesso.chain.rpc import Rpc
from gesso_protocol.hashing import word
from gesso_protocol.ids import ListingId
from gesso_protocol.money import Wei


@dataclass(frozen=True, slots=True)
class Income:
    """Royalties in base units; `whole` when every block was looked through, else they are those of the latest."""

    earned: Wei
    whole: bool


async def read_income(rpc: Rpc, decoder: EventDecoder, board: str, listing: ListingId, *, max_range: int) -> Income:
    """From at most `MAX_RANGES` ranges. Raises Unreachable, ChainError."""
    last, reach, earned = (await rpc.latest()).number, max_range, 0
    for _ in range(MAX_RANGES):
        if last < 0:
            break
        reach, logs = await logs_up_to(rpc, board, word(int(listing)), last, reach)
        events = map(decoder.decode, logs)
        earned += sum(event.amount for event in events if isinstance(event, RoyaltyPaid) and event.listing == listing)
        last -= reach
    return Income(Wei(earned), last < 0)
