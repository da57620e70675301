"""What every voice promises about gossip: whole peers, and users of a relay's bridge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import pytest

from gesso.transport import MAX_GOSSIP_BYTES, Gossip, Message, PeerId, Validator, Verdict
from gesso.transport.signed import Signed
from gesso_protocol.errors import MessageTooLarge, PeerUnreachable, RateLimited, TransportError

if TYPE_CHECKING:
    from conftest import Air, Net

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
TOPIC = "gesso/test/1"


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


def picky(verdict: Verdict | None) -> Validator:
    """Accepts what is good; None stands for a validator with a bug."""

    def judge(_peer: PeerId, data: bytes) -> Verdict:
        if data == b"good":
            return Verdict.ACCEPT
        if verdict is None:
            raise ValueError("a validator with a bug")
        return verdict

    return judge


def meshed(transport: Gossip, count: int) -> Callable[[], bool]:
    return lambda: transport.health().topics[TOPIC].mesh >= count


async def test_a_message_reaches_others_with_its_author_but_not_ourselves(air: Air, eventually: Eventually) -> None:
    async with (
        air.new("a") as a,
        air.new("b") as b,
        a.subscribe(TOPIC, validator=accept) as at_a,
        b.subscribe(TOPIC, validator=accept) as at_b,
    ):
        await air.join(a, b)
        await eventually(meshed(a, 1))
        await eventually(meshed(b, 1))
        await a.publish(TOPIC, b"one")
        await b.publish(TOPIC, b"two")
        with anyio.fail_after(60):
            assert await anext(aiter(at_b)) == Message(a.peer_id, b"one")
            assert await anext(aiter(at_a)) == Message(b.peer_id, b"two")
        assert a.health().topics[TOPIC].queued == 0


async def test_the_largest_message_passes_and_one_more_byte_does_not(air: Air, eventually: Eventually) -> None:
    async with (
        air.new("a") as a,
        air.new("b") as b,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept) as at_b,
    ):
        await air.join(a, b)
        await eventually(meshed(a, 1))
        with pytest.raises(MessageTooLarge):
            await a.publish(TOPIC, b"x" * (MAX_GOSSIP_BYTES + 1))
        await a.publish(TOPIC, b"x" * MAX_GOSSIP_BYTES)
        with anyio.fail_after(60):
            assert len((await anext(aiter(at_b))).data) == MAX_GOSSIP_BYTES


async def test_publishing_too_fast_is_said_not_swallowed(air: Air) -> None:
    async with air.new("a", publish_per_s=0.001) as a:
        await a.publish(TOPIC, b"first")
        with pytest.raises(RateLimited):
            await a.publish(TOPIC, b"second")
        await a.publish("gesso/other/1", b"another topic has its own rate")


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.IGNORE, None])
async def test_what_a_validator_does_not_accept_is_not_delivered(
    air: Air, eventually: Eventually, verdict: Verdict | None
) -> None:
    async with (
        air.new("a") as a,
        air.new("b") as b,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=picky(verdict)) as at_b,
    ):
        await air.join(a, b)
        await eventually(meshed(a, 1))
        await eventually(meshed(b, 1))
        await a.publish(TOPIC, b"bad")
        await eventually(lambda: b.health().topics[TOPIC].refused == 1)
        await a.publish(TOPIC, b"good")
        with anyio.fail_after(60):
            assert await anext(aiter(at_b)) == Message(a.peer_id, b"good")


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.IGNORE, None])
async def test_what_a_peer_does_not_accept_it_does_not_pass_on(
    net: Net, eventually: Eventually, verdict: Verdict | None
) -> None:
    async with (
        net.new("a") as a,
        net.new("b") as b,
        net.new("c") as c,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=picky(verdict)),
        c.subscribe(TOPIC, validator=accept) as at_c,
    ):
        await a.connect(b.addresses[0])
        await b.connect(c.addresses[0])
        await eventually(meshed(b, 2))
        await eventually(meshed(a, 1))
        await a.publish(TOPIC, b"bad")
        await eventually(lambda: b.health().topics[TOPIC].refused == 1)
        await a.publish(TOPIC, b"good")
        with anyio.fail_after(60):
            assert await anext(aiter(at_c)) == Message(a.peer_id, b"good")


async def test_a_slow_reader_loses_the_oldest_and_knows_it(air: Air, eventually: Eventually) -> None:
    async with (
        air.new("a") as a,
        air.new("b") as b,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept, queue=3) as at_b,
    ):
        await air.join(a, b)
        await eventually(meshed(a, 1))
        for number in range(8):
            await a.publish(TOPIC, str(number).encode())
        await eventually(lambda: b.health().topics[TOPIC].dropped == 5)
        with anyio.fail_after(60):
            kept = [await anext(aiter(at_b)) for _ in range(3)]
        assert len({message.data for message in kept}) == 3
        assert b"7" in {message.data for message in kept}


async def test_leaving_ends_the_iteration_and_the_topic_can_be_joined_again(air: Air, eventually: Eventually) -> None:
    async with air.new("a") as a, air.new("b") as b, a.subscribe(TOPIC, validator=accept):
        first = b.subscribe(TOPIC, validator=accept)
        with pytest.raises(TransportError):
            b.subscribe(TOPIC, validator=accept)
        await first.aclose()
        assert [message async for message in first] == []
        async with b.subscribe(TOPIC, validator=accept) as again:
            await air.join(a, b)
            await eventually(meshed(a, 1))
            await a.publish(TOPIC, b"hello again")
            with anyio.fail_after(60):
                assert (await anext(aiter(again))).data == b"hello again"


async def test_closing_the_transport_ends_the_iteration(air: Air) -> None:
    async with air.new("a") as a:
        messages = a.subscribe(TOPIC, validator=accept)
    with anyio.fail_after(60):
        assert [message async for message in messages] == []


async def test_thirty_messages_through_a_chain_of_three(air: Air, eventually: Eventually) -> None:
    async with (
        air.new("a") as a,
        air.new("b") as b,
        air.new("c") as c,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept),
        c.subscribe(TOPIC, validator=accept) as at_c,
    ):
        await air.join(a, b)
        await air.join(c, b)
        await eventually(meshed(b, min(2, air.neighbours)))
        await eventually(meshed(a, 1))
        await eventually(meshed(c, 1))
        for number in range(30):
            await a.publish(TOPIC, str(number).encode())
        with anyio.fail_after(60):
            heard = {(await anext(aiter(at_c))).data for _ in range(30)}
        assert heard == {str(number).encode() for number in range(30)}


async def test_a_voice_that_is_closed_says_so(air: Air) -> None:
    async with air.new("a") as a:
        pass
    with pytest.raises(PeerUnreachable):
        await a.publish(TOPIC, b"x")
    with pytest.raises(PeerUnreachable):
        a.subscribe(TOPIC, validator=accept)
    assert not a.health().running


async def test_a_message_proves_its_author_to_whoever_gets_it(air: Air, eventually: Eventually) -> None:
    async with (
        air.new("a") as a,
        air.new("b") as b,
        a.subscribe(TOPIC, validator=accept),
        b.subscribe(TOPIC, validator=accept) as at_b,
    ):
        await air.join(a, b)
        await eventually(meshed(a, 1))
        await a.publish(TOPIC, b"mine")
        with anyio.fail_after(60):
            proof = Signed.decode((await anext(aiter(at_b))).signed)
        assert (proof.peer, proof.topic, proof.data) == (a.peer_id, TOPIC, b"mine")
