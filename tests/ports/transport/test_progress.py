"""Progress over every transport: arrives in order, is refused to the wrong peer, never holds up the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio
import pytest

from gesso.transport import Handler, PeerId
from gesso.transport.progress import ProgressSender, serve_progress, to_peer
from gesso_protocol.errors import PeerUnreachable, TransportError, UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.messages import PROTOCOL_PROGRESS, ProgressEvent

if TYPE_CHECKING:
    from conftest import Net

pytestmark = pytest.mark.anyio
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
NODE = Address("0x" + "11" * 20)
TASK = TaskId(b"\x01" * 32)


def step(sequence: int, task: TaskId = TASK) -> ProgressEvent:
    return ProgressEvent(task=task, node=NODE, sequence=sequence, stage="executing", step=sequence, total=1000)


async def anybody(_peer: PeerId, _event: ProgressEvent) -> bool:
    return True


async def test_steps_arrive_in_order_and_the_dial_is_done_for_us(net: Net, eventually: Eventually) -> None:
    async with net.new("node") as node, net.new("requester") as requester:
        feed = serve_progress(requester, accept=anybody)
        async with ProgressSender(to_peer(node, requester.peer_id, requester.addresses)) as sender:
            for sequence in range(10):
                sender.offer(step(sequence))
            with anyio.fail_after(60):
                assert [(await anext(feed)).sequence for _ in range(10)] == list(range(10))
            await eventually(lambda: sender.sent == 10)
        assert sender.lost == 0


async def test_offering_never_waits_and_keeps_the_newest() -> None:
    async def nowhere(_data: bytes) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(60):
        async with ProgressSender(nowhere, queue=4) as sender:
            for sequence in range(5000):
                sender.offer(step(sequence % 1000))
            assert sender.lost >= 4990


async def test_another_way_is_tried_when_the_first_fails() -> None:
    arrived: list[bytes] = []

    async def broken(_data: bytes) -> None:
        raise PeerUnreachable

    async def relay(data: bytes) -> None:
        arrived.append(data)

    async with ProgressSender(broken, relay) as sender:
        sender.offer(step(1))
    assert [ProgressEvent.decode(data).sequence for data in arrived] == [1]
    assert (sender.sent, sender.lost) == (1, 0)


async def test_old_foreign_and_malformed_events_are_refused(net: Net) -> None:
    async def ours(_peer: PeerId, event: ProgressEvent) -> bool:
        return event.task == TASK

    async with net.new("node") as node, net.new("requester") as requester:
        feed = serve_progress(requester, accept=ours)
        peer = await node.connect(requester.addresses[0])
        await node.request(peer, PROTOCOL_PROGRESS, step(5).encode())
        for refused in (step(5).encode(), step(4).encode(), step(9, TaskId(b"\x02" * 32)).encode(), b"{}", b"\xff"):
            with pytest.raises(TransportError):
                await node.request(peer, PROTOCOL_PROGRESS, refused)
        with pytest.raises(TransportError):
            await node.request(peer, PROTOCOL_PROGRESS, b"x" * 100_000)
        await node.request(peer, PROTOCOL_PROGRESS, step(6).encode())
        with anyio.fail_after(60):
            assert [(await anext(feed)).sequence for _ in range(2)] == [5, 6]


@pytest.mark.parametrize("overtaken", [5, 6])
async def test_events_that_are_looked_at_together_come_in_order_and_once(overtaken: int) -> None:
    served: list[Handler] = []
    looked, seen = anyio.Event(), list[int]()

    async def accept(_peer: PeerId, event: ProgressEvent) -> bool:
        seen.append(event.sequence)
        if len(seen) == 1:
            await looked.wait()
        return True

    async def overtake() -> None:
        with pytest.raises(UsageError):
            await served[0](PeerId("somebody"), step(overtaken).encode())

    transport = SimpleNamespace(serve=lambda _protocol, handler, **_: served.append(handler))
    feed = serve_progress(transport, accept=accept)  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:
        group.start_soon(overtake)
        with anyio.fail_after(60):
            while not seen:
                await anyio.lowlevel.checkpoint()
        await served[0](PeerId("somebody"), step(6).encode())
        looked.set()
    feed.close()
    assert [event.sequence async for event in feed] == [6]


async def test_a_requester_that_is_gone_costs_the_event_only(net: Net, eventually: Eventually) -> None:
    async with net.new("node") as node:
        async with net.new("requester") as requester:
            gone = (requester.peer_id, requester.addresses)
        async with ProgressSender(to_peer(node, *gone)) as sender:
            sender.offer(step(1))
            await eventually(lambda: sender.lost == 1)
    assert sender.sent == 0
