"""Who the other nodes are: names are cheap, weight is not, and only weight keeps a place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gesso.chain import NodeState
from gesso_node.state import rivals as module
from gesso_node.state.rivals import MAX_HINTS, MAX_NODES, Rivals
from gesso_protocol.ids import Address

from ..doubles import node_address

pytestmark = pytest.mark.anyio

REAL = node_address(0xAA)


def made_up(number: int) -> Address:
    return Address("0x" + f"{number + 1:040x}")


class Registry:
    """Stakes, and who was asked about."""

    def __init__(self) -> None:
        self.stakes = {REAL: 5}
        self.asked: list[Address] = []

    async def stake_per_weight(self) -> int:
        return 1

    async def total_weight(self) -> int:
        return sum(self.stakes.values())

    async def node(self, address: Address) -> Any:
        self.asked.append(address)
        state = NodeState.ACTIVE if address in self.stakes else NodeState.NONE
        return SimpleNamespace(stake=self.stakes.get(address, 0), state=state)


class Rumours:
    """A node's rivals, and what everybody says."""

    def __init__(self) -> None:
        self.registry: Any = Registry()
        self.names: list[Address] = []
        self.rivals = Rivals(self.registry, self._told)

    async def _told(self) -> list[Address]:
        return self.names

    async def round(self) -> None:
        """Ask around once."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.rivals.run)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    async def pull(self) -> None:
        """What the observer does after events."""
        await self.rivals.refresh(await self.registry.total_weight())


async def test_made_up_names_keep_no_node_out() -> None:
    about = Rumours()
    about.names = [made_up(number) for number in range(MAX_NODES + 1)]
    for _ in range(MAX_NODES // MAX_HINTS + 2):
        await about.round()
    assert not about.rivals.complete
    about.rivals.changed(REAL)  # its own event
    await about.pull()
    assert about.rivals.complete
    assert len(about.registry.asked) == len(set(about.registry.asked)), "nobody is asked about twice"


async def test_a_round_asks_about_few_and_each_in_its_turn() -> None:
    about = Rumours()
    about.names = [*map(made_up, range(3 * MAX_HINTS)), REAL]
    await about.round()
    assert len(about.registry.asked) == MAX_HINTS
    for _ in range(3):
        await about.round()
    assert about.rivals.complete
    asked = len(about.registry.asked)
    await about.round()  # nobody is missing
    assert len(about.registry.asked) == asked


async def test_names_without_weight_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEIGHTLESS", 8)
    about = Rumours()
    about.names = [made_up(number) for number in range(40)]
    await about.round()
    assert len(about.rivals._weightless) == 8


async def test_who_loses_its_weight_goes_and_comes_back_with_it() -> None:
    about = Rumours()
    about.rivals.changed(REAL)
    await about.pull()
    other = node_address(0xBB)
    about.registry.stakes[other] = 2
    assert about.rivals.complete
    await about.pull()
    assert not about.rivals.complete, "the total says that somebody is missing"
    version = about.rivals.version
    about.rivals.changed(other)
    await about.pull()
    assert about.rivals.complete
    assert about.rivals.version > version
    del about.registry.stakes[other]
    about.rivals.changed(other)
    await about.pull()
    assert about.rivals.complete
    assert set(about.rivals._weights) == {REAL}
    about.registry.stakes[other] = 7
    about.rivals.changed(other)
    await about.pull()
    assert about.rivals.complete
