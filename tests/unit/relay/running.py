"""A relay over a fake chain, with a client for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx

from gesso.transport.port import Transport
from gesso_relay import Limits, Relay, RelaySettings

from .fakechain import SETTINGS, FakeChain

GENEROUS = Limits(requests_per_s=10_000, request_burst=10_000, heartbeat_s=0.2)


@dataclass
class Running:
    """A relay that runs, the chain under it, and a client."""

    relay: Relay
    chain: FakeChain
    client: httpx.AsyncClient

    async def json(self, path: str, status: int = 200) -> Any:
        reply = await self.client.get(path)
        assert reply.status_code == status, reply.text
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        return reply.json()

    async def indexed(self) -> None:
        """Wait until the index is where the chain is."""
        head = len(self.chain.blocks) - 1
        wanted = self.chain._hash(head)
        with anyio.fail_after(60):
            while True:
                cursor = await self.relay._follower._writer.cursor()
                if cursor is not None and cursor.trail and cursor.trail[0].hash == wanted:
                    return
                await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def running(
    folder: Path, chain: FakeChain | None = None, *, transport: Transport | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """A relay with quick polling. `settings` replace the defaults of a test."""
    chain = chain or FakeChain()
    wanted = {"limits": GENEROUS, "index_poll_s": 0.005, "listen_port": 0, **settings}
    made = RelaySettings(data_dir=folder / "relay", chain=SETTINGS, **wanted)
    async with (
        Relay.open(made, chain=chain, transport=transport) as relay,
        httpx.AsyncClient(base_url=relay.url, timeout=60, trust_env=False) as client,
    ):
        yield Running(relay, chain, client)


@dataclass
class Sent:
    """One server-sent event."""

    name: str
    data: Any
    id: str | None


@asynccontextmanager
async def stream(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Sent]]:
    """The events of a stream, parsed as a browser would."""
    async with client.stream("GET", path, headers=headers) as reply:
        assert reply.status_code == 200, await reply.aread()
        assert reply.headers["content-type"] == "text/event-stream"
        yield _events(reply)


async def _events(reply: httpx.Response) -> AsyncIterator[Sent]:
    fields: dict[str, str] = {}
    async for line in reply.aiter_lines():
        if line == "" and fields:
            yield Sent(fields.get("event", ""), json.loads(fields["data"]), fields.get("id"))
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
