"""The same order twice is one task, also for who has paid with the last of a deposit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

import gesso
from gesso.chain.rpc import RpcRefused
from gesso.client import AsyncClient
from gesso_protocol.errors import ChainError, InsufficientFunds, NoEligibleNode, UsageError
from gesso_protocol.ids import Address, BlobRef, ListingId, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.spec import TextToImage
from gesso_protocol.terms import BoardParams, Terms, task_id

pytestmark = pytest.mark.anyio
ME, BOARD = Address("0x" + "11" * 20), Address("0x" + "22" * 20)
SPEC = TextToImage(prompt="a circle", model="tiny@1", seed=1)


class Chain:
    """A board with what was put on it, and a deposit that holds nothing more."""

    def __init__(self, bundle: ListingId | None) -> None:
        self.asked: list[TaskId] = []
        self.known = False
        self._bundle = bundle

    def task_id(self, terms: Terms) -> TaskId:
        return task_id(31337, BOARD, terms)

    async def task(self, task: TaskId) -> Any:
        self.asked.append(task)
        return SimpleNamespace(state=TaskState.SUBMITTED if self.known else TaskState.UNKNOWN)

    async def bundle_of(self, _: object) -> ListingId | None:
        return self._bundle

    async def balance_of(self, _: object) -> Wei:
        return Wei(0)


def ports() -> Any:
    """As little as a client opens with."""
    settings = SimpleNamespace(contracts=SimpleNamespace(task_board=BOARD))
    return SimpleNamespace(chain=SimpleNamespace(settings=settings), progress=None, poll_s=1, address=ME, max_fee=None)


class Client(AsyncClient):
    """One whose models are usable and whose prices are known."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        ports: Any = SimpleNamespace(chain=chain, address=ME, max_fee=None, directory=self)
        self._ports_now = ports
        self.gone = False
        self.remembered: list[Wei] = []
        self._params = BoardParams(challenge_window_s=5, sortition_step_s=1, hold_window_s=9, cancel_delay_s=6)

    async def fees_of(self, _: Address, nonce: int) -> list[Wei]:
        return self.remembered if nonce == 5 else []

    async def usable(self, _: str) -> Any:
        if self.gone:
            raise UsageError("was withdrawn by its publisher")
        return SimpleNamespace(manifest=BlobRef(bytes(32)))

    async def expect_usable(self, manifest: BlobRef, what: str) -> None: ...

    @property
    def _specs(self) -> Any:
        return self

    async def quote(self, *_: Any, **__: Any) -> Any:
        if self.gone:
            raise NoEligibleNode
        return SimpleNamespace(fee=Wei(10**16), total=Wei(10**16))

    async def task(self, task: Any) -> Any:
        return task


@pytest.mark.parametrize("error", [InsufficientFunds("no money"), ValueError("the caller's own"), KeyboardInterrupt()])
async def test_what_goes_wrong_inside_comes_out_as_it_is(error: BaseException) -> None:
    """Not in a group: `except InsufficientFunds` around the client would not catch that."""
    given = ports()
    with pytest.raises(type(error)) as caught:
        async with AsyncClient(ports=given):
            raise error
    assert caught.value is error
    async with AsyncClient(ports=given) as client:
        client._group.start_soon(anyio.sleep_forever)
    with anyio.CancelScope() as scope:
        async with AsyncClient(ports=given):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


def test_what_goes_wrong_in_the_blocking_client_comes_out_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def open_ports(_: object) -> AsyncIterator[Any]:
        yield ports()

    monkeypatch.setattr("gesso.wiring.open_ports", open_ports)
    with pytest.raises(ValueError, match="own"), gesso.Client(SimpleNamespace()):  # type: ignore[arg-type]
        raise ValueError("the caller's own")


def owing(monkeypatch: pytest.MonkeyPatch, *members: int) -> None:
    async def owed_by(*_: object) -> Any:
        return SimpleNamespace(members=tuple(map(ListingId, members)))

    monkeypatch.setattr("gesso.client.owed_by", owed_by)


@pytest.mark.parametrize("members", [(1,), (1, 2)], ids=["a model", "with a LoRA"])
async def test_who_asks_again_has_the_first_whatever_has_changed_since(
    members: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    owing(monkeypatch, *members)
    chain = Chain(ListingId(9))
    client = Client(chain)
    with pytest.raises(InsufficientFunds):
        await client.submit(SPEC, nonce=5, fee="0.01")
    chain.known = client.gone = True
    again: Any = await client.submit(SPEC, nonce=5, fee="0.01", max_fee="0.001")
    assert again == chain.asked[0] == chain.asked[1]
    chain.known = client.gone = False
    for nonce in (6, None):
        with pytest.raises(InsufficientFunds):
            await client.submit(SPEC, nonce=nonce, fee="0.01")
    with pytest.raises(InsufficientFunds):
        await client.submit(SPEC, nonce=5, fee="0.02")
    assert len(set(chain.asked)) == 3, "another number and another fee are other orders; whose number is drawn is new"
    client.gone = True
    with pytest.raises(UsageError, match="withdrawn"):
        await client.submit(SPEC, nonce=5, fee="0.01")


async def test_without_a_fee_it_is_the_one_that_a_relay_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    owing(monkeypatch, 1)
    chain = Chain(None)
    client = Client(chain)
    client.remembered = [Wei(7), Wei(8)]
    with pytest.raises(InsufficientFunds):
        await client.submit(SPEC, nonce=5)
    assert len(set(chain.asked)) == 2, "what the board does not know was never paid, whatever a relay says"
    chain.known = client.gone = True
    assert await client.submit(SPEC, nonce=5) == chain.asked[0]


async def test_what_nobody_ever_used_together_was_not_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    owing(monkeypatch, 1, 2)
    chain = Chain(None)
    with pytest.raises(InsufficientFunds):
        await Client(chain).submit(SPEC, nonce=5, fee="0.01")
    assert chain.asked == []


class Silent(Chain):
    """The board takes the order; nobody hears that it has."""

    def __init__(self, error: ChainError, *, arrives: bool) -> None:
        super().__init__(None)
        self.error, self.arrives = error, arrives

    async def balance_of(self, _: object) -> Wei:
        return Wei(10**18)


@pytest.mark.parametrize("arrives", [True, False], ids=["mined", "lost"])
async def test_an_order_that_was_sent_and_not_seen_is_looked_for_and_named(
    arrives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever hears of a failure orders, and pays, again."""

    async def owed_by(*_: object) -> Any:
        return SimpleNamespace(members=(ListingId(1),))

    async def nothing(*_: object, **__: object) -> None: ...

    async def send(ports: Any, *_: Any) -> Any:
        ports.chain.known = ports.chain.arrives
        raise ports.chain.error

    for name, double in (("owed_by", owed_by), ("send", send), ("expect_deposit", nothing)):
        monkeypatch.setattr(f"gesso.client.{name}", double)
    chain = Silent(ChainError("a transaction was not mined within 90 s"), arrives=arrives)
    client = Client(chain)
    given = cast(Any, client._ports)
    given.blobs = SimpleNamespace(put=nothing)
    monkeypatch.setattr(AsyncClient, "_feed", None)
    client._group = cast(Any, None)
    if arrives:
        assert await client.submit(SPEC) == cast(Any, chain.asked[-1])
    else:
        with pytest.raises(ChainError, match="not mined") as caught:
            await client.submit(SPEC)
        assert str(chain.asked[-1]) in caught.value.message
        assert "before it is ordered again" in caught.value.hint
    refused = Silent(RpcRefused(-1, "odd"), arrives=False)
    given.chain = refused
    with pytest.raises(RpcRefused):
        await client.submit(SPEC)
    assert refused.asked == [], "what was refused was not sent"
