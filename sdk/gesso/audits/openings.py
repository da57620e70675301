"""The public openings of a task: evidence that auditors named on chain, or else whatever the node opens when asked.

It does not matter who gave them: every byte is checked against the trace root on chain before anybody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import httpx
from pydantic_core import from_json

from gesso.audits.subject import Subject
from gesso.blobs import BlobStore
from gesso.blobs.peer import PeerBlobs
from gesso.chain.chain import Chain
from gesso.transport.binding import peer_id_of_bytes
from gesso.transport.port import PeerId, Transport
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.encoding import canonical
from gesso_protocol.errors import BlobMissing, EncodingInvalid, GessoError, PeerUnreachable
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.messages import PROTOCOL_OPEN, NodeAdvert, OpenReply, OpenRequest

ASK_TIMEOUT_S = 30.0
MAX_REPLY_BYTES = 256 * 1024
MAX_DIALS = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """Verified openings and the blob that they came in."""

    bundle: Bundle
    blob: BlobRef


class OpeningSource(Protocol):
    """Asks a node for all that it opens of a task. Raises GessoError when it opens nothing."""

    async def ask(self, node: Address, task: TaskId, max_bytes: int) -> tuple[BlobRef, bytes]: ...


class PeerOpenings:
    """Asks over our own transport. A relay, if there is one, says where the node can be reached."""

    def __init__(self, transport: Transport, chain: Chain, relay: httpx.AsyncClient | None) -> None:
        self._transport = transport
        self._chain = chain
        self._relay = relay

    async def ask(self, node: Address, task: TaskId, max_bytes: int) -> tuple[BlobRef, bytes]:
        """Raises PeerUnreachable, BlobMissing and what the transport raises."""
        peer = await self._connected(node)
        return await ask_bundle(self._transport, peer, task, max_bytes=max_bytes)

    async def _connected(self, node: Address) -> PeerId:
        peer = peer_id_of_bytes((await self._chain.node(node)).peer_id)
        if any(known.peer == peer for known in self._transport.peers()):
            return peer
        for address in await self._where(node):
            try:
                if await self._transport.connect(address) == peer:
                    return peer
            except GessoError:
                continue
        raise PeerUnreachable(f"nobody says where {node.short} is, or it does not answer there")

    async def _where(self, node: Address) -> tuple[str, ...]:
        if self._relay is None:
            return ()
        try:
            reply = await self._relay.get(f"/v1/nodes/{node}")
            if reply.status_code != 200 or len(reply.content) > MAX_REPLY_BYTES:
                return ()
            advert = NodeAdvert.decode(canonical(from_json(reply.content)["advert"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError, EncodingInvalid):
            return ()
        return advert.addresses[:MAX_DIALS] if advert.wallet == node else ()


class RelayOpenings:
    """Has a relay ask for us: for users who have only HTTP. The relay can withhold an answer, not forge one."""

    def __init__(self, relay: httpx.AsyncClient, blobs: BlobStore) -> None:
        self._relay = relay
        self._blobs = blobs

    async def ask(self, node: Address, task: TaskId, max_bytes: int) -> tuple[BlobRef, bytes]:  # noqa: ARG002 - as the port has it
        """Raises BlobMissing when the relay got nothing, and what the blob store raises."""
        try:
            reply = await self._relay.get(f"/v1/tasks/{task}/openings", timeout=ASK_TIMEOUT_S)
            document = from_json(reply.content[:MAX_REPLY_BYTES])
            ref = BlobRef.parse(str(document["bundle"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError, EncodingInvalid) as error:
            raise BlobMissing("the relay got no openings of this task from its node") from error
        return ref, await self._blobs.get(ref, max_bytes=max_bytes)


async def ask_bundle(
    transport: Transport, peer: PeerId, task: TaskId, *, max_bytes: int, phase: Literal["inputs", "outputs"] = "outputs"
) -> tuple[BlobRef, bytes]:
    """Everything that a connected node opens of a task, not yet checked. Raises BlobMissing when it refuses."""
    ref = await ask_ref(transport, peer, task, phase=phase)
    return ref, await PeerBlobs(transport).get_from(peer, ref, max_bytes=max_bytes)


async def ask_ref(transport: Transport, peer: PeerId, task: TaskId, *, phase: Literal["inputs", "outputs"]) -> BlobRef:
    """The blob in which a connected node says that it opens the task. Raises BlobMissing when it refuses."""
    question = OpenRequest(task=task, phase=phase, bundle=True)
    raw = await transport.request(
        peer, PROTOCOL_OPEN, question.encode(), timeout_s=ASK_TIMEOUT_S, max_reply=OpenReply.MAX_BYTES
    )
    reply = OpenReply.decode(raw)
    if reply.task != task or reply.status != "ok" or reply.bundle is None:
        raise BlobMissing(f"the node answers {reply.status}", hint=_HINTS.get(reply.status, "try again later"))
    return reply.bundle


_HINTS = {
    "not-yet": "outputs are opened when beacon and auditors have bound themselves, at the latest when the task ends",
    "unknown": "the node keeps traces for a while after a task has ended, not for ever",
    "refused": "the node refuses; a requester may challenge: gesso task audit ID --challenge",
}


async def find_openings(
    subject: Subject, evidence: Iterable[BlobRef], blobs: BlobStore, sources: Iterable[OpeningSource]
) -> Opened:
    """The first openings that prove themselves and are whole: evidence first. Raises GessoError, the last problem."""
    worst: GessoError = BlobMissing(
        "nobody has openings of this task", hint="its node may answer: GESSO_TRANSPORT=libp2p"
    )
    for ref in dict.fromkeys(evidence):
        try:
            return _verified(subject, ref, await blobs.get(ref, max_bytes=subject.most_bytes))
        except GessoError as error:
            worst = error
    for source in sources:
        try:
            return _verified(subject, *await source.ask(subject.filing.node, subject.task, subject.most_bytes))
        except GessoError as error:
            worst = error
    raise worst


def _verified(subject: Subject, ref: BlobRef, data: bytes) -> Opened:
    bundle = Bundle.decode(data, subject.run, subject.layout, subject.filing.trace_root)
    if not bundle.complete:
        raise EncodingInvalid("the openings leave something out", hint="ask the node again, or challenge it")
    return Opened(bundle, ref)
