"""Gossip: hearing of tasks before their block, and saying that we are here. Hints both; the chain decides.

An announcement can name a task and where its requester listens. It cannot make the node do anything that the chain
does not confirm, so the worst a liar achieves is a task that is remembered for two minutes and then dropped.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
import structlog

from gesso.announce import judge_announcement
from gesso.transport.port import PeerId, Transport, Verdict
from gesso_node.network.progress import ProgressSender
from gesso_node.state.observe import Observer
from gesso_node.tasks.recall import Recall
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.messages import TOPIC_NODES, TOPIC_TASKS, NodeAdvert, TaskAnnouncement
from gesso_protocol.policy import Offer

log = structlog.get_logger("gesso.node.discover")

ADVERT_EVERY_S = 15.0
REJOIN_AFTER_S = 2.0
MAX_SEEN = 4096
SOFTWARE = "gesso-node/0.1.0"


class Announcements:
    """Listens to task announcements. `heard` counts them, by what became of them."""

    def __init__(
        self,
        transport: Transport,
        observer: Observer,
        progress: ProgressSender,
        *,
        chain_id: int,
        board: Address,
        chain_now: Callable[[], Awaitable[int]],
        wake: Callable[[], None],
        recall: Recall | None = None,
    ) -> None:
        self._transport = transport
        self._observer = observer
        self._progress = progress
        self._chain_id = chain_id
        self._board = board
        self._chain_now = chain_now
        self._wake = wake
        self._recall = recall
        self._seen: OrderedDict[TaskId, None] = OrderedDict()
        self.heard = 0

    def validate(self, _: PeerId, data: bytes) -> Verdict:
        """Pure and quick: is it well formed, and about our board?"""
        return judge_announcement(data, self._chain_id, self._board)

    async def run(self) -> None:
        """Until cancelled; a subscription that ends is joined again."""
        while True:
            try:
                async with self._transport.subscribe(TOPIC_TASKS, validator=self.validate) as messages:
                    async for message in messages:
                        await self.hear(message.data)
            except GessoError as error:
                log.warning("discover.gossip-away", code=error.code)
            await anyio.sleep(REJOIN_AFTER_S)

    async def hear(self, data: bytes) -> None:
        """One announcement. Anything malformed is ignored: the transport's validator has judged its sender."""
        try:
            announcement = TaskAnnouncement.decode(data)
        except EncodingInvalid:
            return
        asked = (announcement.task, announcement.peer, announcement.reply_to)
        if self._recall is not None and await self._recall.recall(*asked):
            return
        self._progress.remember(*asked)
        if announcement.task in self._seen:
            return
        self._seen[announcement.task] = None
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        self.heard += 1
        try:
            now = await self._chain_now()
        except GessoError:
            return
        self._observer.hear(announcement.task, announcement.terms, now)
        self._wake()


class Adverts:
    """Tells the network that this node is alive and what it offers."""

    def __init__(
        self,
        transport: Transport,
        *,
        chain_id: int,
        wallet: Address,
        offer: Callable[[], Offer],
        free: Callable[[], int],
    ) -> None:
        self._transport = transport
        self._chain_id = chain_id
        self._wallet = wallet
        self._offer = offer
        self._free = free

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once(int(time.time()))
            await anyio.sleep(ADVERT_EVERY_S)

    async def once(self, now: int) -> None:
        """One advert; `now` is unix seconds. A network that is away is tried again next time."""
        advert = NodeAdvert(
            chain_id=self._chain_id,
            wallet=self._wallet,
            peer=str(self._transport.peer_id),
            addresses=self._transport.addresses[:8],
            offer=self._offer(),
            free_slots=max(0, self._free()),
            software=SOFTWARE,
            sent_at=now,
        )
        try:
            await self._transport.publish(TOPIC_NODES, advert.encode())
        except GessoError as error:
            log.debug("discover.advert-lost", code=error.code)
