"""Money is counted in whole base units of the fee token (18 decimals); there are no floats anywhere near it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gesso_protocol.errors import UsageError
from gesso_protocol.whole import Whole

DECIMALS = 18
BPS = 10_000
MAX_FEE = 2**96 - 1
_ONE = 10**DECIMALS
_AMOUNT = re.compile(r"([0-9]{1,60})(?:\.([0-9]{1,18}))?\Z")


class Wei(Whole, bits=256, what="an amount"):
    """Base units of the fee token. Sums and differences stay `Wei`; below zero is an error."""

    __slots__ = ()

    def __add__(self, other: int) -> Wei:
        return Wei(int(self) + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> Wei:
        return Wei(int(self) - int(other))


def parse_amount(text: str) -> Wei:
    """Read what a person types, in whole tokens: "0.02", "3". At most 18 decimals; raises `UsageError`."""
    found = _AMOUNT.match(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise UsageError(
            "an amount is written like 0.02, with at most 18 decimals", hint="use digits and one point, no sign"
        )
    whole, part = found.group(1), found.group(2) or ""
    value = int(whole) * _ONE + int(part.ljust(DECIMALS, "0"))
    if value >= 2**256:
        raise UsageError("the amount is larger than any token's supply")
    return Wei(value)


def format_amount(amount: int) -> str:
    """Write an amount in whole tokens, exactly and without trailing zeros: "0.02". Inverse of `parse_amount`."""
    whole, part = divmod(int(amount), _ONE)
    digits = f"{part:018d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


@dataclass(frozen=True)
class Part:
    """What a part of the work makes of a fee: `due` is divided, `rest` goes back to the requester; together the fee."""

    due: Wei
    rest: Wei


def part_of(fee: int, done_bps: int) -> Part:
    """What is due of a fee for `done_bps` of the work, rounded down; the rest is the requester's.

    Basis points from 0 (nothing came of it) to 10,000 (all of it). Raises `UsageError` outside that.
    """
    if not 0 <= done_bps <= BPS:
        raise UsageError("a share is 0 to 10000 basis points")
    whole = Wei(fee)
    due = Wei(int(whole) * done_bps // BPS)
    return Part(due=due, rest=whole - due)


def done_bps(done: int, ordered: int) -> int:
    """The share that `done` of `ordered` steps are, rounded down. Raises `UsageError` for more than all of them."""
    if ordered < 1 or not 0 <= done <= ordered:
        raise UsageError("a part is none to all of at least one step")
    return done * BPS // ordered


@dataclass(frozen=True)
class Split:
    """Where one fee goes; the three add up to it exactly."""

    node: Wei
    royalty: Wei
    protocol: Wei


def split_fee(fee: int, royalty_bps: int, protocol_bps: int) -> Split:
    """Divide a fee: royalty and protocol are rounded down, the node gets the rest.

    Basis points are ten-thousandths; together at most 10,000. Raises `UsageError` outside that.
    """
    if royalty_bps < 0 or protocol_bps < 0 or royalty_bps + protocol_bps > BPS:
        raise UsageError("royalty and protocol fee together are at most 10000 basis points")
    whole = Wei(fee)
    royalty = Wei(int(whole) * royalty_bps // BPS)
    protocol = Wei(int(whole) * protocol_bps // BPS)
    return Split(node=whole - royalty - protocol, royalty=royalty, protocol=protocol)


@dataclass(frozen=True)
class Shares:
    """Where one fee goes when the model has parents; `royalties` in the order of the lineage, all add up exactly."""

    node: Wei
    royalties: tuple[Wei, ...]
    protocol: Wei

    @property
    def royalty(self) -> Wei:
        """What the chain's log calls the royalty: the sum of all."""
        return Wei(sum(self.royalties))


MAX_LINEAGE = 4
"""A listing and its parents, at most."""
MAX_MEMBERS = 5
"""Listings of a bundle, at most; two at least."""
MAX_SHARES = 12
"""Listings that earn of one task, at most: a bundle's members and their parents."""


def split_along(fee: int, royalties_bps: Sequence[int], protocol_bps: int) -> Shares:
    """Divide a fee among a listing and its parents, or a bundle's, protocol and node.

    Every share but the node's is rounded down by itself, so owners never take more than their basis points' sum.
    Raises `UsageError` for shares below zero or above 10,000 together, and for more than `MAX_SHARES` royalties.
    """
    if len(royalties_bps) > MAX_SHARES:
        raise UsageError(f"at most {MAX_SHARES} listings earn of one task")
    if min(*royalties_bps, protocol_bps, 0) < 0 or sum(royalties_bps) + protocol_bps > BPS:
        raise UsageError("royalties and protocol fee together are at most 10000 basis points")
    whole = Wei(fee)
    royalties = tuple(Wei(int(whole) * bps // BPS) for bps in royalties_bps)
    protocol = Wei(int(whole) * protocol_bps // BPS)
    return Shares(node=whole - sum(royalties) - protocol, royalties=royalties, protocol=protocol)
