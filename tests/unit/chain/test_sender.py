"""A wallet's transactions go out in waves: one round trip for many, no gap behind one that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from gesso.chain import sender as sending
from gesso.chain.fees import Fee
from gesso.chain.gas import LEAST_MARGIN, GasLimits
from gesso.chain.mined import Mined
from gesso.chain.rpc import RpcRefused
from gesso.chain.sender import Sender
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import SignedTransaction
from gesso_protocol.errors import ChainError, GessoError, InsufficientFunds, Unreachable
from gesso_protocol.ids import ZERO_ADDRESS, Address

pytestmark = pytest.mark.anyio
ME = Address("0x" + "11" * 20)
NOBODY = dict.fromkeys(("task_board", "node_registry", "marketplace", "token"), ZERO_ADDRESS)
SETTINGS = ChainSettings(rpc_url="http://127.0.0.1:1", contracts=ContractAddresses(**NOBODY))


class Pool:
    """An endpoint, a wallet, prices and the watch for receipts in one: every accepted transaction is mined at once."""

    address = ME

    def __init__(self) -> None:
        self.sent: list[tuple[int, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse: dict[int, list[GessoError]] = {}
        self.mines = True
        self.counted = 0
        self.fails: list[Exception] = []
        self.needs = 21_000
        self.limits: list[int] = []
        self.waits: dict[str, asyncio.Future[Any]] = {}

    def sender(self, settings: ChainSettings = SETTINGS, gas: GasLimits | None = None) -> Sender:
        parts: dict[str, Any] = {"fees": self, "inclusion": self, "gas": gas}
        wallet: Any = self
        rpc: Any = self
        return Sender(rpc, wallet, 1, settings, **parts)

    def sign_transaction(self, fields: dict[str, Any]) -> SignedTransaction:
        self.limits.append(fields["gas"])
        name = f"{fields['nonce']}:{fields['to']}"
        return SignedTransaction(name.encode(), name)

    async def send_all(self, raws: Sequence[bytes]) -> list[GessoError | None]:
        names = [raw.decode() for raw in raws]
        pairs = [(int(nonce), to) for nonce, to in (name.split(":") for name in names)]
        self.sent += pairs
        await self.gate.wait()
        told = [self.refuse[nonce].pop(0) if self.refuse.get(nonce) else None for nonce, _ in pairs]
        for name, error in zip(names, told, strict=True):
            if error is None and self.mines and not self.waits[name].done():
                self.waits[name].set_result(Mined(tx_hash=name, block=1, succeeded=True, logs=()))
        return told

    async def estimate(self, _: object) -> int:
        return self.needs

    def mine(self) -> None:
        """All that wait."""
        for name, future in self.waits.items():
            if not future.done():
                future.set_result(Mined(tx_hash=name, block=1, succeeded=True, logs=()))

    async def nonce(self, _: object, *, pending: bool) -> int:
        self.counted += not pending
        if not pending and self.fails:
            raise self.fails.pop(0)
        return max((nonce + 1 for nonce, _ in self.sent), default=0) if pending else 0

    async def current(self) -> Fee:
        return Fee(2, 1)

    def within(self, fee: Fee) -> Fee:
        return fee

    def expect(self, tx_hash: str, future: asyncio.Future[Any]) -> None:
        self.waits[tx_hash] = future

    def forget(self, _: object) -> None: ...

    def look_now(self) -> None: ...

    async def close(self) -> None: ...


async def settled_down() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_asked_for_meanwhile_goes_out_together() -> None:
    pool = Pool()
    sender = pool.sender()
    pool.gate.clear()
    first = asyncio.create_task(sender.send("first", b""))
    await settled_down()
    rest = [asyncio.create_task(sender.send(f"to-{number}", b"")) for number in range(5)]
    await settled_down()
    assert [nonce for nonce, _ in pool.sent] == [0]
    pool.gate.set()
    with anyio.fail_after(60):
        await asyncio.gather(first, *rest)
    assert pool.sent == [(0, "first"), *((number + 1, f"to-{number}") for number in range(5))]


@pytest.mark.parametrize("error", [InsufficientFunds("no coin"), RpcRefused(-1, "odd")], ids=["poor", "odd"])
async def test_a_number_that_was_refused_among_others_is_filled(error: GessoError) -> None:
    pool = Pool()
    pool.refuse[1] = [error]
    sender = pool.sender()
    with anyio.fail_after(60):
        sends = (sender.send(f"to-{number}", b"") for number in range(3))
        told = await asyncio.gather(*sends, return_exceptions=True)
    assert told[1] is error
    assert [getattr(mined, "tx_hash", None) for mined in (told[0], told[2])] == ["0:to-0", "2:to-2"]
    assert pool.sent[3:] == [(1, ME)], "nobody waits behind a gap"


@pytest.mark.parametrize("words", ["nonce too low", "replacement transaction underpriced"])
async def test_a_taken_number_is_given_up_for_another(words: str) -> None:
    pool = Pool()
    pool.refuse[0] = [RpcRefused(-1, words)]
    sender = pool.sender()
    with anyio.fail_after(60):
        told = await asyncio.gather(*(sender.send(f"to-{number}", b"") for number in range(3)))
    assert {mined.tx_hash for mined in told} == {"3:to-0", "1:to-1", "2:to-2"}


async def test_one_that_gives_up_takes_nobody_along() -> None:
    pool = Pool()
    sender = pool.sender()
    pool.gate.clear()
    sends = [asyncio.create_task(sender.send(f"to-{number}", b"")) for number in range(3)]
    await settled_down()
    sends[0].cancel()
    await settled_down()
    pool.gate.set()
    with anyio.fail_after(60):
        told = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(told[0], asyncio.CancelledError)
        assert [getattr(mined, "tx_hash", None) for mined in told[1:]] == ["1:to-1", "2:to-2"]
        assert (await sender.send("later", b"")).tx_hash == "3:later"


async def test_the_hash_is_told_once_and_before_the_end() -> None:
    pool = Pool()
    heard: list[str] = []
    with anyio.fail_after(60):
        mined = await pool.sender().send("to", b"", on_sent=heard.append)
    assert heard == [mined.tx_hash]


async def test_what_breaks_in_who_hears_of_the_hash_is_its_own() -> None:
    pool = Pool()
    pool.mines = False
    sender = pool.sender()

    def broken(_: str) -> None:
        raise LookupError

    sends = [
        asyncio.create_task(sender.send(f"to-{number}", b"", on_sent=broken if number else None)) for number in (0, 1)
    ]
    with anyio.fail_after(60):
        with pytest.raises(LookupError):
            await sends[1]
        pool.mine()
        assert (await sends[0]).tx_hash == "0:to-0"


async def test_nobody_waits_for_a_closed_connection() -> None:
    pool = Pool()
    pool.mines = False
    sender = pool.sender()
    waiting = asyncio.create_task(sender.send("to", b""))
    await settled_down()
    with anyio.fail_after(60):
        await sender.close()
        with pytest.raises(ChainError, match="closed"):
            await waiting


async def test_one_look_a_while_is_for_all_that_wait() -> None:
    """Two are lost from the pool: both are sent again, after one question where the chain stands."""
    pool = Pool()
    pool.mines = False
    sender = pool.sender(SETTINGS.model_copy(update={"stuck_after_s": 0.01}))
    sends = [asyncio.create_task(sender.send(f"to-{number}", b"")) for number in (0, 1)]
    with anyio.fail_after(60):
        while len(pool.sent) < 4:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        assert pool.sent[2:4] == pool.sent[:2]
        assert pool.counted == 1
        pool.mine()
        assert [mined.tx_hash for mined in await asyncio.gather(*sends)] == ["0:to-0", "1:to-1"]


async def test_a_wallet_s_first_of_a_kind_is_asked_for_though_others_of_it_are_known() -> None:
    """It writes where nothing was before: by what the others use it would run out of gas."""
    pool, other = Pool(), Pool()
    other.address = Address("0x" + "22" * 20)
    other.needs = 90_000
    shared: Any = GasLimits(pool, 10**6)  # type: ignore[arg-type]
    old, new = pool.sender(gas=shared), other.sender(gas=shared)
    with anyio.fail_after(60):
        await old.send("to", b"", kind="claim")
        shared.learn("claim", 40_000)
        shared._rpc = other
        await asyncio.gather(*(new.send("to", b"", kind="claim") for _ in range(3)))
        await new.send("to", b"", kind="claim")
        await old.send("to", b"", kind="claim")
    assert pool.limits == [21_000 + LEAST_MARGIN, 40_000 + LEAST_MARGIN]
    assert other.limits == [120_000] * 3 + [40_000 + LEAST_MARGIN]


HASTY = SETTINGS.model_copy(update={"stuck_after_s": 0.01})


async def looked(pool: Pool, times: int) -> None:
    while pool.counted < times:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)
    await settled_down()


async def sent_and_lost(pool: Pool, count: int) -> list[asyncio.Task[Mined]]:
    """So many, none of which the pool mines by itself."""
    pool.mines = False
    sender = pool.sender(HASTY)
    sends = [asyncio.create_task(sender.send(f"to-{number}", b"")) for number in range(count)]
    while len(pool.sent) < count:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)
    return sends


async def test_what_keeps_one_from_being_sent_again_is_not_said_of_the_others() -> None:
    """They are in the pool: a caller that hears of a failure may send, and pay, twice."""
    pool, poor = Pool(), InsufficientFunds("no coin")
    with anyio.fail_after(60):
        sends = await sent_and_lost(pool, 3)
        pool.refuse = {0: [ChainError("unreadable")], 1: [poor]}
        await looked(pool, 1)
        assert [one.done() for one in sends] == [False, True, False]
        assert pool.sent[3:6] == [(0, "to-0"), (1, "to-1"), (2, "to-2")]
        pool.mine()
        told = await asyncio.gather(*sends, return_exceptions=True)
    assert told[1] is poor
    assert [getattr(mined, "tx_hash", None) for mined in (told[0], told[2])] == ["0:to-0", "2:to-2"]


async def test_a_higher_price_that_cannot_be_paid_leaves_the_lower_one_in_the_pool() -> None:
    pool = Pool()
    with anyio.fail_after(60):
        sends = await sent_and_lost(pool, 1)
        pool.refuse[0] = [RpcRefused(-1, "already known"), InsufficientFunds("no coin")]
        await looked(pool, 2)
        assert not sends[0].done()
        pool.mine()
        assert (await sends[0]).tx_hash == "0:to-0"


@pytest.mark.parametrize("error", [ChainError("unreadable"), LookupError()], ids=["unreadable", "a mistake of ours"])
async def test_a_look_that_breaks_is_followed_by_others(error: Exception) -> None:
    pool = Pool()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with anyio.fail_after(60):
        sends = await sent_and_lost(pool, 1)
        pool.fails = [error]
        await looked(pool, 2)
        assert not sends[0].done()
        assert pool.sent[1:2] == [(0, "to-0")]
        pool.mine()
        await sends[0]


LOST = [Unreachable("no answer")] * sending.PUSH_ATTEMPTS
UNANSWERED = pytest.mark.parametrize("lost", [LOST, [ChainError("unreadable")]], ids=["silence", "unreadable"])


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PUSH_PAUSE_S", 0)


async def unsure(pool: Pool, sender: Sender, lost: list[GessoError]) -> asyncio.Task[Mined]:
    """One whose answers are lost, however often it is sent."""
    pool.mines = False
    pool.refuse[0] = list(lost)
    heard = list[str]()
    one = asyncio.create_task(sender.send("to", b"", on_sent=heard.append))
    while len(pool.sent) < len(lost):  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)
    await settled_down()
    assert not one.done(), "whoever hears of a failure sends, and pays, again"
    assert heard == []
    return one


@UNANSWERED
async def test_what_was_sent_and_not_answered_may_be_mined(lost: list[GessoError], at_once: None) -> None:
    pool = Pool()
    with anyio.fail_after(60):
        one = await unsure(pool, pool.sender(), lost)
        pool.mine()
        assert (await one).tx_hash == "0:to"


@UNANSWERED
async def test_what_did_not_arrive_is_sent_again_under_its_own_number(lost: list[GessoError], at_once: None) -> None:
    pool = Pool()
    with anyio.fail_after(60):
        sender = pool.sender(HASTY)
        one = await unsure(pool, sender, lost)
        sender._next = None  # as another's refusal leaves it
        pool.nonce = pool_of_none  # type: ignore[method-assign]
        pool.mines = True
        assert (await sender.send("next", b"")).tx_hash == "1:next", "its number is taken, whatever the chain counts"
        assert (await one).tx_hash == "0:to"
    assert pool.sent.count((0, "to")) == len(lost) + 1


async def pool_of_none(_: object, *, pending: bool) -> int:
    return 0


async def test_what_is_never_mined_is_said_to_be_perhaps_under_way(at_once: None) -> None:
    pool = Pool()
    with anyio.fail_after(60):
        hasty = SETTINGS.model_copy(update={"stuck_after_s": 0.01, "receipt_timeout_s": 0.05})
        pool.mines = False
        pool.refuse[0] = LOST * 1000
        with pytest.raises(ChainError, match="not mined within") as caught:
            await pool.sender(hasty).send("to", b"")
    assert "may still be" in caught.value.hint
