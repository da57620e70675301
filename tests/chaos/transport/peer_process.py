"""One peer in a process of its own: prints its address as one JSON line, then serves until it is killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from gesso.transport import PeerId, Verdict
from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport

TOPIC = "gesso/test/1"


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def main(key_file: str, port: str) -> None:
    settings = Libp2pSettings(key_file=Path(key_file), listen_host="127.0.0.1", listen_port=int(port))
    async with Libp2pTransport(settings) as transport, transport.subscribe(TOPIC, validator=accept) as messages:

        async def echo(_peer: PeerId, data: bytes) -> bytes:
            if data == b"hang":
                await asyncio.sleep(600)
            return data

        transport.serve("/gesso/test/1", echo)
        print(json.dumps({"address": transport.addresses[0]}), flush=True)
        async for message in messages:
            await transport.publish(TOPIC, b"heard " + message.data)


asyncio.run(main(*sys.argv[1:]))
