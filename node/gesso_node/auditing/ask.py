"""Getting openings: from the node itself, or from the public evidence; and the result that they belong to.

Whatever comes is checked against the roots on chain before anybody looks at it, so it does not matter who gave it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeVar

import anyio
import httpx
import structlog

from gesso.blobs import BlobStore
from gesso.blobs.peer import PeerBlobs
from gesso.chain.arbiter import Filing
from gesso.transport.port import PeerId, Transport
from gesso_node.auditing.assignment import Assignment
from gesso_node.network.addresses import Addresses, read_json
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.challenge import input_slots
from gesso_protocol.errors import BlobMissing, DiskFull, EncodingInvalid, GessoError
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.messages import PROTOCOL_OPEN, OpenReply, OpenRequest
from gesso_protocol.result import ResultManifest, result_root

log = structlog.get_logger("gesso.node.auditing")

ASK_TIMEOUT_S = 20.0
"""The node may have to put a bundle together, or to fetch a backup."""
LEAST_S = 2.0
"""What is still tried when the time for openings is over."""
Phase = Literal["inputs", "outputs"]


T = TypeVar("T")
Read: TypeAlias = Callable[[BlobRef, bytes, BlobRef | None], Awaitable[T]]
"""Makes verified openings of a blob, its bytes, and where the node says that its result is. Raises NotOpenedError."""


class Wanted(Protocol):
    """Whose openings are asked for, and how large they can be."""

    @property
    def task(self) -> TaskId: ...

    @property
    def filing(self) -> Filing: ...

    @property
    def bundle_limit(self) -> int: ...


class NotOpenedError(GessoError):
    """The node opened nothing, or nothing that proves itself; `not_yet` when it says that it is too early."""

    code = "not-opened"
    default_message = "the node opened nothing"
    default_hint = "it is asked again until its time is over"
    exit_code = 7

    def __init__(self, message: str, *, not_yet: bool = False) -> None:
        super().__init__(message)
        self.not_yet = not_yet


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """A node that trickles its openings has not opened them. Raises NotOpenedError when the time is over."""
    try:
        with anyio.fail_after(max(seconds, LEAST_S)):
            yield
    except TimeoutError as error:
        raise NotOpenedError("the openings did not come in time") from error


@dataclass(frozen=True, slots=True)
class Opened:
    """Verified openings, where their blob is, and what the node says where its result is."""

    bundle: Bundle
    blob: BlobRef
    data: bytes
    result: BlobRef | None


@dataclass(frozen=True, slots=True)
class FromNode:
    """Models for a case: from the stores, or else from the node that ran the task, which has what it used."""

    asker: Asker
    node: Address

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """Raises what the stores raise."""
        return await self.asker.blob(self.node, ref, max_bytes)

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int) -> None:
        """Raises what the stores raise."""
        await self.asker.fetch(self.node, ref, dest, max_bytes)


class Asker:
    """Asks for openings and results. `transport` None: only relays and stores are asked."""

    def __init__(
        self,
        me: Address,
        blobs: BlobStore,
        transport: Transport | None,
        addresses: Addresses | None,
        relays: Sequence[httpx.AsyncClient],
    ) -> None:
        self._me = me
        self._blobs = blobs
        self._transport = transport
        self._addresses = addresses
        self._relays = tuple(relays)

    async def openings(self, assignment: Assignment, phase: Phase, seconds: float) -> Opened:
        """Those of a picture task; see `opened`. Raises NotOpenedError."""

        async def read(ref: BlobRef, data: bytes, result: BlobRef | None) -> Opened:
            return self._verified(assignment, phase, ref, data, result)

        return await self.opened(assignment, phase, seconds, read)

    async def opened(self, wanted: Wanted, phase: Phase, seconds: float, read: Read[T]) -> T:
        """From the node, or else through a relay, which asks it in its own name: a node that wants to be silent to us
        alone has to be silent to everybody. The node has two thirds of the seconds, so that trickling does not help it
        either. `read` verifies. Raises NotOpenedError, for what the node itself did."""
        try:
            with in_time(seconds * 2 / 3):
                return await self._from_node(wanted, phase, read)
        except NotOpenedError as refusal:
            if refusal.not_yet:
                raise
            for relay in self._relays:
                found = await self._through(relay, wanted, phase, read)
                if found is not None:
                    return found
            raise

    async def _from_node(self, wanted: Wanted, phase: Phase, read: Read[T]) -> T:
        try:
            reply, data = await self._asked(wanted, phase)
            assert reply.bundle is not None
            return await read(reply.bundle, data, reply.result)
        except (NotOpenedError, DiskFull):
            raise
        except GessoError as error:
            raise NotOpenedError(f"{error.code}: {error.message}") from error

    async def evidence(self, assignment: Assignment, refs: Iterable[BlobRef]) -> Opened:
        """The first public bundle that opens the whole trace. Raises NotOpenedError."""
        worst = NotOpenedError("there is no public evidence")
        for ref in dict.fromkeys(refs):
            try:
                data = await self._blobs.get(ref, max_bytes=assignment.bundle_limit)
                bundle = Bundle.decode(data, assignment.run, assignment.layout, assignment.filing.trace_root)
                if bundle.complete:
                    return Opened(bundle, ref, data, None)
            except GessoError as error:
                worst = NotOpenedError(f"{error.code}: {error.message}")
        raise worst

    async def hint(self, wanted: Wanted) -> BlobRef | None:
        """Where the node says that its result is; None when it says nothing."""
        try:
            return (await self._replied(wanted, "outputs"))[2].result
        except GessoError:
            return None

    async def result(self, task: TaskId, filing: Filing, hint: BlobRef | None) -> ResultManifest | None:
        """The result manifest that is bound on chain, from where it is said to be, or else from where relays say that
        it is; None when nobody has it."""
        found = await self.bound(filing, () if hint is None else (hint,))
        for relay in self._relays:
            if found is None:
                found = await self.bound(filing, await result_hints(relay, task))
        return found

    async def bound(self, filing: Filing, hints: Iterable[BlobRef]) -> ResultManifest | None:
        """The result manifest that is bound on chain, if it is at one of these places."""
        for ref in dict.fromkeys(hints):
            try:
                manifest = ResultManifest.decode(await self.blob(filing.node, ref, ResultManifest.MAX_BYTES))
            except GessoError:
                continue
            if result_root(manifest) == filing.result_root:
                return manifest
        return None

    async def blob(self, node: Address, ref: BlobRef, max_bytes: int) -> bytes:
        """A blob from the stores or else from the node itself. Raises what the stores raise."""
        try:
            return await self._blobs.get(ref, max_bytes=max_bytes)
        except GessoError:
            if self._transport is None or self._addresses is None or node == self._me:
                raise
            peer = await self._addresses.connect(node)
            return await PeerBlobs(self._transport).get_from(peer, ref, max_bytes=max_bytes)

    async def fetch(self, node: Address, ref: BlobRef, dest: Path, max_bytes: int) -> None:
        """A blob as a file, from the stores or else from the node itself. Raises what the stores raise."""
        try:
            await self._blobs.fetch(ref, dest, max_bytes=max_bytes)
        except DiskFull:
            raise
        except GessoError:
            if self._transport is None or self._addresses is None or node == self._me:
                raise
            peer = await self._addresses.connect(node)
            await PeerBlobs(self._transport).fetch_from(peer, ref, dest, max_bytes=max_bytes)

    async def _asked(self, assignment: Wanted, phase: Phase) -> tuple[OpenReply, bytes]:
        peers, peer, reply = await self._replied(assignment, phase)
        assert reply.bundle is not None
        try:
            return reply, await peers.get_from(peer, reply.bundle, max_bytes=assignment.bundle_limit)
        except BlobMissing:
            return reply, await self._blobs.get(reply.bundle, max_bytes=assignment.bundle_limit)

    async def _replied(self, assignment: Wanted, phase: Phase) -> tuple[PeerBlobs, PeerId, OpenReply]:
        """An answer that names a bundle, and from whom it can be fetched."""
        if self._transport is None or self._addresses is None:
            raise NotOpenedError("this node has no peers")
        peer = await self._addresses.connect(assignment.filing.node)
        question = OpenRequest(task=assignment.task, phase=phase, asker=self._me, bundle=True)
        raw = await self._transport.request(
            peer, PROTOCOL_OPEN, question.encode(), timeout_s=ASK_TIMEOUT_S, max_reply=OpenReply.MAX_BYTES
        )
        reply = OpenReply.decode(raw)
        if reply.task != assignment.task or reply.phase != phase:
            raise NotOpenedError("the node answered another question")
        if reply.status != "ok" or reply.bundle is None:
            raise NotOpenedError(f"the node says {reply.status}", not_yet=reply.status == "not-yet")
        return PeerBlobs(self._transport), peer, reply

    async def _through(self, relay: httpx.AsyncClient, assignment: Wanted, phase: Phase, read: Read[T]) -> T | None:
        try:
            with anyio.fail_after(ASK_TIMEOUT_S):
                reply = await read_json(relay, f"/v1/tasks/{assignment.task}/openings?phase={phase}", ASK_TIMEOUT_S)
            named = reply.get("bundle") if isinstance(reply, dict) else None
            if not isinstance(named, str):
                return None
            ref = BlobRef.parse(named)
            data = await self._blobs.get(ref, max_bytes=assignment.bundle_limit)
            return await read(ref, data, None)
        except DiskFull:
            raise
        except (httpx.HTTPError, ValueError, TimeoutError, GessoError) as error:
            log.debug("auditing.relay-opens-nothing", task=assignment.task.short, reason=str(error)[:200])
            return None

    def _verified(
        self, assignment: Assignment, phase: Phase, ref: BlobRef, data: bytes, result: BlobRef | None
    ) -> Opened:
        try:
            bundle = Bundle.decode(data, assignment.run, assignment.layout, assignment.filing.trace_root)
        except EncodingInvalid as error:
            raise NotOpenedError(f"what the node opened proves nothing: {error.message}") from error
        if phase == "outputs" and not bundle.complete:
            raise NotOpenedError("the node did not open every leaf")
        if any(slot not in bundle.leaves for slot in input_slots(assignment.checks)):
            raise NotOpenedError("the node did not open what the drawn steps start from")
        return Opened(bundle, ref, data, result)


async def result_hints(relay: httpx.AsyncClient, task: TaskId) -> list[BlobRef]:
    """Where a relay says that a task's result manifest is; nothing when it does not answer."""
    try:
        reply = await read_json(relay, f"/v1/tasks/{task}")
        result = reply.get("result") if isinstance(reply, dict) else None
        hint = result.get("manifest") if isinstance(result, dict) else None
        return [BlobRef.parse(hint)] if isinstance(hint, str) else []
    except (httpx.HTTPError, ValueError, EncodingInvalid):
        return []
