"""Telling the requester how far its task is: straight to its peer, or through relays. A hint that never holds up work.

Nothing proves that who announces a task is its requester. So the first few who said so are all told, nobody takes
another's place, and where it is more than one, or the result is handed over, relays are told as well.

One queue, one sender. When it falls behind, steps are dropped first; what carries the result's name is kept.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Sequence

import anyio
import httpx
import structlog

from gesso.transport.port import PeerId, Transport
from gesso_node.executors.lora.port import TrainingStep
from gesso_node.executors.port import StepDone
from gesso_protocol.errors import EncodingInvalid, GessoError
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.messages import PROTOCOL_PROGRESS, Preview, ProgressEvent
from gesso_protocol.training.checkpoint import KeptCheckpoint

log = structlog.get_logger("gesso.node.progress")

QUEUE = 256
MAX_REMEMBERED = 1024
MAX_PLACES = 4
"""Of one task."""
SEND_TIMEOUT_S = 3.0
RELAY_TIMEOUT_S = 5.0


class ProgressSender:
    """Sends progress events in order. `run` is its loop; everything else returns at once."""

    def __init__(self, node: Address, transport: Transport | None, relays: Sequence[httpx.AsyncClient]) -> None:
        self._node = node
        self._transport = transport
        self._relays = tuple(relays)
        self._reply_to: OrderedDict[TaskId, dict[PeerId, tuple[str, ...]]] = OrderedDict()
        self._queue: deque[ProgressEvent] = deque()
        self._wake = anyio.Event()
        # Grows over restarts too, as the protocol asks; microseconds leave room for any number of events.
        self._sequence = itertools.count(int(anyio.current_time() * 1e6))
        self._dialled: set[PeerId] = set()
        self.dropped = 0

    def remember(self, task: TaskId, peer: str | None, addresses: tuple[str, ...]) -> None:
        """Where this task's requester wants to be told, as somebody says."""
        if peer is not None:
            places = self._reply_to.setdefault(task, {})
            if len(places) < MAX_PLACES:
                places.setdefault(PeerId(peer), addresses)
            while len(self._reply_to) > MAX_REMEMBERED:
                self._reply_to.popitem(last=False)

    async def release(self, task: TaskId) -> None:
        """The task is over: let go of its requester, unless another task has the same one."""
        for peer in self._reply_to.pop(task, {}):
            if peer in self._dialled and not any(peer in places for places in self._reply_to.values()):
                self._dialled.discard(peer)
                assert self._transport is not None
                await self._transport.disconnect(peer)

    def step(self, task: TaskId, step: StepDone) -> None:
        """One step of the executor."""
        preview = None
        if step.preview is not None:
            try:
                preview = Preview.of(step.preview)
            except EncodingInvalid:
                log.debug("progress.odd-preview", task=task.short)
        self._put(task, "executing", step=step.index, total=step.total, image=step.image, preview=preview)

    def training(self, task: TaskId, step: TrainingStep) -> None:
        """One update of a training; the note is `loss=NUMBER`, with ` checkpoint` when one was kept."""
        preview = None
        if step.sample is not None:
            try:
                preview = Preview.of(step.sample)
            except EncodingInvalid:
                log.debug("progress.large-sample", task=task.short)
        note = f"loss={step.loss:.6g}" + (" checkpoint" if step.checkpoint else "")
        place = {"step": step.index, "total": step.total, "image": step.prompt}
        if step.resumed:
            self._put(task, "executing", step=step.index, total=step.total, note="continued")
        self._put(task, "executing", **place, preview=preview, note=note)

    def pause(self, task: TaskId, step: int, total: int) -> None:
        """A training makes way for other work after update `step`."""
        self._put(task, "executing", step=step, total=total, note="paused")

    def checkpoint(self, task: TaskId, kept: KeptCheckpoint, total: int) -> None:
        """A checkpoint that is in the blob stores."""
        self._put(task, "executing", step=kept.step, total=total, checkpoint=kept)

    def stage(self, task: TaskId, stage: str, note: str = "") -> None:
        """A new stage, as `ProgressEvent.stage` names it."""
        self._put(task, stage, note=note[:200])

    def hand_over(self, task: TaskId, handover: Handover) -> None:
        """The result itself, signed. Steps of the task that still wait to be told are of no use any more."""
        self._queue = deque(event for event in self._queue if event.task != task or not _is_step(event))
        self._put(task, "delivered", handover=handover)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            while self._queue:
                await self._send(self._queue.popleft())
            self._wake = anyio.Event()
            await self._wake.wait()

    async def flush(self, timeout_s: float) -> None:
        """Send what is queued, as far as `timeout_s` seconds allow."""
        with anyio.move_on_after(timeout_s):
            while self._queue:
                await self._send(self._queue.popleft())

    def _put(self, task: TaskId, stage: str, **fields: object) -> None:
        event = ProgressEvent.model_validate(
            {"task": task, "node": self._node, "sequence": next(self._sequence), "stage": stage, **fields}
        )
        if len(self._queue) >= QUEUE:
            kept = [queued for queued in self._queue if not _is_step(queued)][-QUEUE + 1 :]
            self.dropped += len(self._queue) - len(kept)
            self._queue = deque(kept)
        self._queue.append(event)
        self._wake.set()

    async def _send(self, event: ProgressEvent) -> None:
        data = event.encode()
        heard = await self._to_peers(event.task, data)
        # Where a result is must be found by others than its requester: auditors, jurors, us after a lost disk. Where a
        # run can go on must be found by a requester that comes back later.
        if not heard or event.stage in ("committed", "delivered") or event.checkpoint is not None:
            for relay in self._relays:
                await self._to_relay(relay, event.task, data)

    async def _to_peers(self, task: TaskId, data: bytes) -> bool:
        """At once, so that none keeps the others waiting. True where the only one who asked to be told has heard."""
        places = dict(self._reply_to.get(task, {}))
        heard: list[bool] = []
        async with anyio.create_task_group() as group:

            async def tell(peer: PeerId, addresses: tuple[str, ...]) -> None:
                heard.append(await self._to_peer(task, peer, addresses, data))

            for place in places.items():
                group.start_soon(tell, *place)
        return heard == [True]

    async def _to_peer(self, task: TaskId, peer: PeerId, addresses: tuple[str, ...], data: bytes) -> bool:
        if self._transport is None:
            return False
        try:
            if all(other.peer != peer for other in self._transport.peers()):
                await self._connect(addresses)
            await self._transport.request(peer, PROTOCOL_PROGRESS, data, timeout_s=SEND_TIMEOUT_S, max_reply=1024)
        except GessoError as error:
            log.debug("progress.peer-lost", task=task.short, code=error.code)
            # The relays are told from now on; one dead peer must not slow every step. The task may be over meanwhile.
            self._reply_to.get(task, {}).pop(peer, None)
            return False
        return True

    async def _connect(self, addresses: tuple[str, ...]) -> None:
        assert self._transport is not None
        for address in addresses[:2]:
            try:
                self._dialled.add(await self._transport.connect(address, timeout_s=SEND_TIMEOUT_S))
            except GessoError:
                continue
            return

    async def _to_relay(self, relay: httpx.AsyncClient, task: TaskId, data: bytes) -> None:
        try:
            reply = await relay.post(f"/v1/progress/{task}", content=data, timeout=RELAY_TIMEOUT_S)
        except httpx.HTTPError as error:
            log.debug("progress.relay-away", task=task.short, error=type(error).__name__)
            return
        if reply.status_code >= 300:
            log.debug("progress.relay-refused", task=task.short, status=reply.status_code)


def _is_step(event: ProgressEvent) -> bool:
    """Whether it is of use only while it is new."""
    return event.stage == "executing" and event.checkpoint is None
