"""Whoever says that it ordered a task is told of it; nobody takes the place of who said so before."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId
from gesso_node.executors.port import StepDone
from gesso_node.network.progress import MAX_PLACES, ProgressSender
from gesso_protocol.errors import PeerUnreachable
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.messages import PROTOCOL_PROGRESS, ProgressEvent

pytestmark = pytest.mark.anyio
ME, TASK = Address("0x" + "33" * 20), TaskId(b"\x05" * 32)
HANDOVER = Handover(
    manifest=BlobRef(b"\1" * 32), result_root=Root(b"\2" * 32), trace_root=Root(b"\3" * 32), signature="00" * 65
)


class Listener:
    """What one peer was told."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.stages: list[str] = []
        transport.serve(PROTOCOL_PROGRESS, self._take)

    async def _take(self, _: PeerId, data: bytes) -> bytes:
        self.stages.append(ProgressEvent.decode(data).stage)
        return b""

    @property
    def place(self) -> tuple[str, tuple[str, ...]]:
        return str(self.transport.peer_id), self.transport.addresses


class RelayDouble:
    """A relay, and what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        client = httpx.AsyncClient(base_url="http://relay", transport=httpx.MockTransport(self._take))
        self.client = client

    def _take(self, request: httpx.Request) -> httpx.Response:
        self.stages.append(ProgressEvent.decode(request.content).stage)
        return httpx.Response(202)


async def told(sender: ProgressSender) -> None:
    sender.step(TASK, StepDone(0, 1, 4, None))
    sender.hand_over(TASK, HANDOVER)
    sender.step(TASK, StepDone(0, 2, 4, None))
    await sender.flush(60)
    await sender.release(TASK)


async def test_a_stranger_does_not_take_the_requester_s_place() -> None:
    hub, relay = MemoryHub(), RelayDouble()
    async with AsyncExitStack() as stack:
        mine, *others = [await stack.enter_async_context(MemoryTransport(hub)) for _ in range(MAX_PLACES + 3)]
        requester, *strangers = map(Listener, others)
        sender = ProgressSender(ME, mine, [relay.client])
        for listener in (requester, *strangers, *strangers):
            sender.remember(TASK, *listener.place)
        await told(sender)
    assert requester.stages == ["delivered", "executing"]
    assert sum(bool(stranger.stages) for stranger in strangers) == MAX_PLACES - 1, "and their number is bounded"
    assert relay.stages == requester.stages, "where nobody knows which of them ordered it, relays are told too"


async def test_the_only_one_is_told_and_relays_of_its_result() -> None:
    hub, relay = MemoryHub(), RelayDouble()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as theirs:
        requester = Listener(theirs)
        sender = ProgressSender(ME, mine, [relay.client])
        sender.remember(TASK, *requester.place)
        sender.remember(TASK, str(theirs.peer_id), ("/memory/elsewhere",))
        await told(sender)
    assert requester.stages == ["delivered", "executing"]
    assert relay.stages == ["delivered"]


async def test_one_that_is_gone_makes_room_for_another() -> None:
    asked: list[str] = []

    async def request(peer: PeerId, *_: object, **__: object) -> bytes:
        asked.append(str(peer))
        if peer != "here":
            raise PeerUnreachable
        return b""

    transport = cast(Any, SimpleNamespace(request=request, peers=lambda: ()))
    sender = ProgressSender(ME, transport, [])
    for number in range(MAX_PLACES):
        sender.remember(TASK, f"gone-{number}", ())
    sender.step(TASK, StepDone(0, 1, 4, None))
    await sender.flush(60)
    sender.remember(TASK, "here", ())
    sender.step(TASK, StepDone(0, 2, 4, None))
    await sender.flush(60)
    assert asked[MAX_PLACES:] == ["here"]
