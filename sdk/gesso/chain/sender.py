"""Sends one wallet's transactions: numbers them, prices them, gets them unstuck, and says why one failed.

A transaction number (nonce) must be used once and without gaps, or everything behind the gap waits for ever. So:
numbers are given out under a lock; the chain is asked whenever nothing of ours is in flight (a restart, a reorg or
another program may have moved it); what does not get mined is sent again, then replaced at a higher price; and a gap
that nobody remembers is filled with an empty transfer to ourselves. One whose answer was lost may be on its way: it
keeps its number and is waited for and sent again like the others, so that nobody pays twice for it. Whatever is asked
for while others are being sent goes out together with the next wave, in one post: a wallet that sends much waits for
one round trip, not for one each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gesso.chain.fees import FeeOracle
from gesso.chain.flight import NO_NUMBER, Flight
from gesso.chain.gas import GasLimits
from gesso.chain.inclusion import Inclusion
from gesso.chain.mined import Mined, by_receipt
from gesso.chain.rpc import Rpc, RpcRefused
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import SignedTransaction, Wallet
from gesso_protocol.errors import (
    ChainError,
    ChainReverted,
    GessoError,
    InsufficientFunds,
    NonceConflict,
    Unreachable,
)

TRANSFER_GAS = 21_000
BROADCAST_ATTEMPTS = 8
MAX_WAVE = 32
RETRY_PAUSE_S = 0.05
PUSH_ATTEMPTS = 3
PUSH_PAUSE_S = 0.25
UNSURE_LOOK_S = 3.0
MAX_REPAIR = 64
ALL_BUT_PERCENT = 95
"""A call that ran out of gas has spent 63 of 64 parts of it at least; a refusal leaves more than this."""
FILL_BUMPS = 6

_KNOWN = ("already known", "already imported", "already in mempool", "known transaction")
_STALE_NONCE = ("nonce too low", "nonce is too low", "invalid nonce", "old nonce")
_UNDERPRICED = ("underpriced", "replacement", "fee too low to replace")


class Sender:
    """All sending of one wallet through one client. Safe to use from many tasks at once."""

    def __init__(
        self,
        rpc: Rpc,
        wallet: Wallet,
        chain_id: int,
        settings: ChainSettings,
        *,
        fees: FeeOracle | None = None,
        gas: GasLimits | None = None,
        inclusion: Inclusion | None = None,
    ) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._chain_id = chain_id
        self._settings = settings
        self._gas = gas or GasLimits(rpc, settings.max_gas)
        self._fees = fees or FeeOracle(rpc, most=settings.max_gas_price_wei)
        self._inclusion = inclusion or Inclusion(rpc, settings.receipt_poll_s)
        self._lock = asyncio.Lock()
        self._next: int | None = None
        self._kinds: set[str] = set()
        self._flights: dict[int, Flight] = {}
        self._asked: deque[Flight] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Leaves nothing running; whoever still waits is told so."""
        if self._watch is not None:
            self._watch.cancel()
        if self._looking is not None:
            self._looking.cancel()
        for flight in (*self._asked, *self._flights.values()):
            flight.fail(ChainError("the connection was closed before a transaction was seen in a block"))
        await self._inclusion.close()

    async def send(
        self,
        to: str | None,
        data: bytes,
        *,
        value: int = 0,
        least_gas: int = 0,
        kind: str | None = None,
        tried: bool = False,
        gas: int | None = None,
        on_sent: Callable[[str], None] | None = None,
    ) -> Mined:
        """Send and wait until it is mined. `to` None creates a contract. Raises what the contract threw, before
        anything is paid if the chain can tell already, InsufficientFunds, NonceConflict, Unreachable, before anything
        was sent, or ChainError, after which it may be mined yet.
        Transactions of one `kind` use about the same gas: after a few of them it is not asked for any more, and
        whether the contract refuses is only asked when it is to be `tried`. With `gas` nothing is asked: for what only
        makes sense behind another transaction that is on its way. `on_sent` hears the hash once the endpoint has it."""
        message: dict[str, Any] = {"from": str(self._wallet.address), "data": "0x" + data.hex()}
        if to is not None:
            message["to"] = to
        if value:
            message["value"] = hex(value)
        if gas is None:
            gas = await self._gas.of(message, least=least_gas, kind=self._known_as(kind), tried=tried)
        fields = {"to": to or "", "data": data, "gas": gas, "value": value}
        flight = Flight(fields, asyncio.get_running_loop().create_future(), on_sent)
        self._ask(flight)
        try:
            mined = await flight.future
        finally:
            self._inclusion.forget(signed.hash for signed in flight.sent)
        self._flights.pop(flight.nonce, None)
        flight.tell_sent()
        if not mined.succeeded:
            if mined.gas_used is None or mined.gas_used >= gas * ALL_BUT_PERCENT // 100:
                self._gas.forget(self._known_as(kind))
            raise await self._why(message, gas, mined)
        self._gas.learn(kind, mined.gas_used)
        if kind is not None:
            self._kinds.add(kind)
        return mined

    def _known_as(self, kind: str | None) -> str | None:
        """A wallet's first of a kind writes where nothing was before, which costs more than others know of."""
        return kind if kind is None or kind in self._kinds else f"{kind}, first of {self._wallet.address}"

    # Broadcasting

    def _ask(self, flight: Flight) -> None:
        self._asked.append(flight)
        if self._sending is None or self._sending.done():
            # A task of its own: a caller that gives up must not cut off those who travel with it.
            self._sending = asyncio.create_task(self._send_asked(), name="gesso chain sender")

    async def _send_asked(self) -> None:
        wave: list[Flight] = []
        try:
            while self._asked:
                async with self._lock:
                    wave = [self._asked.popleft() for _ in range(min(len(self._asked), MAX_WAVE))]
                    wave = [flight for flight in wave if not flight.future.done()]
                    again = await self._send_wave(wave) if wave else []
                self._asked.extendleft(reversed(again))
                wave = []
                await asyncio.sleep(RETRY_PAUSE_S * max((flight.attempts - 1 for flight in again), default=0))
        except Exception as error:
            for flight in (*wave, *self._asked):
                flight.fail(error)
            self._asked.clear()
        finally:
            for flight in (*wave, *self._asked):
                flight.future.cancel()

    async def _send_wave(self, wave: Sequence[Flight]) -> list[Flight]:
        """Give each a number and send them all at once. Returns those that need another one."""
        try:
            first, fee = await self._take_nonce(), await self._fees.current()
        except GessoError as error:
            self._next = None
            for flight in wave:
                flight.fail(error)
            return []
        now = asyncio.get_running_loop().time()
        for nonce, flight in enumerate(wave, first):
            flight.nonce, flight.fee = nonce, fee
            flight.look_at = now + self._settings.stuck_after_s
            flight.give_up_at = now + self._settings.receipt_timeout_s
        outcomes = await self._push_all(wave)
        self._next = first + len(wave)
        refused: list[tuple[Flight, BaseException]] = []
        taken = NO_NUMBER
        for flight, outcome in zip(wave, outcomes, strict=True):
            flight.unsure = _may_have_arrived(outcome)
            if flight.unsure:
                flight.look_at = min(flight.look_at, now + UNSURE_LOOK_S)
            elif isinstance(outcome, BaseException):
                refused.append((flight, outcome))
                continue
            taken = flight.nonce
            if not flight.landed:
                self._flights[flight.nonce] = flight
                if not flight.unsure:
                    flight.tell_sent()
        self._inclusion.look_now()
        self._keep_watch()
        return await self._after_refusals(refused, first, first + len(wave), taken) if refused else []

    async def _after_refusals(
        self, refused: Sequence[tuple[Flight, BaseException]], first: int, end: int, taken: int
    ) -> list[Flight]:
        """`taken`: the last of these numbers that the pool took."""
        again: list[Flight] = []
        gaps: list[int] = []
        for flight, error in refused:
            if isinstance(error, RpcRefused) and _says(error, _UNDERPRICED + _STALE_NONCE):
                flight.attempts += 1
                again.append(flight)
            else:
                flight.fail(error)
                if flight.nonce < taken:
                    gaps.append(flight.nonce)
        if all(isinstance(error, RpcRefused) and _says(error, _UNDERPRICED) for _, error in refused):
            # Somebody's older transactions sit on these numbers; the chain's own count steps over them.
            counted = await self._pending()
            self._next = end if counted is not None and first <= counted < end else counted
        else:
            self._next = None
        for nonce in gaps:
            with suppress(GessoError):  # whoever waits behind it tries again
                await self._fill(nonce)
        for flight in again:
            if flight.attempts >= BROADCAST_ATTEMPTS:
                flight.fail(NonceConflict())
        return [flight for flight in again if not flight.future.done()]

    async def _pending(self) -> int | None:
        with suppress(GessoError):
            return await self._rpc.nonce(self._wallet.address, pending=True)
        return None

    async def _take_nonce(self) -> int:
        if self._next is None or all(flight.abandoned for flight in self._flights.values()):
            self._flights = {nonce: flight for nonce, flight in self._flights.items() if not flight.abandoned}
            unsure = [nonce for nonce, flight in self._flights.items() if flight.unsure and not flight.future.done()]
            return max(await self._rpc.nonce(self._wallet.address, pending=True), *(nonce + 1 for nonce in unsure), 0)
        return self._next

    async def _push_all(self, wave: Sequence[Flight]) -> list[bool | BaseException]:
        """What `_push` does with each, or raises; all in one post."""
        signed = [self._sign(flight) for flight in wave]
        told = await self._rpc.send_all([each.raw for each in signed])
        if not any(told):
            for flight, each in zip(wave, signed, strict=True):
                flight.sent.append(each)
            return [True] * len(wave)
        outcomes = (self._pushed(*each) for each in zip(wave, signed, told, strict=True))
        return await asyncio.gather(*outcomes, return_exceptions=True)

    async def _push(self, flight: Flight) -> bool:
        """Sign at the flight's price and send. True when the pool did not have it yet."""
        signed = self._sign(flight)
        (told,) = await self._rpc.send_all([signed.raw])
        return await self._pushed(flight, signed, told)

    def _sign(self, flight: Flight) -> SignedTransaction:
        signed = self._wallet.sign_transaction(flight.priced(self._chain_id))
        self._inclusion.expect(signed.hash, flight.future)
        return signed

    async def _pushed(self, flight: Flight, signed: SignedTransaction, told: GessoError | None) -> bool:
        """After a first try: again while nobody answers. Raises what the endpoint says against it."""
        try:
            fresh = await self._insist(signed, told)
        except GessoError as error:
            if _may_have_arrived(error) and not flight.has_sent(signed):
                flight.sent.append(signed)
            if not flight.has_sent(signed):
                self._inclusion.forget([signed.hash])
            raise
        if not flight.has_sent(signed):
            flight.sent.append(signed)
        return fresh

    async def _insist(self, signed: SignedTransaction, told: GessoError | None) -> bool:
        for attempt in range(PUSH_ATTEMPTS):
            if told is None:
                return True
            if isinstance(told, RpcRefused):
                if _says(told, _KNOWN):
                    return False
                if attempt and _says(told, _STALE_NONCE) and await self._rpc.receipt(signed.hash) is not None:
                    return False
            if not isinstance(told, Unreachable) or attempt + 1 == PUSH_ATTEMPTS:
                raise told
            # It may have arrived; sending the same bytes again is harmless and tells.
            await asyncio.sleep(PUSH_PAUSE_S * (attempt + 1))
            (told,) = await self._rpc.send_all([signed.raw])
        raise AssertionError("unreachable")

    # Waiting

    def _keep_watch(self) -> None:
        """One timer for all that wait, set to when the first of them has waited too long."""
        if self._watch is None:
            waiting = [flight for flight in self._flights.values() if not flight.future.done()]
            at = min((min(flight.look_at, flight.give_up_at) for flight in waiting), default=None)
            if at is not None:
                self._watch = asyncio.get_running_loop().call_at(at, self._begin_look)

    def _begin_look(self) -> None:
        self._watch = None
        self._looking = asyncio.get_running_loop().create_task(self._look(), name="gesso chain sender's watch")

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        due: list[Flight] = []
        try:
            async with self._lock:
                due = [f for f in self._flights.values() if not f.future.done() and f.look_at <= loop.time()]
                with suppress(GessoError):  # it says nothing of what is in the pool: the next round tries again
                    await self._unstick(due)
        finally:
            for flight in due:
                flight.look_at = loop.time() + self._settings.stuck_after_s
            for flight in list(self._flights.values()):
                if flight.give_up_at <= loop.time():
                    flight.fail(self._late())
            self._keep_watch()

    def _late(self) -> ChainError:
        return ChainError(
            f"a transaction was not mined within {self._settings.receipt_timeout_s:g} s",
            hint="it may still be; look at the chain before sending it again",
        )

    async def _unstick(self, due: Sequence[Flight]) -> None:
        """Repair everything that stands between the chain's count and the last of these."""
        if not due:
            return
        reached = await self._rpc.nonce(self._wallet.address, pending=False)
        for flight in due:
            if flight.nonce < reached:
                with suppress(ChainError):  # it could not be read; that is no word on another
                    await self._check_replaced(flight)
        for nonce in range(reached, min(max(flight.nonce for flight in due) + 1, reached + MAX_REPAIR)):
            with suppress(ChainError, InsufficientFunds):
                await self._repair(nonce, first=nonce == reached)

    async def _repair(self, nonce: int, *, first: bool) -> None:
        """Have the pool hold this number; raise the price of the first, which holds up all others."""
        ours = self._flights.get(nonce)
        if ours is None:
            await self._fill(nonce)
            return
        try:
            fresh = await self._push(ours)
        except InsufficientFunds as error:
            ours.fail(error)  # the pool has lost it, and the wallet cannot pay for it any more
            return
        unsure, ours.unsure = ours.unsure, False
        if unsure:
            ours.tell_sent()
        if fresh or unsure or not first:
            return
        # The pool has it and it does not move: it must pay too little.
        fee = ours.fee
        ours.fee = self._fees.within(fee.bumped().at_least(await self._fees.current()))
        try:
            await self._push(ours)
        except InsufficientFunds:
            ours.fee = fee  # what the pool has may be mined at that price yet

    async def _check_replaced(self, flight: Flight) -> None:
        for signed in flight.sent:
            receipt = await self._rpc.receipt(signed.hash)
            if receipt is not None:
                if not flight.future.done():
                    flight.future.set_result(by_receipt(signed.hash, receipt))
                return
        self._flights.pop(flight.nonce, None)
        self._next = None
        flight.fail(NonceConflict())

    async def _fill(self, nonce: int) -> None:
        """Use up a number that a lost transaction of an earlier life left open."""
        fee = await self._fees.current()
        address = str(self._wallet.address)
        future: asyncio.Future[Mined] = asyncio.get_running_loop().create_future()
        for _ in range(FILL_BUMPS):
            fields = {"to": address, "data": b"", "gas": TRANSFER_GAS, "value": 0}
            filler = Flight(fields, future, nonce=nonce, fee=fee)
            try:
                await self._push(filler)
                return
            except RpcRefused as error:
                if not _says(error, _UNDERPRICED):
                    raise
                fee = self._fees.within(fee.bumped().bumped())
            finally:
                self._inclusion.forget(signed.hash for signed in filler.sent)

    async def _why(self, message: Mapping[str, Any], gas: int, failed: Mined) -> GessoError:
        """Replay a failed transaction: after its block (what beat it is in there), then before."""
        for at in (failed.block, failed.block - 1):
            try:
                await self._rpc.request("eth_call", {**message, "gas": hex(gas)}, hex(max(at, 0)))
            except (RpcRefused, Unreachable):
                continue
            except GessoError as error:
                return error
        spent_all = failed.gas_used is not None and failed.gas_used >= gas
        return ChainReverted("OutOfGas" if spent_all else "Unknown", (failed.tx_hash,))


def _may_have_arrived(told: object) -> bool:
    """Whether this is no answer, or one that cannot be read, so that nobody knows what became of what was sent."""
    return isinstance(told, Unreachable) or type(told) is ChainError


def _says(error: RpcRefused, phrases: tuple[str, ...]) -> bool:
    text = error.text.lower()
    return any(phrase in text for phrase in phrases)
