"""Telling the network about a task: a pointer, gossiped. The chain event is what counts if this is lost."""

from __future__ import annotations

from typing import Protocol

from gesso.transport.port import Gossip
from gesso_protocol.errors import GessoError
from gesso_protocol.messages import TOPIC_TASKS, TaskAnnouncement


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
