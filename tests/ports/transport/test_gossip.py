"""What every transport promises about gossip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import pytest

from gesso.transport import MAX_GOSSIP_BYTES, Message, PeerId, Transport, Verdict
from gesso_protocol.errors import MessageTooLarge, RateLimited, TransportError

if TYPE_CHECKING:
    from conftest import Net

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
TOPIC = "gesso/test/1"


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


def meshed(transport: Transport, count: int) -> Callable[[], bool]:
    return lambda: transport.health().topics[TOPIC].mesh >= count


async def test_a_message_reaches_others_with_its_author_but_not_ourselves(net: Net, eventually: Eventually) -> None:
    async with (
        net.new("a") as a,
        net.new("b") as b,
        a.subscribe(TOPIC, validator=accept) as at_a,
        b.subscribe(TOPIC, validator=accept) as at_b,
    ):
        await a.connect(b.addresses[0])
        await eventually(meshed(a, 1))
        await eventually(meshed(b, 1))
        await a.publish(TOPIC, b"one")
        await b.publish(TOPIC, b"two")
        with anyio.fail_after(30):
            assert await anext(aiter(at_b)) == Message(a.peer_id, b"one")
            assert await anext(aiter(at_a)) == Message(b.peer_id, b"two")
        assert a.health().topics[TOPIC].queued == 0


async def test_the_largest_message_passes_and_one_more_byte_does_not(net: Net, eventually: Eventually) -> None:
    async with (
        net.new("a") as a,
        net.new("b") as b,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept) as at_b,
    ):
        await a.connect(b.addresses[0])
        await eventually(meshed(a, 1))
        with pytest.raises(MessageTooLarge):
            await a.publish(TOPIC, b"x" * (MAX_GOSSIP_BYTES + 1))
        await a.publish(TOPIC, b"x" * MAX_GOSSIP_BYTES)
        with anyio.fail_after(30):
            assert len((await anext(aiter(at_b))).data) == MAX_GOSSIP_BYTES


async def test_publishing_too_fast_is_said_not_swallowed(net: Net) -> None:
    async with net.new("a", publish_per_s=0.5) as a:
        await a.publish(TOPIC, b"first")
        with pytest.raises(RateLimited):
            await a.publish(TOPIC, b"second")
        await a.publish("gesso/other/1", b"another topic has its own rate")


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.IGNORE, None])
async def test_what_a_peer_does_not_accept_it_neither_delivers_nor_passes_on(
    net: Net, eventually: Eventually, verdict: Verdict | None
) -> None:
    def picky(_peer: PeerId, data: bytes) -> Verdict:
        if data == b"good":
            return Verdict.ACCEPT
        if verdict is None:
            raise ValueError("a validator with a bug")
        return verdict

    async with (
        net.new("a") as a,
        net.new("b") as b,
        net.new("c") as c,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=picky) as at_b,
        c.subscribe(TOPIC, validator=accept) as at_c,
    ):
        await a.connect(b.addresses[0])
        await b.connect(c.addresses[0])
        await eventually(meshed(b, 2))
        await eventually(meshed(a, 1))
        await a.publish(TOPIC, b"bad")
        await eventually(lambda: b.health().topics[TOPIC].refused == 1)
        await a.publish(TOPIC, b"good")
        with anyio.fail_after(30):
            assert await anext(aiter(at_b)) == Message(a.peer_id, b"good")
            assert await anext(aiter(at_c)) == Message(a.peer_id, b"good")


async def test_a_slow_reader_loses_the_oldest_and_knows_it(net: Net, eventually: Eventually) -> None:
    async with (
        net.new("a") as a,
        net.new("b") as b,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept, queue=3) as at_b,
    ):
        await a.connect(b.addresses[0])
        await eventually(meshed(a, 1))
        for number in range(8):
            await a.publish(TOPIC, str(number).encode())
        await eventually(lambda: b.health().topics[TOPIC].dropped == 5)
        with anyio.fail_after(30):
            kept = [await anext(aiter(at_b)) for _ in range(3)]
        assert len({message.data for message in kept}) == 3
        assert b"7" in {message.data for message in kept}


async def test_leaving_ends_the_iteration_and_the_topic_can_be_joined_again(net: Net, eventually: Eventually) -> None:
    async with net.new("a") as a, net.new("b") as b, a.subscribe(TOPIC, validator=accept):
        first = b.subscribe(TOPIC, validator=accept)
        with pytest.raises(TransportError):
            b.subscribe(TOPIC, validator=accept)
        await first.aclose()
        assert [message async for message in first] == []
        async with b.subscribe(TOPIC, validator=accept) as again:
            await a.connect(b.addresses[0])
            await eventually(meshed(a, 1))
            await a.publish(TOPIC, b"hello again")
            with anyio.fail_after(30):
                assert (await anext(aiter(again))).data == b"hello again"


async def test_closing_the_transport_ends_the_iteration(net: Net) -> None:
    async with net.new("a") as a:
        messages = a.subscribe(TOPIC, validator=accept)
    with anyio.fail_after(30):
        assert [message async for message in messages] == []


async def test_thirty_messages_through_a_chain_of_three(net: Net, eventually: Eventually) -> None:
    async with (
        net.new("a") as a,
        net.new("b") as b,
        net.new("c") as c,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept),
        c.subscribe(TOPIC, validator=accept) as at_c,
    ):
        await a.connect(b.addresses[0])
        await c.connect(b.addresses[0])
        await eventually(meshed(b, 2))
        await eventually(meshed(a, 1))
        await eventually(meshed(c, 1))
        for number in range(30):
            await a.publish(TOPIC, str(number).encode())
        with anyio.fail_after(30):
            heard = {(await anext(aiter(at_c))).data for _ in range(30)}
        assert heard == {str(number).encode() for number in range(30)}
