"""Gossip of tasks and nodes. Of a task it is a pointer; the chain event is what counts if this is lost."""

from __future__ import annotations

from typing import Protocol

from gesso.transport.port import Gossip, PeerId, Verdict
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.ids import Address
from gesso_protocol.messages import TOPIC_TASKS, NodeAdvert, TaskAnnouncement


class Announcer(Protocol):
    """Puts an announcement on the air. Raises GessoError when it could not."""

    async def announce(self, announcement: TaskAnnouncement) -> None: ...


class GossipAnnouncer:
    """Publishes on the gossip topic, as a peer or through a relay's bridge."""

    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    async def announce(self, announcement: TaskAnnouncement) -> None:
        """Adds where progress may be sent to us, if anybody can."""
        if self._gossip.addresses:
            reply_to = {"peer": str(self._gossip.peer_id), "reply_to": self._gossip.addresses[:8]}
            announcement = announcement.model_copy(update=reply_to)
        await self._gossip.publish(TOPIC_TASKS, announcement.encode())


async def announce_all(announcers: tuple[Announcer, ...], announcement: TaskAnnouncement) -> int:
    """Try every way; how many worked. Failing is no error: nodes read the chain as well."""
    worked = 0
    for announcer in announcers:
        try:
            await announcer.announce(announcement)
            worked += 1
        except GessoError:
            continue
    return worked


def judge_announcement(data: bytes, chain_id: int, board: Address) -> Verdict:
    """Whether a task's announcement is passed on: well formed, and of our board. Pure and quick."""
    try:
        announcement = TaskAnnouncement.decode(data)
    except EncodingInvalid:
        return Verdict.REJECT
    return Verdict.ACCEPT if (announcement.chain_id, announcement.board) == (chain_id, board) else Verdict.IGNORE


def judge_advert(peer: PeerId, data: bytes, chain_id: int) -> Verdict:
    """Whether a node's advert is passed on: a peer speaks for itself, and of our chain."""
    try:
        advert = NodeAdvert.decode(data)
    except EncodingInvalid:
        return Verdict.REJECT
    if advert.peer != peer:
        return Verdict.REJECT
    return Verdict.ACCEPT if advert.chain_id == chain_id else Verdict.IGNORE
