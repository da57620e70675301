"""An auditor's eyes: honest work passes on every draw, and each way of not working shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gesso_node.auditing.inspect import Inspector, Redone
from gesso_node.executors.cheats import ENGINE_CHEATS
from gesso_node.executors.fake import FakeExecutor
from gesso_node.executors.port import Replayed, ReplayJob, ReplayOutcome
from gesso_node.models.cache import ModelCache
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.verdict import Decision, Fault, vote
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.trace import LeafKind, Slot

from .traces import SPEC, ground_and_steps, inspector, sell, verdict_on

pytestmark = pytest.mark.anyio
PARTIAL = {"cached", "fewer-steps", "skip-steps", "feature-reuse", "output-reuse", "late-guidance"}
"""Only some steps are wrong, so a draw may miss them."""
OUT_OF_REACH = {"missing-lora"}
"""Needs an adapter; the fake engine has none."""
DRAWS = 6


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_a", "dpmpp_2m"])
async def test_honest_work_passes_on_every_draw(tmp_path: Path, scheduler: str) -> None:
    spec = SPEC.model_copy(update={"scheduler": scheduler, "count": 2})
    for draw in range(3):
        verdict = await verdict_on(tmp_path, await sell(tmp_path / str(draw), spec=spec, draw=draw))
        assert verdict.decision is Decision.PASS, verdict.reasons
        assert verdict.max_error_of_limit < 0.5


async def test_work_without_guidance_has_one_branch_and_passes(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"guidance": 1.0})
    assert (await verdict_on(tmp_path, await sell(tmp_path, spec=spec))).decision is Decision.PASS


@pytest.mark.parametrize("cheat", sorted(set(ENGINE_CHEATS) - OUT_OF_REACH))
async def test_each_cheat_shows(tmp_path: Path, cheat: str) -> None:
    caught = 0
    for draw in range(DRAWS):
        verdict = await verdict_on(tmp_path, await sell(tmp_path / str(draw), cheat=cheat, draw=draw))
        caught += verdict.decision is Decision.FLAG and verdict.slashable
    assert caught == DRAWS or (cheat in PARTIAL and caught > 0), f"{caught} of {DRAWS}"


class Elsewhere(FakeExecutor):
    """The fake engine on a device of another kind."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self._key = f"fp32/{family}"

    async def replay(self, job: ReplayJob) -> ReplayOutcome:
        done = await super().replay(job)
        assert isinstance(done, Replayed)
        return replace(done, profile={**done.profile, "key": self._key})


@pytest.mark.parametrize(("family", "ballot"), [("cuda-sm90", Ballot.BAD), ("rocm-gfx90a", Ballot.CANNOT_TELL)])
async def test_only_a_juror_on_a_measured_device_accuses(tmp_path: Path, family: str, ballot: Ballot) -> None:
    models = ModelCache(tmp_path / "models", None, budget_bytes=10**9)  # type: ignore[arg-type]
    juror = Inspector(Elsewhere(family), models, needs_model=False)
    sold = await sell(tmp_path, cheat="other-prompt")
    assert vote(await verdict_on(tmp_path, sold, look=juror, strict=True)) is ballot


async def test_a_swapped_picture_is_told_by_its_file_alone(tmp_path: Path) -> None:
    sold = await sell(tmp_path / "a")
    other = await sell(tmp_path / "b", spec=SPEC.model_copy(update={"seed": 99}))
    verdict = await verdict_on(tmp_path, replace(sold, images=other.images))
    assert {reason.fault for reason in verdict.reasons} == {Fault.FILE}


async def test_what_is_no_picture_is_a_fault_and_no_error(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    for rubbish in (b"", b"\x89PNG\r\n\x1a\n", sold.images[0][:200], b"\x00" * 100):
        verdict = await verdict_on(tmp_path, replace(sold, images=(rubbish,)))
        assert {reason.fault for reason in verdict.reasons} == {Fault.FILE}


async def test_two_auditors_compute_the_same_projection_from_inputs_alone(tmp_path: Path) -> None:
    sold = await sell(tmp_path / "a")
    _, first = await ground_and_steps(tmp_path, sold, sold.bundle(outputs=False))
    _, second = await ground_and_steps(tmp_path, sold, sold.bundle())
    challenge, checks = sold.assignment.challenge, sold.assignment.checks
    assert first.projection(challenge, checks) == second.projection(challenge, checks)
    other = replace(sold, assignment=replace(sold.assignment, challenge=bytes([7]) * 32))
    _, third = await ground_and_steps(tmp_path, other, other.bundle(outputs=False))
    assert third.projection(bytes([7]) * 32, other.assignment.checks) != first.projection(challenge, checks)


async def test_inputs_hold_no_outputs(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    opened = sold.bundle(outputs=False)
    assert {slot.kind for slot in opened.leaves} <= {
        LeafKind.MANIFEST, LeafKind.EMBEDDING, LeafKind.NOISE, LeafKind.LATENT,
    }  # fmt: skip
    steps = {(slot.image, slot.step) for slot in opened.leaves if slot.kind is LeafKind.LATENT}
    assert steps <= {(image, step - 1) for image, step in sold.assignment.checks}
    assert not opened.complete


async def test_a_latent_of_another_size_is_the_nodes_fault_not_a_crash(tmp_path: Path) -> None:
    sold = await sell(tmp_path / "a")
    small = await sell(tmp_path / "b", spec=SPEC.model_copy(update={"width": 128}))
    foreign = small.bundle()
    ground = await inspector(tmp_path).ground(sold.assignment, strict=False, deadline_s=60)
    redone = await inspector(tmp_path).steps(
        sold.assignment, ground, foreign, sold.assignment.checks, strict=False, deadline_s=60
    )
    assert isinstance(redone, Redone)
    assert "another size" in redone.wrong
    assert not redone.outputs


async def test_a_bundle_of_another_trace_is_refused(tmp_path: Path) -> None:
    sold = await sell(tmp_path / "a")
    other = await sell(tmp_path / "b", cheat="wrong-model")
    layout = sold.own.trace.layout
    data = Bundle.encode(other.own.leaves(tuple(layout.slots())), other.own.tree, layout)
    with pytest.raises(EncodingInvalid):
        Bundle.decode(data, sold.assignment.run, layout, sold.assignment.filing.trace_root)
    with pytest.raises(EncodingInvalid):
        sold.bundle(outputs=False).tensor(Slot(LeafKind.COND, 0, 0))
