"""One model as a person wants to see it: listing, lineage, files, card, uses and income."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gesso.chain.records import Listing
from gesso.market.facts import Tally
from gesso_protocol.card import ModelCard
from gesso_protocol.manifest import LISTING_KINDS, ModelManifest
from gesso_protocol.money import Wei, format_amount


@dataclass(frozen=True, slots=True)
class Stats:
    """What a listing did: settled tasks that named it or one made from it, and its royalties. `uses` is None where
    nobody says and the chain's log is too long to count. `by` says whose count it is: what a relay tells was held only
    against as much of the income as the chain shows cheaply."""

    uses: int | None
    earned: Wei
    by: Literal["log", "relay"] = "log"

    @classmethod
    def of(cls, tally: Tally) -> Stats:
        """From a tally of the log."""
        return cls(tally.uses, Wei(tally.earned))

    def document(self) -> dict[str, Any]:
        """For printing; money in whole tokens."""
        uses = "not known without a relay" if self.uses is None else self.uses
        whose = {"counted": "as the relay counts"} if self.by == "relay" else {}
        return {"uses": uses, "earned": format_amount(self.earned), **whose}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """`lineage` begins with the listing itself and ends with its base. `manifest` is None when nobody serves it."""

    listing: Listing
    lineage: tuple[Listing, ...]
    stats: Stats
    manifest: ModelManifest | None
    card: ModelCard | None

    @property
    def label(self) -> str:
        """What people type."""
        return f"{self.listing.name}@{self.listing.version}"

    @property
    def price_bps(self) -> int:
        """What all owners along the lineage get of a fee."""
        return sum(listing.royalty_bps for listing in self.lineage)

    def document(self) -> dict[str, Any]:
        """For printing."""
        listing, manifest, card = self.listing, self.manifest, self.card
        document: dict[str, Any] = {
            "model": self.label,
            "kind": LISTING_KINDS[listing.kind] if listing.kind < len(LISTING_KINDS) else str(listing.kind),
            "state": listing.state,
            "owner": str(listing.owner),
            "royalty": f"{listing.royalty_bps / 100:g} %",
            "price": f"{self.price_bps / 100:g} % of each fee, to all owners",
            "lineage": " -> ".join(f"{one.name}@{one.version} ({one.royalty_bps / 100:g} %)" for one in self.lineage),
            **self.stats.document(),
            "manifest": str(listing.manifest),
        }
        if manifest is None:
            document["files"] = "nobody serves its manifest"
        else:
            document["licence"] = manifest.licence
            document["files"] = {entry.path: entry.size for entry in manifest.files}
        if card is not None:
            named = {"summary": card.summary, "trigger": card.trigger, "tags": list(card.tags), "source": card.source}
            document |= {name: value for name, value in named.items() if value}
            document["previews"] = [str(preview.blob) for preview in card.previews]
            if card.text:
                document["card"] = card.text
        return document
