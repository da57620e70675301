"""The relay as a peer: others bootstrap from it, it hears who is alive, and speaks for users who have only HTTP."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
import structlog

from gesso.transport.port import PeerId, Transport, Validator, Verdict
from gesso_protocol.errors import EncodingInvalid, GessoError, UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.messages import TOPIC_NODES, TOPIC_TASKS, NodeAdvert, TaskAnnouncement
from gesso_relay.presence import Presence

_REMEMBERED = 4096
_AGAIN_AFTER_S = 4.0
_REJOIN_S = 1.0


class GossipBridge:
    """Takes part in both topics of one network and passes announcements on."""

    def __init__(self, transport: Transport, chain_id: int, board: Address, presence: Presence) -> None:
        self._transport = transport
        self._chain_id = chain_id
        self._board = board
        self._presence = presence
        self._announced: OrderedDict[TaskId, float] = OrderedDict()
        self._log = structlog.get_logger("gesso.relay.gossip")
        self.heard_tasks = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._transport.addresses

    @property
    def peers(self) -> int:
        return len(self._transport.peers())

    async def run(self) -> None:
        """Listen to both topics until cancelled; being in a topic is also what lets this peer pass messages on."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep, self._hear_tasks)
            group.start_soon(self._keep, self._hear_nodes)

    async def _keep(self, listen: Callable[[], Awaitable[None]]) -> None:
        # Blobs and index are worth having without gossip, so its failures end nothing else.
        while True:
            try:
                await listen()
            except GessoError as error:
                self._log.warning("gossip.lost", reason=error.message)
            await anyio.sleep(_REJOIN_S)

    async def announce(self, announcement: TaskAnnouncement) -> bool:
        """Gossip a task for somebody; false when that was done a moment ago. A requester that lost its result asks
        the node for it by announcing the task again. Raises UsageError for another network."""
        if not self._is_ours(announcement.chain_id, announcement.board):
            raise UsageError("this announcement is of another network", hint="GET /v1/network names this one")
        if time.monotonic() - self._announced.get(announcement.task, -_AGAIN_AFTER_S) < _AGAIN_AFTER_S:
            return False
        await self._transport.publish(TOPIC_TASKS, announcement.encode())
        self._remember(announcement.task)
        return True

    async def _hear_tasks(self) -> None:
        async with self._transport.subscribe(TOPIC_TASKS, validator=self._task_validator()) as messages:
            async for message in messages:
                self.heard_tasks += 1
                self._remember(TaskAnnouncement.decode(message.data).task)

    async def _hear_nodes(self) -> None:
        async with self._transport.subscribe(TOPIC_NODES, validator=self._node_validator()) as messages:
            async for message in messages:
                advert = NodeAdvert.decode(message.data)
                if self._presence.note(message.peer, advert, time.monotonic()):
                    self._log.debug("node.heard", node=advert.wallet.short)

    def _task_validator(self) -> Validator:
        def validate(_peer: PeerId, data: bytes) -> Verdict:
            try:
                announcement = TaskAnnouncement.decode(data)
            except EncodingInvalid:
                return Verdict.REJECT
            return Verdict.ACCEPT if self._is_ours(announcement.chain_id, announcement.board) else Verdict.IGNORE

        return validate

    def _node_validator(self) -> Validator:
        def validate(peer: PeerId, data: bytes) -> Verdict:
            try:
                advert = NodeAdvert.decode(data)
            except EncodingInvalid:
                return Verdict.REJECT
            if advert.peer != peer:
                return Verdict.REJECT
            return Verdict.ACCEPT if advert.chain_id == self._chain_id else Verdict.IGNORE

        return validate

    def _is_ours(self, chain_id: int, board: Address) -> bool:
        return (chain_id, board) == (self._chain_id, self._board)

    def _remember(self, task: TaskId) -> None:
        self._announced[task] = time.monotonic()
        self._announced.move_to_end(task)
        if len(self._announced) > _REMEMBERED:
            self._announced.popitem(last=False)
