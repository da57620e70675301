"""What the index says a model earned: the sum of what the chain's log says, and nothing before it was published."""

from __future__ import annotations

from gesso.chain import events as on_chain
from gesso.chain.events import ContractEvent
from gesso_protocol.ids import ListingId
from gesso_protocol.money import Wei
from gesso_relay.index.entries import Entry
from gesso_relay.index.facts import entry_of
from gesso_relay.index.project import project

from .fakechain import ALICE, NOWHERE, published, yanked


def royalty(amount: int) -> ContractEvent:
    return on_chain.RoyaltyPaid(listing=ListingId(1), owner=ALICE, amount=Wei(amount), **NOWHERE)


def entries(*events: ContractEvent) -> list[Entry]:
    made = [entry_of(event, at) for at, event in enumerate(events, 1)]
    return [entry for entry in made if entry is not None]


def test_royalties_add_up() -> None:
    document = project("model", entries(published(1, "lora", 1), royalty(2**90), yanked(1), royalty(7)))
    assert document is not None
    assert document["earned"] == str(2**90 + 7)
    assert (document["earned_at"], document["yanked"], document["owner"]) == (4, True, str(ALICE))


def test_a_royalty_of_a_model_that_the_index_has_not_seen_changes_nothing() -> None:
    assert project("model", entries(royalty(7))) is None
