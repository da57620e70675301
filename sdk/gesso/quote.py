"""What a task would cost, and who could run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gesso_protocol.errors import FeeTooLow, NoEligibleNode
from gesso_protocol.ids import Address
from gesso_protocol.money import BPS, Split, Wei, format_amount, split_fee
from gesso_protocol.policy import Offer
from gesso_protocol.spec import TextToImage

FALLBACK_FEE = Wei(10**16)
"""0.01 tokens: offered when no node has said its price yet."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A price in base units of the fee token. `known_nodes` is None when nobody could be asked."""

    fee: Wei
    min_fee: Wei
    split: Split
    eligible: tuple[Address, ...]
    known_nodes: int | None

    def document(self) -> dict[str, Any]:
        """For printing; money in whole tokens."""
        return {
            "fee": format_amount(self.fee),
            "min_fee": format_amount(self.min_fee),
            "to_node": format_amount(self.split.node),
            "royalty": format_amount(self.split.royalty),
            "protocol": format_amount(self.split.protocol),
            "eligible_nodes": len(self.eligible),
        }


def make_quote(
    spec: TextToImage,
    offers: dict[Address, Offer] | None,
    *,
    fee: Wei | None,
    min_fee: Wei,
    royalty_bps: int,
    protocol_bps: int,
) -> Quote:
    """The cheapest price at which somebody works, or a check of the offered `fee`.

    `offers` None means that nobody could be asked. Raises NoEligibleNode, FeeTooLow with what would do.
    """
    taken_bps = royalty_bps + protocol_bps
    prices = {
        node: gross(offer.price.quote(spec), taken_bps) for node, offer in (offers or {}).items() if fits(spec, offer)
    }
    if offers and not prices:
        raise NoEligibleNode(
            f"none of the {len(offers)} known nodes takes {spec.width}x{spec.height} pixels and {spec.steps} steps",
            hint="choose a smaller size or another model: gesso model ls",
        )
    cheapest = max(min(prices.values(), default=FALLBACK_FEE), min_fee)
    chosen = cheapest if fee is None else fee
    floor = max(min_fee, min(prices.values(), default=Wei(0)))
    if chosen < floor:
        raise FeeTooLow(
            f"{format_amount(chosen)} is offered and {format_amount(floor)} is asked",
            hint=f"offer more: --fee {format_amount(floor)}",
        )
    eligible = tuple(node for node, price in prices.items() if price <= chosen)
    split = split_fee(chosen, royalty_bps, protocol_bps)
    return Quote(chosen, min_fee, split, eligible, None if offers is None else len(offers))


def check_ceiling(quote: Quote, max_fee: Wei | None) -> None:
    """Raises FeeTooLow when the price is above what the caller allows."""
    if max_fee is not None and quote.fee > max_fee:
        raise FeeTooLow(
            f"the price is {format_amount(quote.fee)} and at most {format_amount(max_fee)} is allowed",
            hint=f"allow more: --max-fee {format_amount(quote.fee)}",
        )


def fits(spec: TextToImage, offer: Offer) -> bool:
    """Whether a node's public offer covers the spec. Its models are not asked for: nodes may fetch what they lack."""
    return (
        spec.kind in offer.kinds
        and spec.dtype in offer.dtypes
        and spec.width * spec.height <= offer.max_pixels
        and spec.steps <= offer.max_steps
        and spec.count <= offer.max_count
    )


def gross(net: Wei, taken_bps: int) -> Wei:
    """The least fee of which at least `net` is left after royalty and protocol fee."""
    if taken_bps >= BPS:
        return net
    return Wei(-(-int(net) * BPS // (BPS - taken_bps)))
