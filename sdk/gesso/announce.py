"""Telling the network about a task: a pointer, gossiped. The chain event is what counts if this is lost."""

from __future__ import annotations

from typing import Protocol

import httpx

from gesso.transport.port import Transport
from gesso_protocol.errors import GessoError, Unreachable
from gesso_protocol.messages import TOPIC_TASKS, TaskAnnouncement


class Announcer(Protocol):
    """Puts an announcement on the air. Raises GessoError when it could not."""

    async def announce(self, announcement: TaskAnnouncement) -> None: ...


class PeerAnnouncer:
    """Publishes on the gossip topic as a peer of our own."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def announce(self, announcement: TaskAnnouncement) -> None:
        """Adds where progress may be sent to us."""
        addressed = announcement.model_copy(
            update={"peer": str(self._transport.peer_id), "reply_to": self._transport.addresses[:8]}
        )
        await self._transport.publish(TOPIC_TASKS, addressed.encode())


class RelayAnnouncer:
    """Asks a relay to gossip for us; it checks the announcement and cannot change the task."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def announce(self, announcement: TaskAnnouncement) -> None:
        """Raises Unreachable when the relay is away or refuses."""
        try:
            reply = await self._client.post("/v1/announce", content=announcement.encode())
        except httpx.HTTPError as error:
            raise Unreachable(f"the relay did not take the announcement: {type(error).__name__}") from error
        if reply.status_code >= 300:
            raise Unreachable(f"the relay refused the announcement with status {reply.status_code}")


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
