"""What the tests of the libp2p adapter's guards share: a victim, and the proof that an attack did it no harm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from gesso.transport import PeerId, Verdict
from gesso.transport.libp2p import Libp2pTransport

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
New = Callable[..., Libp2pTransport]
ECHO = "/gesso/test/1"
TOPIC = "gesso/test/1"


async def echo(_peer: PeerId, data: bytes) -> bytes:
    return data


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def assert_unharmed(victim: Libp2pTransport, new: New) -> None:
    """An honest peer gets in and gets its answer, and the network side never had to be restarted."""
    async with new("honest") as honest:
        with anyio.fail_after(60):
            await honest.connect(victim.addresses[0])
            assert await honest.request(victim.peer_id, ECHO, b"hello") == b"hello"
    assert victim.health().running
    assert victim.health().restarts == 0
