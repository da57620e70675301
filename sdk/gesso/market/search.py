"""Looking for models: a relay's index where there is one, every hit read again from the chain; else the chain alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gesso.chain.records import Listing
from gesso.market.facts import MarketFacts
from gesso_protocol.errors import UsageError
from gesso_protocol.ids import Address, ListingId
from gesso_protocol.manifest import LISTING_KINDS
from gesso_protocol.money import Wei, format_amount
from gesso_protocol.royalties import lineage

Sort: TypeAlias = Literal["new", "use", "price"]
SORTS = ("new", "use", "price")
MAX_RESULTS = 200
MAX_WORDS_CHARS = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. `text`: words of a name, on a relay of a card too; `base`: a listing it was made from;
    `withdrawn`: those too that are for no new use."""

    text: str = ""
    kind: str | None = None
    base: ListingId | None = None
    owner: Address | None = None
    withdrawn: bool = False
    sort: Sort = "new"
    limit: int = 20

    def checked(self) -> Wanted:
        """Raises UsageError for what makes no sense."""
        if self.kind is not None and self.kind not in LISTING_KINDS:
            raise UsageError(f"{self.kind!r} is no kind of model", hint=", ".join(LISTING_KINDS))
        if self.sort not in SORTS:
            raise UsageError(f"{self.sort!r} is no order", hint="new, use or price")
        if not 1 <= self.limit <= MAX_RESULTS:
            raise UsageError(f"a search gives 1 to {MAX_RESULTS} models")
        if len(self.text) > MAX_WORDS_CHARS:
            raise UsageError(f"a search text has at most {MAX_WORDS_CHARS} characters")
        return self

    def shows(self, listing: Listing) -> bool:
        """Whether a listing, as the chain has it now, is of this owner and not withdrawn, as far as that is asked."""
        return (self.withdrawn or not listing.yanked) and self.owner in (None, listing.owner)

    def query(self) -> dict[str, str]:
        """For a relay's `/v1/models`."""
        query = {"sort": self.sort, "limit": str(self.limit)}
        query |= {"text": self.text} if self.text.strip() else {}
        query |= {"kind": self.kind} if self.kind is not None else {}
        query |= {"base": str(int(self.base))} if self.base is not None else {}
        query |= {"owner": str(self.owner)} if self.owner is not None else {}
        query |= {"yanked": "1"} if self.withdrawn else {}
        return query


@dataclass(frozen=True, slots=True)
class Found:
    """One listing of a search. `uses` and `earned` count what the chain settled; a relay's figures are its word."""

    listing: Listing
    price_bps: int
    uses: int
    earned: Wei
    summary: str = ""

    def document(self) -> dict[str, Any]:
        """For printing; shares in percent, money in whole tokens."""
        listing = self.listing
        kind = LISTING_KINDS[listing.kind] if listing.kind < len(LISTING_KINDS) else str(listing.kind)
        return {
            "model": f"{listing.name}@{listing.version}",
            "kind": kind,
            "state": listing.state,
            "royalty": f"{listing.royalty_bps / 100:g} %",
            "price": f"{self.price_bps / 100:g} %",
            "uses": self.uses,
            "earned": format_amount(self.earned),
            "owner": str(listing.owner),
            "manifest": str(listing.manifest),
        }


def search_facts(facts: MarketFacts, wanted: Wanted) -> list[Found]:
    """The search over what the chain's log says."""
    found = [_found(facts, listing) for listing in facts.listings.values() if _fits(facts, listing, wanted)]
    return ordered(found, wanted.sort)[: wanted.limit]


def descendants(facts: MarketFacts, listing: ListingId) -> list[Listing]:
    """What may be used and was made from a listing, directly or not."""
    wanted = Wanted(base=listing)
    return [one for one in facts.listings.values() if _fits(facts, one, wanted)]


def ordered(found: Iterable[Found], sort: Sort) -> list[Found]:
    """Newest first, most used first, or cheapest first; ties go to the newer one."""
    newest = sorted(found, key=lambda one: -int(one.listing.id))
    if sort == "use":
        return sorted(newest, key=lambda one: -one.uses)
    return sorted(newest, key=lambda one: one.price_bps) if sort == "price" else newest


def _fits(facts: MarketFacts, listing: Listing, wanted: Wanted) -> bool:
    if not wanted.shows(listing) or (wanted.kind is not None and LISTING_KINDS.index(wanted.kind) != listing.kind):
        return False
    if wanted.base is not None and all(one.id != wanted.base for one in list(lineage(listing.id, facts.listings))[1:]):
        return False
    return all(word in listing.name for word in wanted.text.lower().split())


def _found(facts: MarketFacts, listing: Listing) -> Found:
    tally = facts.tally(listing.id)
    return Found(listing, facts.price_bps(listing.id), tally.uses, Wei(tally.earned))
