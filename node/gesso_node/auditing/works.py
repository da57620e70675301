"""Which work a case is: its spec read, its model named, and what it takes to look at that kind of task."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import structlog

from gesso.blobs import BlobStore
from gesso.chain import Chain
from gesso.runseed import seed_of_run
from gesso_node.auditing.ask import Asker
from gesso_node.auditing.assignment import Assignment, RunAssignment
from gesso_node.auditing.case import Case
from gesso_node.auditing.nothing import NothingWork
from gesso_node.auditing.pictures import Examiner, PictureWork
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.trainings import TrainingWork
from gesso_node.auditing.work import Work
from gesso_node.models.catalogue import Catalogue
from gesso_node.work.run_bench import RunBench
from gesso_protocol.audit.lifecycle import AuditView
from gesso_protocol.errors import GessoError
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.policy import resolve_model
from gesso_protocol.spec import MAX_SPEC_BYTES, Spec, TaskKind, TextToImage, parse_any_spec
from gesso_protocol.trace import Run
from gesso_protocol.training.share import late_from

log = structlog.get_logger("gesso.node.auditing")

MAX_WORKS = 256
MAX_WITHOUT_SEAT = 64
"""Cases that we look at before we have a seat. Those with one, for which our seal was sent, are always taken, as a seat
costs its penalty: there are never more than both together, as nobody gets a seat before its case was taken."""
_KINDS = (TaskKind.TEXT_TO_IMAGE, TaskKind.TRAIN_LORA)


class SpecAwayError(GessoError):
    """No store has the task's spec."""

    code = "spec-away"
    default_message = "no store has the task's spec"
    default_hint = "its node has it"
    exit_code = 7


class TooManyCasesError(GessoError):
    """There is no room for a case without a seat of ours."""

    code = "too-many-cases"
    default_message = "too many cases are open"
    default_hint = "it is looked at when others are over"
    exit_code = 6


class Works:
    """Makes the work of each case, and keeps it while the case is open. `shelf` is what they have on disk."""

    def __init__(
        self,
        chain: Chain,
        blobs: BlobStore,
        catalogue: Catalogue,
        asker: Asker,
        examiner: Examiner,
        bench: RunBench,
        shelf: Shelf,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._catalogue = catalogue
        self._asker = asker
        self._examiner = examiner
        self._bench = bench
        self._shelf = shelf
        self._kept: OrderedDict[TaskId, tuple[Case, Work[Any, Any]]] = OrderedDict()

    @staticmethod
    def known(case: Case) -> bool:
        """Whether tasks of this kind can be looked at at all."""
        return case.filing.terms.kind in _KINDS

    async def bring_spec(self, case: Case) -> None:
        """From the node itself, whom no relay can keep silent. Raises what stores and transport raise."""
        await self._blobs.put(await self._asker.blob(case.filing.node, case.filing.terms.spec, MAX_SPEC_BYTES))

    async def of(self, case: Case, view: AuditView) -> Work[Any, Any] | None:
        """What we look at; None for a task that cannot be re-run here. Raises SpecAwayError, TooManyCasesError."""
        kept = self._kept.get(case.task)
        if view.challenge is None or not self.known(case):
            return None
        if kept is not None and kept[1].challenge == view.challenge:
            self._kept[case.task] = (case, kept[1])
            return kept[1]
        self._drop_idle(MAX_WORKS - 1)
        if kept is None and not _seated(case) and self._is_full:
            raise TooManyCasesError
        try:
            spec = parse_any_spec(await self._blobs.get(case.filing.terms.spec, max_bytes=MAX_SPEC_BYTES))
        except GessoError as error:
            log.info("auditing.spec-away", task=case.task.short, code=error.code)
            raise SpecAwayError from error
        manifest = resolve_model(spec, self._catalogue.models())
        made = None if manifest is None else await self._made(case, view, spec, manifest)
        if made is None:
            return None
        self.forget(case.task)
        self._kept[case.task] = (case, made)
        return made

    def forget(self, task: TaskId) -> None:
        """We have nothing to do in the case any more."""
        kept = self._kept.pop(task, None)
        if kept is not None:
            kept[1].forget()

    async def over(self, task: TaskId) -> None:
        """The case is over for everybody: what we published for it may go too."""
        self.forget(task)
        await self._shelf.over(task)

    @property
    def _is_full(self) -> bool:
        seatless = sum(not _seated(case) for case, _ in self._kept.values())
        return len(self._kept) >= MAX_WORKS or seatless >= MAX_WITHOUT_SEAT

    def _drop_idle(self, most: int) -> None:
        """Make room, oldest first, among cases that we have left. What an audit has on disk is its proof until then:
        a case that goes on is never dropped, however many there are."""
        idle = [task for task, (case, _) in self._kept.items() if case.left and not case.busy]
        for task in idle[: max(0, len(self._kept) - most)]:
            self.forget(task)

    async def _made(self, case: Case, view: AuditView, spec: Spec, manifest: BlobRef) -> Work[Any, Any] | None:
        assert view.challenge is not None
        run = Run(self._chain.chain_id, self._chain.settings.contracts.task_board, case.task, case.filing.node)
        if int(spec.task_kind) != case.filing.terms.kind:
            return None
        if isinstance(spec, TextToImage):
            drawn = Assignment(run, case.filing, spec, manifest, view.challenge, view.rules)
            return PictureWork(drawn, self._asker, self._examiner, self._shelf)
        claimed_at = case.claimed_at
        if claimed_at is None:
            log.warning("auditing.claim-unseen", task=case.task.short)
            return None

        async def seed() -> bytes:
            return await seed_of_run(self._chain, spec, case.task, claimed_at)

        share = await self._chain.done_of(case.task)
        late = case.committed_at >= late_from(claimed_at, case.filing.terms.commit_window_s)
        learnt = RunAssignment(run, case.filing, spec, manifest, view.challenge, view.rules, share, late)
        if share.bps == 0:
            return NothingWork(learnt)
        return TrainingWork(learnt, self._asker, self._bench, seed, self._blobs, self._shelf)


def _seated(case: Case) -> bool:
    """An entry alone is no seat: one is written for every case that is looked at."""
    sealed = (case.entry, *case.votes.values())
    return any(entry is not None and entry.commit_sent_at is not None for entry in sealed)
