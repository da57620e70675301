"""What a task would cost, and who could run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gesso_protocol.errors import FeeTooLow, NoEligibleNode, UsageError
from gesso_protocol.ids import Address
from gesso_protocol.money import BPS, Split, Wei, format_amount, parse_amount, split_along
from gesso_protocol.policy import Offer, Refusal, misfit
from gesso_protocol.spec import Spec, TrainLora
from gesso_protocol.terms import AuditMode
from gesso_protocol.training.disk import needed_bytes

AuditChoice: TypeAlias = Literal["sampled", "always", "none"]
"""How often a task is audited: at the node's own rate, for certain (this costs the audit fee), or never by lot."""
AUDIT_MODES: dict[str, AuditMode] = {mode.name.lower(): mode for mode in AuditMode}

_CHOICES: tuple[AuditChoice, ...] = ("sampled", "always", "none")

FALLBACK_FEE = Wei(10**16)
"""0.01 tokens: offered when no node has said its price yet."""
_NOTHING = Wei(0)


@dataclass(frozen=True, slots=True)
class Quote:
    """A price in base units of the fee token. `known_nodes` is None when nobody could be asked."""

    fee: Wei
    min_fee: Wei
    split: Split
    eligible: tuple[Address, ...]
    known_nodes: int | None
    audit: AuditChoice = "sampled"
    audit_fee: Wei = _NOTHING
    """Taken beside the fee where an audit is asked for; it comes back if nobody audits."""
    disk_bytes: int = 0
    """What a training's checkpoints take at its node, rather too much than too little."""

    @property
    def total(self) -> Wei:
        """What leaves the deposit when the task is submitted."""
        return Wei(int(self.fee) + int(self.audit_fee))

    def document(self) -> dict[str, Any]:
        """For printing; money in whole tokens."""
        disk = {"disk_at_node": readable_bytes(self.disk_bytes)} if self.disk_bytes else {}
        return {
            "fee": format_amount(self.fee),
            "min_fee": format_amount(self.min_fee),
            "to_node": format_amount(self.split.node),
            "royalty": format_amount(self.split.royalty),
            "protocol": format_amount(self.split.protocol),
            "eligible_nodes": len(self.eligible),
            "audit": self.audit,
            "audit_fee": format_amount(self.audit_fee),
            "total": format_amount(self.total),
            **disk,
        }


def make_quote(
    spec: Spec,
    offers: dict[Address, Offer] | None,
    *,
    fee: Wei | None,
    min_fee: Wei,
    royalties_bps: Sequence[int],
    protocol_bps: int,
    audit: AuditChoice = "sampled",
    audit_fee: Wei = _NOTHING,
    base_bytes: int = 0,
) -> Quote:
    """The cheapest price at which somebody works, or a check of the offered `fee`.

    `offers` None means that nobody could be asked; `base_bytes` is what the files of a training's base weigh. Raises
    NoEligibleNode, FeeTooLow with what would do.
    """
    taken_bps = sum(royalties_bps) + protocol_bps
    misfits = {node: misfit(spec, offer, base_bytes) for node, offer in (offers or {}).items()}
    prices = {
        node: gross(offer.price.quote(spec, base_bytes), taken_bps)
        for node, offer in (offers or {}).items()
        if misfits[node] is None
    }
    if offers and not prices:
        raise _nobody(spec, offers, misfits, base_bytes)
    cheapest = readable(max(min(prices.values(), default=FALLBACK_FEE), min_fee))
    chosen = cheapest if fee is None else fee
    floor = max(min_fee, min(prices.values(), default=Wei(0)))
    if chosen < floor:
        enough = format_amount(readable(floor))
        raise FeeTooLow(f"{format_amount(chosen)} is offered and {enough} is asked", hint=f"offer more: --fee {enough}")
    eligible = tuple(node for node, price in prices.items() if price <= chosen)
    shares = split_along(chosen, royalties_bps, protocol_bps)
    split = Split(node=shares.node, royalty=shares.royalty, protocol=shares.protocol)
    asked = audit_fee if audit == "always" else _NOTHING
    disk = needed_bytes(spec, base_bytes) if isinstance(spec, TrainLora) else 0
    return Quote(chosen, min_fee, split, eligible, None if offers is None else len(offers), audit, asked, disk)


def audit_mode(choice: str) -> AuditMode:
    """The number that goes into the terms. Raises UsageError for anything but sampled, always or none."""
    if choice not in AUDIT_MODES:
        raise UsageError(f"{choice!r} is no kind of audit", hint="sampled, always or none")
    return AUDIT_MODES[choice]


def audit_choice(mode: AuditMode) -> AuditChoice:
    """The word for what stands in terms."""
    return next((word for word in _CHOICES if AUDIT_MODES[word] is mode), "sampled")


def check_ceiling(quote: Quote, max_fee: Wei | None) -> None:
    """Raises FeeTooLow when the price is above what the caller allows."""
    if max_fee is not None and quote.total > max_fee:
        audit = " with its audit" if quote.audit_fee else ""
        raise FeeTooLow(
            f"the price{audit} is {format_amount(quote.total)} and at most {format_amount(max_fee)} is allowed",
            hint=f"allow more: --max-fee {format_amount(quote.total)}",
        )


def ceiling_of_each(quote: Quote, count: int, max_fee: str | None, max_total: str | None) -> Wei:
    """What each of `count` like orders may cost, however long they take and whatever nodes ask by then: the price of
    now, unless more is allowed. Raises FeeTooLow when that is too much already, UsageError for what is no amount."""
    allowed = [quote.total if max_fee is None else parse_amount(max_fee)]
    if max_total is not None:
        allowed.append(Wei(parse_amount(max_total) // count))
    check_ceiling(quote, min(allowed))
    return min(allowed)


def _nobody(
    spec: Spec, offers: dict[Address, Offer], misfits: dict[Address, Refusal | None], base_bytes: int
) -> NoEligibleNode:
    near = [offers[node] for node, why in misfits.items() if why is Refusal.DISK]
    if isinstance(spec, TrainLora) and near:
        most = max(offer.max_training_disk_bytes for offer in near)
        return NoEligibleNode(
            f"no known node gives this training {readable_bytes(needed_bytes(spec, base_bytes))} of disk for its"
            f" {spec.checkpoints} checkpoints; the most that one gives is {readable_bytes(most)}",
            hint="make fewer of them with a larger --checkpoint-every, or smaller ones with a lower --rank",
        )
    return NoEligibleNode(
        f"none of the {len(offers)} known nodes takes {_work(spec)}",
        hint="choose a smaller size or another model: gesso model ls",
    )


def _work(spec: Spec) -> str:
    if isinstance(spec, TrainLora):
        return f"training of {spec.steps} steps at {spec.resolution} pixels"
    return f"{spec.width}x{spec.height} pixels and {spec.steps} steps"


def readable(price: Wei) -> Wei:
    """The price rounded up to four digits, so that people can read what they pay; at most a thousandth more."""
    unit = 10 ** max(0, len(str(int(price))) - 4)
    return Wei(-(-int(price) // unit) * unit)


def readable_bytes(count: int) -> str:
    """So many bytes in the words of disks: 340 MB, 21.5 GB."""
    return f"{count / 10**9:,.1f} GB" if count >= 10**9 else f"{-(-count // 10**6)} MB"


def gross(net: Wei, taken_bps: int) -> Wei:
    """The least fee of which at least `net` is left after royalty and protocol fee."""
    if taken_bps >= BPS:
        return net
    return Wei(-(-int(net) * BPS // (BPS - taken_bps)))
