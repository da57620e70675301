"""A training of the real trainer before an auditor with other kernels and a juror: what the limits are made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gesso_node.auditing import run_results
from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions
from gesso_node.executors.kernels import KernelOptions
from gesso_node.executors.lora.port import TrainingInputs
from gesso_node.executors.lora.sgm_names import layers_in
from gesso_node.executors.lora.trainer import Trainer
from gesso_node.executors.sample import write_sample_pipeline
from gesso_node.executors.sample_xl import write_xl_pipeline
from gesso_protocol.audit.outcomes import Ballot
from gesso_protocol.audit.projection import differ, unpack
from gesso_protocol.audit.verdict import Decision, vote

from .runs import train

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SMALL = {"steps": 12, "checkpoint_every": 3, "batch": 2, "rank": 2, "alpha": 2, "sample_steps": 1}


class OnSample(DiffusersEngine):
    """The real engine, whose model is a small folder beside the test."""

    def __init__(self, folder: Path, options: DiffusersOptions | None = None) -> None:
        super().__init__(options)
        self._folder = folder

    def trainer(self, inputs: TrainingInputs, *, strict: bool = False) -> Trainer:
        return super().trainer(replace(inputs, model_dir=self._folder), strict=strict)


@pytest.mark.parametrize("cheat", [None, "higher-rate"])
async def test_unlike_kernels_agree_and_the_least_cheat_does_not(cheat: str | None, tmp_path: Path) -> None:
    folder = write_sample_pipeline(tmp_path / "sample")
    looks = OnSample(folder, DiffusersOptions(kernels=KernelOptions(attention="bmm", onednn=False)))
    engine = OnSample(folder, DiffusersOptions(cheat=cheat))
    run = await train(tmp_path / "run", engine=engine, looks=looks, **SMALL)
    assignment, answers = await run.answers()
    work = run.work(assignment, answers, result=run.result)
    await work.ready(seconds=100)
    own = await work.compute(await work.opened("inputs", 100), seconds=100)
    opened = await work.opened("outputs", 100)
    finding = await work.examine(opened, own, strict=False, seconds=100)
    juror = await work.examine(opened, None, strict=True, seconds=100)
    if cheat is not None:
        assert (finding.verdict.decision, vote(juror.verdict)) == (Decision.FLAG, Ballot.BAD)
        assert finding.verdict.max_error_of_limit >= 3
        return
    assert (finding.verdict.decision, vote(juror.verdict)) == (Decision.PASS, Ballot.GOOD), finding.verdict
    assert finding.verdict.max_error_of_limit <= 1 / 3
    assert juror.projection is not None
    assert differ(unpack(own.projection), unpack(juror.projection)) <= 16


async def test_a_training_on_xl_passes_and_its_kohya_file_is_looked_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All kinds of layers and both text encoders. The base's folder, which the cache would have, names the layers."""
    folder = write_xl_pipeline(tmp_path / "xl")
    engine = OnSample(folder)
    run = await train(tmp_path / "run", engine=engine, looks=engine, **{**SMALL, "steps": 2, "checkpoint_every": 1})
    assignment, answers = await run.answers()
    work = run.work(assignment, answers, result=run.result)
    await work.ready(seconds=100)
    own = await work.compute(await work.opened("inputs", 100), seconds=100)
    opened = await work.opened("outputs", 100)
    blind = await work.examine(opened, own, strict=False, seconds=100)
    assert "adapter_kohya.safetensors" in str(blind.verdict.reasons)
    monkeypatch.setattr(run_results, "layers_in", lambda _: layers_in(folder))
    finding = await work.examine(opened, own, strict=False, seconds=100)
    assert finding.verdict.decision is Decision.PASS, finding.verdict
