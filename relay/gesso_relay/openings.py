"""Asks nodes to open their work in the name of those whom they do not answer, and remembers what proved itself.

Nothing is remembered that was not proved against the root on chain and the draw that it answers. Bytes go to the cache
and are proved there, as many at once as fit into a budget. A node that is slow, or lies, costs questions about itself.
"""

from __future__ import annotations

import mmap
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
import structlog

from gesso.audits.openings import ask_ref
from gesso.blobs.peer import PeerBlobs
from gesso.transport.port import PeerId, Transport
from gesso_protocol.errors import BlobMissing, EncodingInvalid, GessoError, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import MAX_SPEC_BYTES, Spec, TrainLora, parse_any_spec
from gesso_relay.bases import Bases
from gesso_relay.blobs import BlobCache
from gesso_relay.limits import Room, Seats
from gesso_relay.mirror import Mirror
from gesso_relay.proofs import OpenedFile, Question, most_answered, prove, size_fault
from gesso_relay.proved import Proved

log = structlog.get_logger("gesso.relay")

MAX_AT_ONCE = 16
"""Questions to nodes. Whoever asks what is being asked waits for that, a few for one node: otherwise all who may ask at
once could be made to wait for one that is silent."""
MAX_CLIENTS = 64
MAX_WAITING_A_NODE = 8
MAX_A_CLIENT = 2
MAX_A_NODE = 2
MAX_UNDRAWN_A_NODE = 1
"""The other seat of a node is for questions about audited work: auditors ask them, and their time is short."""
ANSWER_S = 12.0
FILES_S = 6.0
"""So long an answer waits for the files that it names; with `ANSWER_S` less than an auditor waits for us."""
IN_MEMORY_BYTES = 1 << 20
"""Larger answers are proved where they lie on the disk."""
Find = Callable[[], Awaitable[PeerId]]


class Openings:
    """Proved answers of nodes."""

    def __init__(
        self, cache: BlobCache, proved: Proved, transport: Transport, room: Room, mirror: Mirror, bases: Bases
    ) -> None:
        self._cache = cache
        self._transport = transport
        self._peers = PeerBlobs(transport)
        self._room = room
        self._mirror = mirror
        self._known = proved
        self._bases = bases
        self._clients = Seats("openings", MAX_CLIENTS, MAX_A_CLIENT)
        self._waiting = Seats("questions to one node", MAX_CLIENTS, MAX_WAITING_A_NODE)
        self._nodes = Seats("openings of one node", MAX_AT_ONCE, MAX_A_NODE)
        self._undrawn = Seats("openings of one node that nothing drew", MAX_AT_ONCE, MAX_UNDRAWN_A_NODE)
        self._under_way: dict[Question, anyio.Event] = {}

    def seat(self, client: str) -> AbstractContextManager[None]:
        """One of the client's, for all that is done in its name. Raises RateLimited."""
        return self._clients.seat(client)

    async def ask(self, asked: Question, spec: BlobRef, find: Find) -> BlobRef:
        """The blob of a proved answer; `find` connects to the node. Who asks what somebody is asking waits for that.

        Raises RateLimited, Unreachable, BlobMissing when the node opens nothing that answers, and what `find` raises.
        """
        known = await self._known.answer(asked)
        if known is not None:
            return known
        other = self._under_way.get(asked)
        if other is not None:
            with self._waiting.seat(str(asked.run.node)):
                await other.wait()
            known = await self._known.answer(asked)
            if known is None:
                raise BlobMissing("the node did not open it a moment ago", hint="try again later")
            return known
        with self._place(asked):
            done = self._under_way[asked] = anyio.Event()
            try:
                return await self._bring(asked, spec, find)
            finally:
                del self._under_way[asked]
                done.set()

    @contextmanager
    def _place(self, asked: Question) -> Iterator[None]:
        node = str(asked.run.node)
        with nullcontext() if asked.audited else self._undrawn.seat(node), self._nodes.seat(node):
            yield

    async def _bring(self, asked: Question, spec_ref: BlobRef, find: Find) -> BlobRef:
        try:
            with anyio.fail_after(ANSWER_S):
                peer = await find()
                spec = await self._spec(peer, spec_ref)
                bundle, files = await self._answer(asked, spec, peer)
        except TimeoutError:
            raise Unreachable("the node did not open it in time", hint="try again later") from None
        with anyio.move_on_after(FILES_S):
            if await self._files(asked, spec, peer, files):
                await self._remember(asked, bundle, files)
        return bundle

    async def _spec(self, peer: PeerId, ref: BlobRef) -> Spec:
        if self._cache.path(ref) is not None:
            return parse_any_spec(await self._cache.get(ref, max_bytes=MAX_SPEC_BYTES))
        return parse_any_spec(await self._peers.get_from(peer, ref, max_bytes=MAX_SPEC_BYTES))

    async def _answer(self, asked: Question, spec: Spec, peer: PeerId) -> tuple[BlobRef, tuple[OpenedFile, ...]]:
        ref = await ask_ref(self._transport, peer, asked.run.task, phase=asked.phase)
        with self._cache.unproved(ref) as doubt:
            files = await self._looked_at(asked, spec, peer, ref)
            doubt.proved = True
        return ref, files

    async def _looked_at(self, asked: Question, spec: Spec, peer: PeerId, ref: BlobRef) -> tuple[OpenedFile, ...]:
        limit = most_answered(spec)
        if self._cache.path(ref) is None:
            size = await self._peers.size_from(peer, ref, max_bytes=limit)
            with self._room.hold(str(asked.run.node), size):
                await self._cache.put(ref, size, self._peers.stream_from(peer, ref, size), wanted=False)
        path = self._cache.path(ref)
        try:
            if path is not None:
                return await anyio.to_thread.run_sync(_proved, asked, spec, path, limit)
        except EncodingInvalid as error:
            log.warning("openings.unproved", task=asked.run.task.short, reason=error.message)
            raise BlobMissing(f"what the node opened proves nothing: {error.message}") from error
        except FileNotFoundError:
            pass
        raise BlobMissing("the openings are gone again", hint="this relay's cache is too small for them")

    async def _remember(self, asked: Question, bundle: BlobRef, files: tuple[OpenedFile, ...]) -> None:
        try:
            await self._known.keep(asked, bundle, (file.blob for file in files))
        except GessoError as error:  # the answer is good all the same
            log.warning("openings.not-remembered", task=asked.run.task.short, code=error.code)

    async def _files(self, asked: Question, spec: Spec, peer: PeerId, files: tuple[OpenedFile, ...]) -> bool:
        if not isinstance(spec, TrainLora):
            return True
        fault = size_fault(files, await self._bases.most_state_bytes(spec))
        if fault:
            log.info("openings.files-away", node=str(asked.run.node), reason=fault)
            return False
        return await self._mirror.bring(str(asked.run.node), peer, files)


def _proved(asked: Question, spec: Spec, path: Path, limit: int) -> tuple[OpenedFile, ...]:
    size = path.stat().st_size
    if size > limit:
        raise EncodingInvalid("the openings are larger than they can be")
    if size <= IN_MEMORY_BYTES:
        return prove(asked, spec, path.read_bytes())
    with path.open("rb") as file:
        return prove(asked, spec, cast(bytes, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
