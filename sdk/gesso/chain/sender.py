"""Sends one wallet's transactions: numbers them, prices them, gets them unstuck, and says why one failed.

A transaction number (nonce) must be used once and without gaps, or everything behind the gap waits for ever. So:
numbers are given out under a lock; the chain is asked whenever nothing of ours is in flight (a restart, a reorg or
another program may have moved it); what does not get mined is sent again, then replaced at a higher price; and a gap
that nobody remembers is filled with an empty transfer to ourselves. Whatever is asked for while others are being sent
goes out together with the next wave, in one post: a wallet that sends much waits for one round trip, not for one each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gesso.chain.fees import Fee, FeeOracle
from gesso.chain.gas import GasLimits
from gesso.chain.inclusion import Inclusion, Receipt
from gesso.chain.rpc import RawLog, Rpc, RpcRefused, number, raw_log, readable
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import SignedTransaction, Wallet
from gesso_protocol.errors import ChainError, ChainReverted, GessoError, NonceConflict, Unreachable

TRANSFER_GAS = 21_000
BROADCAST_ATTEMPTS = 8
MAX_WAVE = 32
RETRY_PAUSE_S = 0.05
PUSH_ATTEMPTS = 3
PUSH_PAUSE_S = 0.25
MAX_REPAIR = 64
FILL_BUMPS = 6

_KNOWN = ("already known", "already imported", "already in mempool", "known transaction")
_STALE_NONCE = ("nonce too low", "nonce is too low", "invalid nonce", "old nonce")
_UNDERPRICED = ("underpriced", "replacement", "fee too low to replace")


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction that succeeded."""

    tx_hash: str
    gas_used: int
    gas_price: int
    block: int
    logs: tuple[RawLog, ...]
    created: str | None


@dataclass(slots=True)
class _Flight:
    """One number in use: what was sent under it, newest last, all answering to one future."""

    nonce: int
    fields: Mapping[str, Any]
    fee: Fee
    future: asyncio.Future[Receipt]
    sent: list[SignedTransaction] = field(default_factory=list)
    abandoned: bool = False


@dataclass(slots=True)
class _Asked:
    """A transaction that has no number yet, and who waits for it to get one."""

    fields: Mapping[str, Any]
    future: asyncio.Future[_Flight]
    attempts: int = 0

    def took(self, flight: _Flight) -> None:
        if self.future.done():
            flight.abandoned = True  # its caller has left, but those behind it need it
        else:
            self.future.set_result(flight)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


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
        inclusion: Inclusion | None = None,
    ) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._chain_id = chain_id
        self._settings = settings
        self._gas = GasLimits(rpc, settings.max_gas)
        self._fees = fees or FeeOracle(rpc, most=settings.max_gas_price_wei)
        self._inclusion = inclusion or Inclusion(rpc, settings.receipt_poll_s)
        self._lock = asyncio.Lock()
        self._next: int | None = None
        self._flights: dict[int, _Flight] = {}
        self._asked: deque[_Asked] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def close(self) -> None:
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
        anything is paid if the chain can tell already, InsufficientFunds, NonceConflict, Unreachable or ChainError.
        Transactions of one `kind` use about the same gas: after a few of them it is not asked for any more, and
        whether the contract refuses is only asked when it is to be `tried`. With `gas` nothing is asked: for what only
        makes sense behind another transaction that is on its way. `on_sent` hears the hash once the endpoint has it."""
        message: dict[str, Any] = {"from": str(self._wallet.address), "data": "0x" + data.hex()}
        if to is not None:
            message["to"] = to
        if value:
            message["value"] = hex(value)
        if gas is None:
            gas = await self._gas.of(message, least=least_gas, kind=kind, tried=tried)
        flight = await self._broadcast({"to": to or "", "data": data, "gas": gas, "value": value})
        if on_sent is not None:
            on_sent(flight.sent[-1].hash)
        try:
            receipt = await self._landed(flight)
        except BaseException:
            flight.abandoned = True  # nobody waits, but those behind it may need it sent again
            raise
        finally:
            self._inclusion.forget(signed.hash for signed in flight.sent)
        self._flights.pop(flight.nonce, None)
        with readable("a receipt"):
            succeeded, mined = number(receipt["status"]) == 1, _mined(receipt)
        if not succeeded:
            self._gas.forget(kind)
            raise await self._why(message, gas, receipt)
        self._gas.learn(kind, mined.gas_used)
        return mined

    # Broadcasting

    async def _broadcast(self, fields: Mapping[str, Any]) -> _Flight:
        asked = _Asked(fields, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._sending is None or self._sending.done():
            # A task of its own: a caller that gives up must not cut off those who travel with it.
            self._sending = asyncio.create_task(self._send_asked(), name="gesso chain sender")
        return await asked.future

    async def _send_asked(self) -> None:
        wave: list[_Asked] = []
        try:
            while self._asked:
                async with self._lock:
                    wave = [self._asked.popleft() for _ in range(min(len(self._asked), MAX_WAVE))]
                    wave = [asked for asked in wave if not asked.future.done()]
                    again = await self._send_wave(wave) if wave else []
                self._asked.extendleft(reversed(again))
                wave = []
                await asyncio.sleep(RETRY_PAUSE_S * max((asked.attempts - 1 for asked in again), default=0))
        except Exception as error:
            for asked in (*wave, *self._asked):
                asked.fail(error)
            self._asked.clear()
        finally:
            for asked in (*wave, *self._asked):
                asked.future.cancel()

    async def _send_wave(self, wave: Sequence[_Asked]) -> list[_Asked]:
        """Give each a number and send them all at once. Returns those that need another one."""
        try:
            first, fee = await self._take_nonce(), await self._fees.current()
        except GessoError as error:
            self._next = None
            for asked in wave:
                asked.fail(error)
            return []
        loop = asyncio.get_running_loop()
        flights = [_Flight(first + place, asked.fields, fee, loop.create_future()) for place, asked in enumerate(wave)]
        outcomes = await asyncio.gather(*map(self._push, flights), return_exceptions=True)
        self._next = first + len(wave)
        refused: list[tuple[_Asked, int, BaseException]] = []
        for asked, flight, outcome in zip(wave, flights, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                refused.append((asked, flight.nonce, outcome))
            else:
                self._flights[flight.nonce] = flight
                asked.took(flight)
        self._inclusion.look_now()
        return await self._after_refusals(refused, first, first + len(wave)) if refused else []

    async def _after_refusals(
        self, refused: Sequence[tuple[_Asked, int, BaseException]], first: int, end: int
    ) -> list[_Asked]:
        again: list[_Asked] = []
        gaps: list[int] = []
        for asked, nonce, error in refused:
            if isinstance(error, RpcRefused) and _says(error, _UNDERPRICED + _STALE_NONCE):
                asked.attempts += 1
                again.append(asked)
            else:
                asked.fail(error)
                if not isinstance(error, Unreachable) and any(number > nonce for number in self._flights):
                    gaps.append(nonce)
        if all(isinstance(error, RpcRefused) and _says(error, _UNDERPRICED) for _, _, error in refused):
            # Somebody's older transactions sit on these numbers; the chain's own count steps over them.
            counted = await self._pending()
            self._next = end if counted is not None and first <= counted < end else counted
        else:
            self._next = None
        for nonce in gaps:
            with suppress(GessoError):  # whoever waits behind it tries again
                await self._fill(nonce)
        for asked in again:
            if asked.attempts >= BROADCAST_ATTEMPTS:
                asked.fail(NonceConflict())
        return [asked for asked in again if not asked.future.done()]

    async def _pending(self) -> int | None:
        with suppress(GessoError):
            return await self._rpc.nonce(self._wallet.address, pending=True)
        return None

    async def _take_nonce(self) -> int:
        if self._next is None or all(flight.abandoned for flight in self._flights.values()):
            self._flights = {nonce: flight for nonce, flight in self._flights.items() if not flight.abandoned}
            return await self._rpc.nonce(self._wallet.address, pending=True)
        return self._next

    async def _push(self, flight: _Flight) -> bool:
        """Sign at the flight's price and send. True when the pool did not have it yet."""
        signed = self._wallet.sign_transaction(
            {
                **flight.fields,
                "type": 2,
                "chainId": self._chain_id,
                "nonce": flight.nonce,
                "maxFeePerGas": flight.fee.most,
                "maxPriorityFeePerGas": flight.fee.tip,
            }
        )
        self._inclusion.expect(signed.hash, flight.future)
        try:
            fresh = await self._send_raw(signed)
        except GessoError:
            if all(signed.hash != other.hash for other in flight.sent):
                self._inclusion.forget([signed.hash])
            raise
        if all(signed.hash != other.hash for other in flight.sent):
            flight.sent.append(signed)
        return fresh

    async def _send_raw(self, signed: SignedTransaction) -> bool:
        for attempt in range(PUSH_ATTEMPTS):
            try:
                await self._rpc.send_raw(signed.raw)
                return True
            except Unreachable:
                # It may have arrived; sending the same bytes again is harmless and tells.
                if attempt + 1 == PUSH_ATTEMPTS:
                    raise
                await asyncio.sleep(PUSH_PAUSE_S * (attempt + 1))
            except RpcRefused as error:
                if _says(error, _KNOWN):
                    return False
                if attempt and _says(error, _STALE_NONCE) and await self._rpc.receipt(signed.hash) is not None:
                    return False
                raise
        raise AssertionError("unreachable")

    # Waiting

    async def _landed(self, flight: _Flight) -> Receipt:
        patience = self._settings.stuck_after_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.receipt_timeout_s
        while (left := deadline - loop.time()) > 0:
            done, _ = await asyncio.wait({flight.future}, timeout=min(patience, left))
            if done:
                return flight.future.result()
            async with self._lock:
                await self._unstick(flight)
        raise ChainError(
            f"a transaction was not mined within {self._settings.receipt_timeout_s:g} s",
            hint="it may still be; look at the chain before sending it again",
        )

    async def _unstick(self, flight: _Flight) -> None:
        """Repair everything that stands between the chain's count and this flight."""
        try:
            reached = await self._rpc.nonce(self._wallet.address, pending=False)
            if reached > flight.nonce:
                await self._check_replaced(flight)
                return
            for nonce in range(reached, min(flight.nonce + 1, reached + MAX_REPAIR)):
                ours = self._flights.get(nonce)
                if ours is None:
                    await self._fill(nonce)
                elif not await self._push(ours) and nonce == reached:
                    # The pool has it and it does not move: it must pay too little.
                    ours.fee = self._fees.within(ours.fee.bumped().at_least(await self._fees.current()))
                    await self._push(ours)
        except (Unreachable, RpcRefused):
            return  # the next round tries again, until the deadline

    async def _check_replaced(self, flight: _Flight) -> None:
        for signed in flight.sent:
            receipt = await self._rpc.receipt(signed.hash)
            if receipt is not None:
                if not flight.future.done():
                    flight.future.set_result(receipt)
                return
        self._flights.pop(flight.nonce, None)
        self._next = None
        raise NonceConflict()

    async def _fill(self, nonce: int) -> None:
        """Use up a number that a lost transaction of an earlier life left open."""
        fee = await self._fees.current()
        address = str(self._wallet.address)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        for _ in range(FILL_BUMPS):
            filler = _Flight(nonce, {"to": address, "data": b"", "gas": TRANSFER_GAS, "value": 0}, fee, future)
            try:
                await self._push(filler)
                return
            except RpcRefused as error:
                if not _says(error, _UNDERPRICED):
                    raise
                fee = self._fees.within(fee.bumped().bumped())
            finally:
                self._inclusion.forget(signed.hash for signed in filler.sent)

    async def _why(self, message: Mapping[str, Any], gas: int, receipt: Receipt) -> GessoError:
        """Replay a failed transaction: after its block (what beat it is in there), then before."""
        block = number(receipt["blockNumber"])
        for at in (block, block - 1):
            try:
                await self._rpc.request("eth_call", {**message, "gas": hex(gas)}, hex(max(at, 0)))
            except (RpcRefused, Unreachable):
                continue
            except GessoError as error:
                return error
        spent_all = number(receipt["gasUsed"]) >= gas
        return ChainReverted("OutOfGas" if spent_all else "Unknown", (str(receipt["transactionHash"]),))


def _says(error: RpcRefused, phrases: tuple[str, ...]) -> bool:
    text = error.text.lower()
    return any(phrase in text for phrase in phrases)


def _mined(receipt: Receipt) -> Mined:
    return Mined(
        tx_hash=str(receipt["transactionHash"]),
        gas_used=number(receipt["gasUsed"]),
        gas_price=number(receipt.get("effectiveGasPrice") or "0x0"),
        block=number(receipt["blockNumber"]),
        logs=tuple(raw_log(entry) for entry in receipt.get("logs", [])),
        created=receipt.get("contractAddress"),
    )
