"""Training a LoRA on somebody else's machine: the order, the run as it goes, and the adapter that comes back."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from blake3 import blake3

from gesso.blobs.port import BlobStore
from gesso.chain.records import TxReceipt
from gesso.datasets import Bundle, pack
from gesso.datasets.pictures import Shape
from gesso.datasets.source import Source
from gesso.image import Image
from gesso.outcome import Result
from gesso.receipt import Origin, Receipt
from gesso.rests import Rests
from gesso.resume import origin_of, rest_of_run, share_of_fee
from gesso.seen import now_ms
from gesso.task import AsyncTask, OnEvent
from gesso.tensorfile import open_tensors
from gesso.wiring import Ports
from gesso_protocol.errors import (
    BlobCorrupt,
    DeadlinePassed,
    GessoError,
    ShareContradicted,
    StateDoubtful,
    TaskFailed,
    UsageError,
)
from gesso_protocol.events import Event, Resumed
from gesso_protocol.fields import UsedAdapter
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.training.share import share_fault
from gesso_protocol.training.spec import TrainLora

ADAPTER_FILE = "adapter.safetensors"
KOHYA_FILE = "adapter_kohya.safetensors"
MAX_ADAPTER_BYTES = 2 * 1024**3
MAX_RESUMES = 3
_NOTHING_HINT = "the whole fee comes back when it settles; correct what was handed in and order again"
_IN_THOUSANDTHS = (
    "caption_dropout", "max_grad_norm", "min_snr", "noise_offset", "prior", "sample_guidance", "weight_decay",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """A training that is ready to be submitted: its spec and its packed data set."""

    spec: TrainLora
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained LoRA. `files` are its files by name, checked against the chain; `samples` its last sample pictures."""

    manifest: ModelManifest
    files: dict[str, bytes]
    samples: tuple[Image, ...]
    receipt: Receipt

    @property
    def ref(self) -> BlobRef:
        """What other tasks name it by."""
        return self.manifest.ref

    @property
    def steps_done(self) -> int:
        """Updates that were made; fewer than ordered when the loss stopped being a number."""
        return steps_of(self.receipt)

    @property
    def resumed(self) -> Origin | None:
        """Whose work it goes on with, when it is the rest of a run whose node was lost."""
        return self.receipt.resumed

    @property
    def stopped(self) -> str:
        """Why the run stopped early; empty when it did not."""
        return self.receipt.profile.get("stopped", "")

    def save(self, path: str | Path, *, kohya: bool = False) -> Path:
        """Write the file for diffusers, or the one for kohya-style tools; whole or not at all."""
        name = KOHYA_FILE if kohya else ADAPTER_FILE
        if name not in self.files:
            raise UsageError(f"the node delivered no {name}")
        target = Path(path).expanduser().resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_bytes(self.files[name])
        partial.replace(target)
        return target


class AsyncTraining:
    """A training under way. Made by `AsyncClient.train_lora` and `AsyncClient.resume_training`.

    When its node is lost, `result` orders the rest from another, up to `MAX_RESUMES` times; a lost task's whole fee
    comes back before that. A rest that was ordered before, here or elsewhere, is followed and not ordered again, and
    what was asked to stop is not gone on with. See `RestsOf` for what a rest may cost.
    """

    def __init__(
        self, ports: Ports, task: AsyncTask, spec: TrainLora, rests: Rests, *, unclaimed_too: bool = False,
        trust_state: bool = False,
    ) -> None:  # fmt: skip
        self.task = task
        self.spec = spec
        self._ports = ports
        self._rests = rests
        self._unclaimed_too = unclaimed_too
        self._trust_state = trust_state
        self._lost_to: tuple[TaskId, Address] | None = None
        self._stopped = False
        self._doubted = set[TaskId]()

    def __repr__(self) -> str:
        return f"AsyncTraining({self.task.id})"

    @property
    def id(self) -> TaskId:
        """The task on the board; another one after the run has changed hands."""
        return self.task.id

    async def events(self) -> AsyncIterator[Event]:
        """Updates with their losses, samples, checkpoints, and what the chain says."""
        async for event in self.task.events():
            yield event

    async def stop(self) -> TxReceipt:
        """Ask the node to stop at its next checkpoint: the adapter is what was learnt by then, and what is left of the
        fee comes back; all of it where no node has begun. A node that is lost after that is not replaced.

        Raises what `AsyncTask.stop` and `cancel` raise.
        """
        self._stopped = True
        if (await self.task.status()).state is TaskState.SUBMITTED:
            return await self.task.cancel()
        return await self.task.stop()

    async def result(self, *, on_event: OnEvent | None = None, timeout_s: float | None = None) -> Adapter:
        """Wait for the adapter, checked against the chain; goes on elsewhere when the node is lost.

        Raises what `AsyncTask.result` raises, when there is no checkpoint to go on from; StateDoubtful when there is
        one that no node can have made in its time; and ShareContradicted, once, when the node is to be paid for more
        than its result says was done.
        """
        with anyio.move_on_after(timeout_s) as scope:
            return await self._result(on_event)
        assert scope.cancelled_caught
        raise DeadlinePassed(f"no adapter within {timeout_s:g} s", hint=f"it goes on: gesso train --resume {self.id}")

    async def _result(self, on_event: OnEvent | None) -> Adapter:
        orders = MAX_RESUMES
        while True:
            try:
                result = await self.task.result(until="committed", on_event=on_event)
            except TaskFailed as error:
                lost = self.task
                if not await self._followed(lost, error):
                    if not orders or not await self._ordered(lost, error):
                        raise
                    orders -= 1
                self._tell_resumed(lost, on_event)
                continue
            await self._check_share(result.receipt)
            return await fetch_adapter(self._ports.blobs, await self._with_origin(result))

    async def _with_origin(self, result: Result) -> Result:
        """Of a rest, the result says whose work it goes on with: by what we saw, else by the chain."""
        resume = self.spec.resume
        if resume is None:
            return result
        if self._lost_to is None:
            origin = await origin_of(self._ports, self.task.terms, resume)
        else:
            lost, node = self._lost_to
            origin = Origin(run=resume.task, step=resume.step, state=resume.state, lost=lost, node=node)
        return replace(result, receipt=result.receipt.model_copy(update={"resumed": origin}))

    async def _check_share(self, receipt: Receipt) -> None:
        """Raises ShareContradicted, once a task: the adapter that is there can still be asked for."""
        if self.id in self._doubted:
            return
        share, spec = await self._ports.chain.done_of(self.id), self.spec
        done = max(spec.first_step, min(steps_of(receipt), spec.steps))
        fault = share_fault(share.bps, spec, done, stop_requested=share.stop_requested, broke=None)
        if fault:
            self._doubted.add(self.id)
            hint = f"before it is paid: gesso task audit {self.id} --challenge; what it gave is there: ask again"
            raise ShareContradicted(f"node {receipt.node.short} is to be paid for too much: {fault}", hint=hint)

    async def _followed(self, lost: AsyncTask, error: TaskFailed) -> bool:
        """Turn to the rest that was ordered before; false when there is none."""
        if not await self._goes_on(lost):
            return False
        with _hinting(lost, error):
            if (rest := await self._rests.ordered(lost.id)) is None:
                return False
            spec = await rest.spec()
            if not isinstance(spec, TrainLora) or spec.run != self.spec.run:
                raise UsageError(f"{rest.id} was ordered in its place and is another run")
            self._turn_to(rest, spec, lost)
            return True

    async def _ordered(self, lost: AsyncTask, error: TaskFailed) -> bool:
        """Order what is left of the run; false when nothing can be done."""
        if not await self._goes_on(lost):
            return False
        with _hinting(lost, error):
            rest = await self._rest(lost)
            if rest is None:
                return False
            share = share_of_fee(lost.terms.fee, self.spec, rest)
            self._turn_to(await self._rests.order(rest, lost=lost.id, share=share), rest, lost)
            self._unclaimed_too = False
            return True

    def _turn_to(self, task: AsyncTask, spec: TrainLora, lost: AsyncTask) -> None:
        # a node that was lost before its first checkpoint vouches for nothing: the state is still an earlier one's
        if spec.resume != self.spec.resume:
            self._lost_to = None if lost.claim is None else (lost.id, lost.claim.node)
        self.task, self.spec = task, spec

    async def _goes_on(self, lost: AsyncTask) -> bool:
        """Whether a node's death ended it: not an audit, and not its requester, who may have asked it to stop."""
        if self._stopped or lost.stop_requested or lost.committed:
            return False
        return (await lost.status()).state is TaskState.EXPIRED

    def _tell_resumed(self, lost: AsyncTask, on_event: OnEvent | None) -> None:
        if on_event is not None:
            fee, at, total = self.task.terms.fee, self.spec.first_step, self.spec.steps
            on_event(Resumed(task=self.id, at_ms=now_ms(), earlier=lost.id, index=at, total=total, fee=fee))

    async def _rest(self, lost: AsyncTask) -> TrainLora | None:
        if lost.claim is not None:
            return await rest_of_run(self._ports, lost, self.spec, lost.claim, trust=self._trust_state)
        return self.spec if self._unclaimed_too else None


def steps_of(receipt: Receipt) -> int:
    """After how many updates of the run the result was made, by its node's word; 0 for what is no number."""
    word = receipt.profile.get("steps-done", "")
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 6 else 0


@contextmanager
def _hinting(lost: AsyncTask, error: TaskFailed) -> Iterator[None]:
    """Whatever keeps the rest from being ordered is told with how the run can still go on."""
    try:
        yield
    except StateDoubtful:
        raise
    except GessoError as problem:
        raise TaskFailed(
            f"{error.message}; the rest could not be ordered: {problem.message}",
            hint=f"go on with it later: gesso train --resume {lost.id}",
        ) from problem


async def fetch_adapter(blobs: BlobStore, result: Result) -> Adapter:
    """The adapter of a finished training. Raises TaskFailed when the result holds none, BlobCorrupt, BlobMissing."""
    if result.adapter is None:
        why = result.receipt.profile.get("stopped", "") or "the node's result holds no adapter"
        raise TaskFailed(f"nothing came of the training: {why}", hint=_NOTHING_HINT)
    raw = await blobs.get(result.adapter, max_bytes=ModelManifest.MAX_BYTES)
    manifest = ModelManifest.decode(raw)
    if manifest.ref != result.adapter or manifest.kind != "lora":
        raise BlobCorrupt("the adapter's manifest is not the one that the node committed to")
    files = {}
    for entry in manifest.files:
        data = await blobs.get(entry.blob, max_bytes=min(entry.size, MAX_ADAPTER_BYTES))
        if len(data) != entry.size:
            raise BlobCorrupt(f"{entry.path} has another size than its manifest says")
        files[entry.path] = data
    return Adapter(manifest, files, result.images, result.receipt)


async def pack_dataset(source: Source, shape: Shape, trigger: str, folder: Path | None = None) -> Bundle:
    """Read, check and pack a data set in a thread. Raises UsageError, MissingExtra."""
    where = folder or Path(tempfile.mkdtemp(prefix="gesso-dataset-"))
    return await to_thread.run_sync(lambda: pack(source, where, shape, trigger=trigger))


async def put_bundle(blobs: BlobStore, bundle: Bundle) -> None:
    """Put a packed data set, its manifest last."""
    for entry in bundle.manifest.files:
        await blobs.put(bundle.files[entry.path], expect=entry.blob)
    await blobs.put(bundle.manifest.encode(), expect=bundle.ref)


async def local_adapter(blobs: BlobStore, path: Path, strength_milli: int, parent: BlobRef | None) -> UsedAdapter:
    """Put a LoRA file of ours as a private, unlisted adapter. Raises ModelInvalid when it is not safetensors."""

    def look() -> tuple[int, BlobRef]:
        open_tensors(path, max_bytes=MAX_ADAPTER_BYTES)
        return path.stat().st_size, BlobRef(blake3().update_mmap(path).digest())

    size, blob = await to_thread.run_sync(look)
    manifest = adapter_manifest("private", size, blob, parent=parent, licence="private")
    await blobs.put(path, expect=blob)
    await blobs.put(manifest.encode(), expect=manifest.ref)
    return UsedAdapter(manifest=manifest.ref, strength_milli=strength_milli)


def adapter_manifest(
    name: str, size: int, blob: BlobRef, *, parent: BlobRef | None, licence: str, version: int = 1
) -> ModelManifest:
    """The manifest of a LoRA of one file."""
    entry = FileEntry(path=ADAPTER_FILE, size=size, blob=blob)
    return ModelManifest(name=name, version=version, kind="lora", parent=parent, licence=licence, files=(entry,))


def parse_use(text: str) -> tuple[str, int]:
    """`alice/zbx@1:0.8` or `file.safetensors:0.8`: what is used, and its strength in thousandths, 1000 if left out."""
    name, colon, strength = text.rpartition(":")
    if not colon:
        return text, 1000
    try:
        milli = round(float(strength) * 1000)
    except (ValueError, OverflowError):
        if not name.endswith(".safetensors") and "@" not in name:
            return text, 1000
        milli = 0
    if not name or not -5000 <= milli <= 5000 or milli == 0:
        raise UsageError(f"{text}: a strength is a number from -5 to 5 and not 0", hint="as in --lora alice/zbx@1:0.8")
    return name, milli


def spec_fields(nano: dict[str, Any]) -> dict[str, Any]:
    """Named values as people give them (`learning_rate=1e-4`) as fields of a spec; None is left to the preset.

    A rank alone sets alpha too, so that the preset's alpha does not scale a LoRA of another rank.
    """
    fields: dict[str, Any] = {key: value for key, value in nano.items() if value is not None}
    for name in ("learning_rate", "text_learning_rate"):
        if name in fields:
            fields[f"{name}_nano"] = round(float(fields.pop(name)) * 1e9)
    for name in _IN_THOUSANDTHS:
        if name in fields:
            fields[f"{name}_milli"] = round(float(fields.pop(name)) * 1000)
    if "rank" in fields:
        fields.setdefault("alpha", fields["rank"])
    if fields.get("text_encoder") is False:
        fields.setdefault("text_learning_rate_nano", 0)
    if "targets" in fields:
        fields["targets"] = tuple(sorted(set(fields["targets"])))
    return fields
