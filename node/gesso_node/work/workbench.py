"""Doing one task: model, executor, result. Ends with an outcome in the journal, or a failure counted there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from gesso.blobs import BlobStore
from gesso.runseed import NotYet
from gesso_node.executors.lora.fault import InputInvalid
from gesso_node.executors.lora.outside import TrainingTrace
from gesso_node.executors.lora.port import Trained, TrainingOutcome
from gesso_node.executors.lora.runfolder import ask_to_stop, take_stop_back
from gesso_node.executors.port import Crashed, Executor, Finished, Job, Outcome, OutOfMemory, StepDone, Unfit
from gesso_node.metrics import Metrics
from gesso_node.models.cache import ModelCache
from gesso_node.network.progress import ProgressSender
from gesso_node.state.book import Book, Known, write_down
from gesso_node.state.journal import Entry, Journal
from gesso_node.state.pace import PicturePace
from gesso_node.traces import backup
from gesso_node.traces.backup import TraceSecrets
from gesso_node.traces.handed import note
from gesso_node.traces.kept import Traces
from gesso_node.traces.opened_run import trace_files
from gesso_node.traces.run_backup import RunBackup
from gesso_node.work.results import publish_result
from gesso_node.work.run_bench import InputMissing
from gesso_node.work.training import TrainingDesk, TrainingOrder
from gesso_protocol.errors import BlobError, BlobMissing, ExecutorError, GessoError, ModelInvalid, Unreachable
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import TaskRecord, Why
from gesso_protocol.result import result_root
from gesso_protocol.spec import TextToImage, TrainLora, spec_bytes
from gesso_protocol.trace import Binding
from gesso_protocol.training.share import share_of

log = structlog.get_logger("gesso.node.work")

STOPPED_BY_REQUESTER = "its requester asked for it"
OUT_OF_TIME = "its time was nearly over"
INPUT_WAIT_S = 300
"""How long a training waits for a data set or a state that was served before its claim and is not after it."""
COMMIT_MARGIN_S = 2
"""Left of the commit window for the commit itself; a run that would end later is not worth finishing."""


def stopped_by_wish(why: str) -> bool:
    """Whether a run ended because its requester had asked, which the chain must show."""
    return why == STOPPED_BY_REQUESTER


class Workbench:
    """Runs claimed tasks, one at a time, and journals how they went."""

    def __init__(
        self,
        *,
        chain_id: int,
        board: Address,
        book: Book,
        journal: Journal,
        executor: Executor,
        models: ModelCache,
        blobs: BlobStore,
        progress: ProgressSender,
        metrics: Metrics,
        traces: Traces,
        secrets: TraceSecrets,
        backups: BlobStore,
        needs_model: bool,
        keep_traces: bool,
        chain_now: Callable[[], Awaitable[int]],
        training: TrainingDesk | None = None,
        backup_room: Callable[[], int] = lambda: 0,
        pace: PicturePace | None = None,
    ) -> None:
        self._chain_id = chain_id
        self._board = board
        self._book = book
        self._journal = journal
        self._executor = executor
        self._models = models
        self._blobs = blobs
        self._progress = progress
        self._metrics = metrics
        self._traces = traces
        self._secrets = secrets
        self._backups = backups
        self._needs_model = needs_model
        self._keep_traces = keep_traces
        self._chain_now = chain_now
        self._training = training
        self._backup_room = backup_room
        self._pace = pace
        self._turn = anyio.Lock()
        self.current: tuple[Known, StepDone | None] | None = None

    async def run(self, known: Known) -> None:
        """Execute `known` and journal the outcome. Network trouble leaves the entry as it was, for another try."""
        async with self._turn:
            entry = known.entry
            if entry is None or entry.result is not None:
                return
            self.current = (known, None)
            try:
                await self._attempt(known, entry)
            finally:
                self.current = None

    def stop(self, known: Known) -> None:
        """Have a training end at its next checkpoint with what it has: its requester asked on chain, or it is late."""
        why = STOPPED_BY_REQUESTER if known.record.stop_requested else OUT_OF_TIME
        log.info("work.to-stop", task=known.task.short, why=why)
        ask_to_stop(self.trace_folder(known), why)

    def go_on(self, known: Known) -> None:
        """The chain took the wish back: the training runs to its end."""
        take_stop_back(self.trace_folder(known))

    def trace_folder(self, known: Known) -> Path:
        """Where a task's pictures and trace are."""
        return self._traces.path(known.task)

    async def forget(self, known: Known) -> None:
        """Remove a task's files; its result, if any, is in the blob store."""
        await self._traces.forget(known.task)

    async def leave(self, known: Known, why: Why) -> None:
        """The task is over for us: what nobody can ask for any more goes, the rest when there is need of room."""
        if self._training is not None and known.trains:
            await self._training.leave(known.task, lost=why is Why.EXPIRED)
        if known.entry is None or known.entry.result is None:
            await self.forget(known)
        else:
            await self._traces.release(known.task)

    async def _attempt(self, known: Known, entry: Entry) -> None:
        logger = log.bind(task=known.task.short, attempt=entry.failures + 1)
        try:
            secret = entry.secret or self._secrets.salt_secret(known.task)
            if entry.secret is None:
                await write_down(self._journal, known, "secret", secret=secret)
            if isinstance(entry.spec, TrainLora):
                await self._train(known, replace(entry, secret=secret), entry.spec)
                return
            outcome, job = await self._execute(known, replace(entry, secret=secret))
            if isinstance(outcome, Finished):
                await self._finish(known, job, outcome)
            else:
                await self._failed(known, entry, outcome)
        except (ModelInvalid, ExecutorError) as error:
            await self._failed(known, entry, Unfit(error.message))
        except NotYet as error:
            logger.debug("work.waits", reason=error.message)
            known.not_before = await self._chain_now() + 1
        except GessoError as error:
            logger.warning("work.interrupted", code=error.code, reason=error.message)
            self._tell_missing(known, error)
            known.not_before = await self._chain_now() + 1
        except Exception as error:  # whatever a stranger's task has brought up, it ends the attempt and not the node
            logger.exception("work.broke")
            await self._failed(known, entry, Crashed(f"{type(error).__name__}: {error}"))

    def _tell_missing(self, known: Known, error: GessoError) -> None:
        """Bytes that nobody serves may still come, so the task is kept; its requester should know what it waits for."""
        if isinstance(error, BlobMissing | BlobError) and "missing" not in known.told:
            known.told.add("missing")
            self._progress.stage(known.task, "failed", f"something that the task needs cannot be had: {error.message}")

    async def _execute(self, known: Known, entry: Entry) -> tuple[Outcome, Job]:
        assert isinstance(entry.spec, TextToImage)
        assert entry.secret is not None
        manifest = entry.manifest or entry.terms.spec
        binding = Binding(self._chain_id, self._board, known.task, self._book.me, entry.secret)
        out_dir = self.trace_folder(known)

        async def on_event(step: StepDone) -> None:
            self.current = (known, step)
            self._progress.step(known.task, step)

        async with AsyncExitStack() as stack:
            model_dir = None
            if self._needs_model:
                self._progress.stage(known.task, "loading")
                model_dir = await stack.enter_async_context(self._models.held(manifest))
            await self.forget(known)
            held = [self._models.held(one.manifest) for one in entry.spec.loras]
            loras = tuple([await stack.enter_async_context(one) for one in held])
            job = Job(entry.spec, model_dir, out_dir, await self._time_left(known), manifest, binding, loras)
            return await self._executor.run(job, on_event=on_event), job

    async def _train(self, known: Known, entry: Entry, spec: TrainLora) -> None:
        if self._training is None:
            raise ModelInvalid("this node does not train")
        assert entry.secret is not None
        claim = await self._believe(known, self._training)
        self._progress.stage(known.task, "loading")
        order = TrainingOrder(
            task=known.task,
            spec=spec,
            manifest=entry.manifest or entry.terms.spec,
            claimed_at=claim.state_since,
            binding=Binding(self._chain_id, self._board, known.task, self._book.me, entry.secret),
            # kept between attempts: a run goes on from its last checkpoint
            out_dir=self.trace_folder(known),
            deadline_s=await self._time_left(known),
        )
        known.watch = order.watch
        try:
            outcome = await self._training.run(
                order, partial(self._progress.training, known.task), partial(self._progress.pause, known.task)
            )
        except (InputInvalid, InputMissing) as error:
            if isinstance(error, InputMissing) and not await self._waited_enough(known):
                raise
            outcome = Unfit(error.message, by_input=True)
        finally:
            known.watch = None
        if isinstance(outcome, Unfit) and outcome.by_input:
            await self._nothing(known, order, self._training, outcome.reason)
            return
        if not isinstance(outcome, Trained):
            await self._failed(known, entry, outcome)
            return
        now = await self._believe(known, self._training)
        if now.state_since != claim.state_since or (stopped_by_wish(outcome.stopped) and not now.stop_requested):
            # Its seed is another one, or it was not to stop. A run that is the same goes on where it is.
            raise Unreachable("the chain took back what this run was begun, or ended, for")
        self._metrics.stage_seconds("load", outcome.load_seconds)
        self._metrics.stage_seconds("execute", outcome.seconds)
        await self._backups.put(spec_bytes(spec))
        trace = TrainingTrace.read(order.out_dir, spec)
        key = self._secrets.backup_key(known.task)
        # each backup is new bytes, and an attempt that broke after its own may have had a disk that was full
        await self._traces.unhand(known.task)
        kept = RunBackup(self._backups, known.task, key)
        room = await anyio.to_thread.run_sync(self._backup_room)
        copy = await kept.store(order.out_dir, trace_files(trace), most_bytes=room, note=partial(note, order.out_dir))
        if copy is None:
            log.warning(
                "work.no-backup", task=known.task.short, room=room, hint="what it may be asked for is only here"
            )
        manifest = await self._training.publish(order, outcome, self._book.me, copy)
        log.info("work.trained", task=known.task.short, steps=outcome.steps_done, stopped=outcome.stopped)
        roots = {"result_root": result_root(manifest), "trace_root": outcome.trace_root}
        share = share_of(spec, outcome.steps_done)
        await write_down(self._journal, known, "outcome", result=manifest, done_bps=share, **roots)

    async def _believe(self, known: Known, desk: TrainingDesk) -> TaskRecord:
        """The claim as the chain has it now, with the wish to stop in the run's folder, or out of it, as it says."""
        record = known.record = await desk.claim(known.task, self._book.me)
        known.stopping = record.stop_requested or await self._is_late(known)
        self.go_on(known)
        if known.stopping:
            self.stop(known)
        return record

    async def _is_late(self, known: Known) -> bool:
        late_from = self._book.view(known).late_from
        return late_from is not None and await self._chain_now() >= late_from

    async def _waited_enough(self, known: Known) -> bool:
        """What is missing may still come. Meanwhile we take no other task and no seat, so that has an end."""
        return await self._is_late(known) or await self._chain_now() >= known.record.state_since + INPUT_WAIT_S

    async def _nothing(self, known: Known, order: TrainingOrder, desk: TrainingDesk, reason: str) -> None:
        """With what its requester handed in, nobody can train: a part of nothing is committed. The whole fee comes back
        as it would at an expiry, and our standing stays."""
        log.warning("work.nothing", task=known.task.short, reason=reason)
        self._metrics.failed("Input")
        await self._journal.count("failed", "Input")
        manifest = await desk.publish_nothing(order, reason, self._book.me)
        self._progress.stage(known.task, "failed", f"nothing comes of it: {reason}")
        await self.forget(known)
        roots = {"result_root": result_root(manifest), "trace_root": manifest.trace_root}
        said = f"Input: {reason}"[:500]
        await write_down(self._journal, known, "outcome", result=manifest, done_bps=0, last_failure=said, **roots)

    async def _time_left(self, known: Known) -> float:
        now = await self._chain_now()
        claimed = self._book.view(known).due if known.record.node == self._book.me else None
        due = claimed or now + known.terms.commit_window_s
        left = due - now - COMMIT_MARGIN_S
        late_from = self._book.view(known).late_from
        if late_from is not None and now < late_from:
            # what a run that hangs has left must still be made an adapter of, and committed
            left -= (due - late_from) // 2
        return max(0.1, left)

    async def _finish(self, known: Known, job: Job, outcome: Finished) -> None:
        self._metrics.stage_seconds("load", outcome.load_seconds)
        self._metrics.stage_seconds("execute", outcome.seconds)
        if self._pace is not None:
            await self._pace.learn(job.spec, outcome.seconds)
        # Auditors and jurors need the spec too, and no relay must be able to keep it from them.
        await self._backups.put(spec_bytes(job.spec))
        copy = await backup.store(self._backups, job.out_dir, known.task, self._secrets.backup_key(known.task))
        if copy is not None and self._keep_traces:
            note(job.out_dir, copy, await self._backups.size(copy))
        manifest = await publish_result(self._blobs, job, outcome, self._book.me, copy)
        root = result_root(manifest)
        log.info("work.done", task=known.task.short, seconds=round(outcome.seconds, 3), result=manifest.ref.short)
        if not self._keep_traces:
            await self.forget(known)
        roots = {"result_root": root, "trace_root": outcome.trace_root}
        await write_down(self._journal, known, "outcome", result=manifest, **roots)

    async def _failed(self, known: Known, entry: Entry, outcome: Outcome | TrainingOutcome) -> None:
        kind = type(outcome).__name__
        reason = getattr(outcome, "reason", "")
        log.warning("work.failed", task=known.task.short, kind=kind, reason=reason, tail=getattr(outcome, "tail", ""))
        self._metrics.failed(kind)
        await self._journal.count("failed", kind)
        hopeless = isinstance(outcome, Unfit | OutOfMemory)
        failures = max(self._book.patience.attempts if hopeless else 0, entry.failures + 1)
        if failures >= self._book.patience.attempts:
            self._progress.stage(known.task, "failed", f"{kind}: {reason}")
        await write_down(self._journal, known, "failure", failures=failures, last_failure=f"{kind}: {reason}"[:500])
