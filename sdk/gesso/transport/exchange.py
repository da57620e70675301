"""One request and its answer, the same for every adapter: admission, deadline, outcome codes."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gesso.transport.port import Handler, PeerId, Rate
from gesso.transport.rates import KeyedRates
from gesso_protocol.errors import GessoError, MessageTooLarge, RateLimited, TransportError

HANDLER_TIMEOUT_S = 30.0
MAX_REASON_BYTES = 512


class Status(enum.IntEnum):
    """First byte of every answer on the wire."""

    OK = 0
    REFUSED = 1
    BUSY = 2
    RATE = 3
    TOO_LARGE = 4
    INTERNAL = 5
    UNSERVED = 6


@dataclass(frozen=True, slots=True)
class Reply:
    status: Status
    body: bytes = b""


@dataclass(slots=True)
class Serving:
    """One served protocol: its handler and what it may be asked. Touched from one thread only."""

    handler: Handler
    max_request: int
    max_concurrent: int
    per_peer_rate: Rate
    clock: Callable[[], float] = time.monotonic
    running: int = 0
    rates: KeyedRates = field(init=False)

    def __post_init__(self) -> None:
        self.rates = KeyedRates(self.per_peer_rate)

    def admit(self, peer: PeerId) -> Reply | None:
        """None when the peer may ask now; then `release` must follow. The busy are not probed for free either."""
        if not self.rates.take(peer, self.clock()):
            return Reply(Status.RATE)
        if self.running >= self.max_concurrent:
            return Reply(Status.BUSY)
        self.running += 1
        return None

    def release(self) -> None:
        self.running -= 1


async def answer(handler: Handler, peer: PeerId, data: bytes, *, timeout_s: float = HANDLER_TIMEOUT_S) -> Reply:
    """Runs the handler; whatever it does becomes a reply. Cancellation passes through."""
    try:
        async with asyncio.timeout(timeout_s):
            return Reply(Status.OK, await handler(peer, data))
    except TimeoutError:
        return Reply(Status.BUSY)
    except GessoError as error:
        return Reply(Status.REFUSED, str(error).encode()[:MAX_REASON_BYTES])
    except Exception:
        # What went wrong inside is ours alone: the asker learns only that something did.
        return Reply(Status.INTERNAL)


def unwrap(reply: Reply, protocol: str, *, max_reply: int) -> bytes:
    """The body of a good reply; a typed error for any other."""
    if reply.status is Status.OK:
        if len(reply.body) > max_reply:
            raise MessageTooLarge(f"the answer on {protocol} has {len(reply.body)} bytes; {max_reply} are allowed")
        return reply.body
    match reply.status:
        case Status.TOO_LARGE:
            raise MessageTooLarge(f"the peer takes no request this large on {protocol}")
        case Status.RATE:
            raise RateLimited(f"the peer has had enough requests from us on {protocol}")
        case Status.BUSY:
            raise RateLimited(f"the peer is busy on {protocol}")
        case Status.UNSERVED:
            raise TransportError(f"the peer does not serve {protocol}")
        case Status.REFUSED:
            raise TransportError(f"refused on {protocol}: {reply.body.decode(errors='replace')}")
        case _:
            raise TransportError(f"the peer failed on {protocol}")
