"""How large states of a training can be, by what this relay knows of its base."""

from __future__ import annotations

from gesso_protocol.spec import TrainLora
from gesso_protocol.training.checkpoint import MAX_STATE_BYTES, most_state_bytes
from gesso_relay.cards import Cards
from gesso_relay.index.market import MarketQueries


class Bases:
    """Looks bases up in the marketplace's index and its cards; nobody is asked for them."""

    def __init__(self, market: MarketQueries, cards: Cards) -> None:
        self._market = market
        self._cards = cards

    async def most_state_bytes(self, spec: TrainLora) -> int:
        """More than a checkpoint of the run can have; the most of any run where the base is not known here."""
        manifest = None if spec.model_manifest is None else str(spec.model_manifest)
        if manifest is None:
            name, _, version = spec.model.partition("@")
            listed = await self._market.one(name, int(version) if version else None)
            manifest = None if listed is None else str(listed["manifest"])
        size = None if manifest is None else await self._cards.size_of(manifest)
        return MAX_STATE_BYTES if size is None else most_state_bytes(size)
