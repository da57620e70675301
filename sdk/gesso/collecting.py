"""Getting a task's result from whoever has it: as soon as the claimant hands it over, else once it is committed."""

from __future__ import annotations

import time

from gesso.announce import announce_all
from gesso.early import is_about_to_claim
from gesso.fetch import Commitment, Delivery, OtherManifest, fetch_result
from gesso.seen import Seen, now_ms
from gesso.stream import TaskStream
from gesso.wiring import Ports
from gesso_protocol.errors import GessoError, Unreachable
from gesso_protocol.events import Delivered
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.messages import TaskAnnouncement
from gesso_protocol.terms import BoardParams, Terms

ASK_NODE_AFTER_S = 2.0
ASK_NODE_EVERY_S = 6.0
MAX_OTHERS = 1024
"""As many wrong manifests are known by name and not read again."""
FETCH_PATIENCE_S = 90.0
"""How long after the commit the result may stay out of reach before that is an error."""


class Collector:
    """Tries once each time that it is asked; what it gets it writes into `seen`, whose `at` counts from `started`."""

    def __init__(
        self, ports: Ports, task: TaskId, terms: Terms, params: BoardParams, seen: Seen, *, started: float
    ) -> None:
        self._ports = ports
        self._task = task
        self._terms = terms
        self._params = params
        self._seen = seen
        self._started = started
        self._ask_node_at = 0.0
        self._others: dict[BlobRef, OtherManifest] = {}

    async def fetch(self, stream: TaskStream) -> Delivery | None:
        """What was committed. Raises BlobCorrupt where that is no result; Unreachable, OtherManifest when it has been
        out of reach for too long."""
        said = list(stream.result_hints)
        for ref in said:
            if await self._try(ref):
                return self._seen.delivery
        # Whoever talks most fills the stream; a relay says what it has held against the root.
        proved = await self._ports.directory.result_of(self._task)
        if proved is not None and proved not in said and await self._try(proved):
            return self._seen.delivery
        await self._ask_node()
        return None

    async def take_handover(self, stream: TaskStream) -> Delivered | None:
        """What the claimant signed, or, while nobody has claimed, who is about to: anybody else's word is worth
        nothing, however well it is signed."""
        for node, handover in list(stream.handovers.items()):
            if not await self._is_in_charge(node, handover):
                continue
            promised = Commitment(node, handover.result_root, handover.trace_root)
            try:
                delivery = await fetch_result(self._ports.blobs, handover.manifest, self._task, self._terms, promised)
            except Unreachable:
                continue  # the bytes may still be on their way
            except GessoError:
                del stream.handovers[node]  # nothing is lost: the commit decides what the result is
                continue
            self._seen.promised, self._seen.delivery = promised, delivery
            count = len(delivery.images)
            return Delivered(task=self._task, at_ms=now_ms(), node=node, manifest=handover.manifest, images=count)
        return None

    async def _try(self, ref: BlobRef) -> bool:
        commitment = self._seen.commitment
        assert commitment is not None
        try:
            if ref in self._others:
                raise self._others[ref]
            self._seen.delivery = await fetch_result(self._ports.blobs, ref, self._task, self._terms, commitment)
        except (Unreachable, OtherManifest) as error:
            # The node announces before every store has the bytes, and anyone may name a wrong manifest.
            if isinstance(error, OtherManifest) and len(self._others) < MAX_OTHERS:
                self._others[ref] = error
            self._give_up_in_time(error)
            return False
        return True

    def _give_up_in_time(self, error: GessoError) -> None:
        waited_s = time.monotonic() - self._started - self._seen.at["committed"]
        if waited_s > FETCH_PATIENCE_S:
            raise error

    async def _ask_node(self) -> None:
        """Announce the task again: the node that did it then says where its result is, and has the bytes itself."""
        now = time.monotonic()
        if now < max(self._ask_node_at, self._started + self._seen.at["committed"] + ASK_NODE_AFTER_S):
            return
        self._ask_node_at = now + ASK_NODE_EVERY_S
        ports = self._ports
        again = TaskAnnouncement.of(ports.chain_id, ports.board, self._terms, spec_from=ports.spec_from)
        await announce_all(ports.announcers, again)

    async def _is_in_charge(self, node: Address, handover: Handover) -> bool:
        if self._seen.claimant is None:
            chain = self._ports.chain
            record = await chain.task(self._task)
            if record.node is None:
                return await is_about_to_claim(chain, record, self._terms, self._params, node, handover)
            self._seen.claimant = record.node
        return self._seen.claimant == node
