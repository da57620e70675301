"""Transaction numbers survive crashes, losses, reorganisations and other programs; nothing gets stuck."""

from __future__ import annotations

import anyio
import pytest

from gesso.chain.chain import Chain
from gesso_protocol.errors import ChainError, NonceConflict
from gesso_protocol.ids import BlobRef
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei

from .networks import ONE, REQUESTER, Network, until

pytestmark = pytest.mark.anyio


async def nonce(network: Network) -> int:
    return await network.tools.nonce(network.wallet(REQUESTER).address, pending=False)


def foreign(network: Network, number: int, *, gwei: int = 40, value: int = 0) -> bytes:
    """A transfer by the requester's key, signed behind the client's back."""
    wallet = network.wallet(REQUESTER)
    fields = {"to": str(wallet.address), "value": value, "data": b"", "gas": 21_000, "nonce": number}
    fees = {"maxFeePerGas": gwei * 10**9, "maxPriorityFeePerGas": gwei * 10**9}
    return wallet.sign_transaction(fields | fees | {"type": 2, "chainId": network.chain.chain_id}).raw


async def test_many_at_once_are_all_mined_in_one_unbroken_row(market: Network) -> None:
    async with market.open(REQUESTER) as chain:
        start = await nonce(market)
        batch = [market.terms(fee=10**16) for _ in range(30)]
        async with anyio.create_task_group() as group:
            for terms in batch:
                group.start_soon(chain.submit, terms)
        assert await nonce(market) == start + 30
        assert await market.waiting() == 0
        states = {(await chain.task(chain.task_id(terms))).state for terms in batch}
        assert states == {TaskState.SUBMITTED}


async def test_many_at_once_share_blocks_when_mining_is_slow(market: Network) -> None:
    async with market.open(REQUESTER) as chain:
        start, height = await nonce(market), await chain.block_number()
        await market.automine(False)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(chain.submit, market.terms(fee=10**16))

            async def all_there() -> bool:
                return await market.waiting() == 20

            await until(all_there)
            await market.mine()
        assert await nonce(market) == start + 20
        assert await chain.block_number() == height + 1


async def test_a_killed_clients_waiting_transaction_is_stepped_over(market: Network) -> None:
    await market.automine(False)
    start = await nonce(market)
    async with market.open(REQUESTER) as first, anyio.create_task_group() as group:
        group.start_soon(first.submit, lost := market.terms())

        async def sent() -> bool:
            return await market.waiting() == 1

        await until(sent)
        group.cancel_scope.cancel()
    async with market.open(REQUESTER) as second:
        await market.automine(True)
        receipt = await second.submit(mine := market.terms())
        assert receipt.task_id == second.task_id(mine)
        assert await nonce(market) == start + 2
        assert (await second.task(second.task_id(lost))).state is TaskState.SUBMITTED


async def test_a_gap_left_by_an_earlier_life_is_closed(market: Network) -> None:
    """The number after next waits in the pool, its predecessor never arrived: using the gap frees both."""
    start = await nonce(market)
    await market.tools.send_raw(foreign(market, start + 1))
    async with market.open(REQUESTER) as chain:
        await chain.submit(market.terms())
        await chain.submit(market.terms())

        async def drained() -> bool:
            return await nonce(market) == start + 3 and await market.waiting() == 0

        await until(drained)


async def test_a_dropped_transaction_is_sent_again(market: Network) -> None:
    await market.automine(False)
    async with market.open(REQUESTER, stuck_after_s=0.3) as chain, anyio.create_task_group() as group:
        group.start_soon(chain.submit, terms := market.terms())

        async def sent() -> bool:
            return await market.waiting() == 1

        await until(sent)
        await market.tools.request("anvil_dropAllTransactions")
        await until(sent)  # again: by nobody else
        await market.mine()
    assert (await read(market, terms)) is TaskState.SUBMITTED


async def test_a_transaction_that_does_not_move_is_replaced_at_a_higher_price(market: Network) -> None:
    await market.automine(False)
    async with market.open(REQUESTER, stuck_after_s=0.3) as chain, anyio.create_task_group() as group:
        group.start_soon(chain.submit, terms := market.terms())

        async def replaced() -> bool:
            return any(len(flight.sent) > 1 for flight in flights(chain))

        await until(replaced)
        (flight,) = flights(chain)
        assert await market.waiting() == 1
        assert flight.fee.tip > 10**6
        await market.mine()
    assert (await read(market, terms)) is TaskState.SUBMITTED


async def test_a_lost_predecessor_is_filled_by_those_who_wait_behind_it(market: Network) -> None:
    """Our number is right by the chain's own count, then the transaction before it vanishes from the pool."""
    await market.automine(False)
    start = await nonce(market)
    doomed = await market.tools.send_raw(foreign(market, start))
    async with market.open(REQUESTER, stuck_after_s=0.3) as chain, anyio.create_task_group() as group:
        group.start_soon(chain.submit, terms := market.terms())

        async def behind() -> bool:
            return await market.waiting() == 2

        await until(behind)
        await market.tools.request("anvil_dropTransaction", doomed)
        await until(behind)
        await market.mine()

        async def drained() -> bool:
            return await nonce(market) == start + 2

        await until(drained)
    assert (await read(market, terms)) is TaskState.SUBMITTED


async def test_another_program_on_the_same_wallet_is_reported(market: Network) -> None:
    await market.automine(False)
    start = await nonce(market)
    async with market.open(REQUESTER, stuck_after_s=0.3) as chain, anyio.create_task_group() as group:
        caught: list[ChainError] = []

        async def submit() -> None:
            try:
                await chain.submit(market.terms())
            except NonceConflict as error:
                caught.append(error)

        group.start_soon(submit)

        async def sent() -> bool:
            return await market.waiting() == 1

        await until(sent)
        await market.tools.send_raw(foreign(market, start, gwei=4000))
        await market.mine()
    assert len(caught) == 1


async def test_a_number_used_elsewhere_in_between_is_not_used_twice(market: Network) -> None:
    async with market.open(REQUESTER) as chain:
        await chain.submit(market.terms())
        await market.tools.send_raw(foreign(market, await nonce(market)))
        await chain.submit(market.terms())


async def test_after_a_reorganisation_sending_goes_on(market: Network) -> None:
    async with market.open(REQUESTER) as chain:
        await chain.submit(lost := market.terms())
        await market.reorg(1)
        assert (await chain.task(chain.task_id(lost))).state is TaskState.UNKNOWN
        await chain.submit(lost)
        await chain.submit(market.terms())
        assert (await chain.task(chain.task_id(lost))).state is TaskState.SUBMITTED


async def test_waiting_has_an_end(market: Network) -> None:
    await market.automine(False)
    async with market.open(REQUESTER, stuck_after_s=0.2, receipt_timeout_s=0.5) as chain:
        with pytest.raises(ChainError, match="not mined within"):
            await chain.withdraw(Wei(ONE))


async def test_a_failed_estimate_uses_no_number(market: Network) -> None:
    async with market.open(REQUESTER) as chain:
        start = await nonce(market)
        with pytest.raises(ChainError):
            await chain.publish_listing("Not A Name", BlobRef.of(b"1"), kind=0)
        assert await nonce(market) == start


def flights(chain: Chain) -> list:  # type: ignore[type-arg]
    assert chain._sender is not None
    return list(chain._sender._flights.values())


async def read(network: Network, terms: object) -> TaskState:
    async with network.open(None) as reader:
        return (await reader.task(reader.task_id(terms))).state  # type: ignore[arg-type]
