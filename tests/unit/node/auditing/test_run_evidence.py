"""Jurors see of a training what its auditors saw, whatever its node says to whom: published evidence leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso_node.auditing.assignment import RunAssignment
from gesso_node.auditing.shelf import Shelf
from gesso_node.auditing.trainings import TrainingWork
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.verdict import Decision, vote
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.manifest import ModelManifest
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.training.evidence import RunEvidence

from .runs import Run, Told, train
from .test_run_samples import file, with_picture

pytestmark = pytest.mark.anyio
FORGED = BlobRef.of(b"where no result is")


class Trickling(Told):
    """A node, or a store, that never comes to an end with one blob."""

    async def blob(self, node: Address, ref: BlobRef, max_bytes: int) -> bytes:
        if ref == FORGED:
            await anyio.sleep_forever()
        return await super().blob(node, ref, max_bytes)


@dataclass
class Court:
    """A training whose result is `result`, and the store that its auditors publish into: all that jurors have."""

    run: Run
    result: ResultManifest
    folder: Path
    public: LocalBlobs = field(init=False)

    def __post_init__(self) -> None:
        self.public = LocalBlobs(self.folder / "public")

    async def audited(self) -> BlobRef:
        """Where the evidence is of an auditor whom the node shows everything."""
        assignment, answers = await self._assignment()
        await self.run.blobs.put(self.result.encode())
        data = assignment.spec.dataset  # which its requester shows everybody
        await self.public.put(await self.run.blobs.get(data, max_bytes=1 << 20))
        work = self._work(assignment, Told(self.run.blobs, answers, self.result), "auditor")
        await work.ready(seconds=60)
        opened = await work.opened("outputs", 60)
        finding = await work.examine(opened, None, strict=False, seconds=60)
        assert finding.verdict.decision is Decision.FLAG
        assert finding.evidence is not None
        await work.publish(opened)
        return finding.evidence

    async def judged(self, evidence: Sequence[BlobRef]) -> Ballot:
        """How a juror votes whom the node answers nothing, and who knows no relay."""
        assignment, _ = await self._assignment()
        work = self._work(assignment, Trickling(self.public, {}, None), "juror")
        await work.ready(seconds=60)
        found = await work.examine(await work.published(evidence), None, strict=True, seconds=60)
        return vote(found.verdict)

    async def told(self, evidence: BlobRef, result: BlobRef | None) -> BlobRef:
        """The same openings, published with another place of the result."""
        data = await self.public.get(evidence, max_bytes=1 << 21)
        return await self.public.put(RunEvidence(RunEvidence.decode(data).openings, result).encode())

    async def _assignment(self) -> tuple[RunAssignment, dict[str, bytes]]:
        assignment, answers = await self.run.answers()
        filing = assignment.filing.__class__(
            assignment.filing.terms, assignment.filing.node, result_root(self.result), assignment.filing.trace_root
        )
        return RunAssignment(
            assignment.run, filing, assignment.spec, assignment.manifest, assignment.challenge, assignment.rules,
            assignment.share,
        ), answers  # fmt: skip

    def _work(self, assignment: RunAssignment, asker: Told, name: str) -> TrainingWork:
        shelf = Shelf(self.folder / name, self.public, budget_bytes=1 << 30)
        return TrainingWork(assignment, asker, self.run.bench, self.run.seed, self.public, shelf)


async def swapped(folder: Path) -> Court:
    """Its node hands over another picture than it drew."""
    run = await train(folder / "run", steps=3)
    return Court(run, await with_picture(run, file(64, (3, 250, 4))), folder)


async def test_a_picture_that_only_auditors_were_shown_convicts_before_jurors(tmp_path: Path) -> None:
    court = await swapped(tmp_path)
    evidence = await court.audited()
    assert await court.judged([evidence]) is Ballot.BAD
    bare = await court.told(evidence, None)
    assert await court.judged([bare]) is Ballot.CANNOT_TELL, "evidence of the old form opens as before, and no more"
    assert await court.judged([bare, evidence]) is Ballot.BAD, "each auditor's evidence may say where the result is"


async def test_a_wrong_place_keeps_nobody_from_the_right_one(tmp_path: Path) -> None:
    """A friend of the node reveals first, and names a blob that never comes to an end."""
    court = await swapped(tmp_path)
    evidence = await court.audited()
    assert await court.judged([await court.told(evidence, FORGED), evidence]) is Ballot.BAD
    other = await court.public.put(court.result.model_copy(update={"images": ()}).encode())
    assert await court.judged([await court.told(evidence, other), evidence]) is Ballot.BAD


async def test_an_adapter_that_only_auditors_were_shown_convicts_too(tmp_path: Path) -> None:
    run = await train(tmp_path / "run", steps=3)
    assert run.result.adapter is not None
    manifest = ModelManifest.decode(await run.blobs.get(run.result.adapter, max_bytes=10**6))
    swapped = tuple(
        one.model_copy(update={"blob": FORGED}) if one.path == "adapter.safetensors" else one for one in manifest.files
    )
    other = manifest.model_copy(update={"files": swapped})
    await run.blobs.put(other.encode())
    court = Court(run, run.result.model_copy(update={"adapter": other.ref}), tmp_path)
    assert await court.judged([await court.audited()]) is Ballot.BAD
