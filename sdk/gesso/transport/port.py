"""The transport port: how peers of the network talk, whatever carries the bytes.

`Gossip` (`publish`, `subscribe`) is a hint that may be lost. It is all that somebody has whom nobody can dial; a
`Transport` is a whole peer, which is dialled, carries gossip for others, and answers: `request` is one bounded question
with one bounded answer and a deadline on both sides. Nothing here is trusted: the peer of a message is the holder of a
node key, and `gesso.transport.binding` says which wallet, if any, stands behind that key.

Every method is called from asyncio. Errors are leaves of `gesso_protocol.errors.TransportError`.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NewType, Protocol, Self, TypeAlias

from gesso_protocol.messages import MAX_GOSSIP_BYTES

__all__ = [
    "DEFAULT_QUEUE",
    "DEFAULT_RATE",
    "MAX_GOSSIP_BYTES",
    "MAX_REQUEST_BYTES",
    "Fault",
    "Gossip",
    "Handler",
    "Health",
    "Message",
    "PeerDown",
    "PeerId",
    "PeerInfo",
    "PeerUp",
    "Rate",
    "Subscription",
    "TopicHealth",
    "Transport",
    "TransportEvent",
    "Validator",
    "Verdict",
]

PeerId = NewType("PeerId", str)
"""Base58 text of a libp2p peer id; the node registry keeps its raw bytes (see `binding.peer_id_bytes`)."""

MAX_REQUEST_BYTES = 1024 * 1024
DEFAULT_QUEUE = 256


class Verdict(enum.Enum):
    """What a validator says about a gossip message before it is delivered or passed on."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    """Not delivered and not passed on; the sender is not blamed (a duplicate, an expired announcement)."""
    REJECT = "reject"
    """Not delivered and not passed on; the author is blamed, and dropped when it goes on."""


Validator: TypeAlias = Callable[[PeerId, bytes], Verdict]
"""Runs for every message in the thread of the network: quick, pure, no waiting. An exception counts as REJECT."""

Handler: TypeAlias = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers a request. A `GessoError` it raises reaches the asker as `TransportError`; anything else as 'internal'."""


@dataclass(frozen=True, slots=True)
class Message:
    """One gossip message; `peer` signed it, whoever passed it on. `signed` proves that (`gesso.transport.signed`)."""

    peer: PeerId
    data: bytes
    signed: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PeerInfo:
    peer: PeerId
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `per_s` on average, `burst` at once."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError("a rate needs per_s > 0 and burst >= 1")


DEFAULT_RATE = Rate(per_s=20, burst=40)


@dataclass(frozen=True, slots=True)
class PeerUp:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDown:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class Fault:
    """The network side failed and is being restarted, or a peer was dropped for cause."""

    reason: str


TransportEvent: TypeAlias = PeerUp | PeerDown | Fault


@dataclass(frozen=True, slots=True)
class TopicHealth:
    """`dropped`: messages lost because the subscriber was slow; `refused`: stopped by validator, size or rate."""

    mesh: int
    queued: int
    delivered: int
    dropped: int
    refused: int


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot for status pages; `running` is false while a crashed network side waits for its restart."""

    running: bool
    peer: PeerId
    addresses: tuple[str, ...]
    peers: int
    topics: dict[str, TopicHealth] = field(default_factory=dict)
    restarts: int = 0
    last_fault: str | None = None


class Subscription(Protocol):
    """Messages of one topic; entering it waits until the topic is really joined. Slow readers lose the oldest."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Message]: ...

    async def __anext__(self) -> Message: ...

    async def aclose(self) -> None: ...


class Gossip(Protocol):
    """A voice and an ear on the network's topics. An async context manager: usable between enter and exit."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may connect, peer id included (`/ip4/…/tcp/…/p2p/…`); empty when nobody can."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Raises MessageTooLarge over 16 KiB and RateLimited over the topic's rate, instead of losing it silently."""
        ...

    def subscribe(self, topic: str, *, validator: Validator, queue: int = DEFAULT_QUEUE) -> Subscription:
        """Joins `topic`. One subscription a topic and transport; `queue` is in messages."""
        ...

    def health(self) -> Health: ...


class Transport(Gossip, Protocol):
    """One peer on the network: what it accepts of a topic that it has joined, it passes on."""

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> PeerId:
        """Connects and keeps the connection alive (redials with back-off) until `disconnect`.

        Raises PeerUnreachable when nobody answers within `timeout_s` seconds or the answer is not from the peer named.
        """
        ...

    async def disconnect(self, peer: PeerId) -> None: ...

    def peers(self) -> tuple[PeerInfo, ...]: ...

    async def pass_on(self, signed: bytes) -> None:
        """Puts a message on the air for its author, who is no peer. It counts as one of ours, and reaches us too.

        Raises EncodingInvalid when it is not what its author signed, RateLimited over its topic's rate.
        """
        ...

    async def request(
        self, peer: PeerId, protocol: str, data: bytes, *, timeout_s: float = 10.0, max_reply: int = MAX_REQUEST_BYTES
    ) -> bytes:
        """Asks a connected peer.

        Raises PeerUnreachable (not connected, gone, or silent for `timeout_s` seconds), MessageTooLarge (question or
        answer), RateLimited (the other side is busy or has had enough of us), TransportError (it refused).
        """
        ...

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        max_request: int = MAX_REQUEST_BYTES,
        max_concurrent: int = 16,
        per_peer_rate: Rate = DEFAULT_RATE,
    ) -> None:
        """Answers `protocol` until the transport closes. One handler a protocol; `max_request` is in bytes."""
        ...

    def events(self) -> AsyncIterator[TransportEvent]:
        """Peers that come and go, and faults, from now on; bounded, the oldest are lost first."""
        ...
