"""Trainings of the shipped model on a GPU: bits, speed, segments audited across machines, and what cheats differ by."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _training import concept_data, inputs_for
from gesso.checkpointfile import read_state
from gesso_devnet import model
from gesso_node.executors.lora.cheats import TRAINING_CHEATS, cheating
from gesso_node.executors.lora.port import SegmentJob, TrainingInputs
from gesso_node.executors.lora.run import retrain, train
from gesso_node.executors.lora.runfolder import ADAPTER_FOLDER, checkpoint_file, read_losses
from gesso_protocol.audit.projection import differ
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.training.audit import SegmentReport, fingerprint, judge_segment
from gesso_protocol.training.trace import segments
from gpu.common import Here, Section, median, switched, wait

CHALLENGE = bytes(range(32))
TASK = "0x" + "00" * 32
NONE: dict[str, bool] = {}
ON_GPU = ("base-int8", "higher-rate", "skipped-steps", "half-batch", "zeroed-moments", "rescaled-adapter")


def main(section: Section) -> None:
    with tempfile.TemporaryDirectory(prefix="gesso-gpu-") as name:
        folder = Path(name)
        data = concept_data(folder / "data", "shape")
        segment = 3 if section.quick else 20

        def inputs(**changes: Any) -> TrainingInputs:
            fields = {"steps": 2 * segment, "checkpoint_every": segment, "batch": 2 if section.quick else 8}
            return inputs_for(folder / "data", data, **fields, **changes)

        bench = Bench(section, folder)
        kinds: dict[str, dict[str, Any]] = {
            "all layers, text encoder": {
                "targets": ("attention", "convolution", "feed_forward", "projection"),
                "text_encoder": True,
                "text_learning_rate_nano": 1_000_000,
            },
            "bf16": {"dtype": "bf16"},
        }
        with section.tried("plain"):
            bench.honest("plain", inputs())
        for cheat in [name for name in TRAINING_CHEATS if name in ON_GPU][: 2 if section.quick else None]:
            with section.tried(cheat):
                bench.cheat(f"cheat {cheat}", inputs(), cheat=cheat)
        if section.device == "cuda":
            with section.tried("TF32"):
                bench.cheat("trap TF32", inputs(), flags={"tf32_products": True, "tf32_convolutions": True})
        for kind, changes in kinds.items():
            with section.tried(kind):
                bench.honest(kind, inputs(**changes))


class Bench:
    """Trains here and there, and has each run's second segment done again elsewhere."""

    def __init__(self, section: Section, folder: Path) -> None:
        self._section = section
        self._folder = folder

    def honest(self, kind: str, inputs: TrainingInputs) -> None:
        """One run on both machines, each audited on both, by plain kernels and by strict ones."""
        section, device = self._section, self._section.device
        gpu, again, cpu = (self._folder / f"{kind} {who}" for who in ("gpu", "again", "cpu"))
        seconds = self._made(inputs, gpu, device)
        with section.tried(f"{kind}: bits"):
            self._made(inputs, again, device)
            same = (read_bytes(gpu, 2) == read_bytes(again, 2), self._exact(inputs, kind))
            section.add(what=f"{kind}: same bits twice", as_shipped=same[0], strictly_deterministic=same[1])
        cpu_seconds = self._made(inputs, cpu, "cpu")
        section.add(what=f"{kind}: time", gpu_ms_an_update=1000 * seconds, cpu_ms_an_update=1000 * cpu_seconds)
        for who, run, auditor, strict in (
            ("gpu run on cpu", gpu, "cpu", False), ("gpu run on gpu", gpu, device, False),
            ("cpu run on gpu", cpu, device, False), ("gpu run, strict cpu juror", gpu, "cpu", True),
            ("cpu run, strict gpu juror", cpu, device, True),
        ):  # fmt: skip
            with section.tried(f"{kind}: {who}"):
                self._report(f"{kind}: {who}", *self._again(inputs, run, auditor, strict=strict))
        with section.tried(f"{kind}: drawn with it"):
            self._drawn(kind, gpu)

    def cheat(
        self, what: str, inputs: TrainingInputs, *, cheat: str = "", flags: dict[str, bool] | None = None
    ) -> None:
        """A run on the GPU that is not what was ordered, done again on the CPU."""
        run = self._folder / what
        self._made(inputs, run, self._section.device, cheat or None, flags or {})
        self._report(what, *self._again(inputs, run, "cpu"))

    def _made(
        self, inputs: TrainingInputs, out: Path, device: str, cheat: str | None = None, flags: dict[str, bool] = NONE
    ) -> float:
        """Train; median seconds of an update."""
        here = Here(device)
        trainer = cheating(cheat, here.engine.trainer(inputs))
        times = [time.perf_counter()]
        try:
            with switched(**flags):
                train(trainer, inputs, out, TASK, lambda _: times.append(time.perf_counter()))
        finally:
            trainer.close()
        return median(np.diff(times).tolist())

    def _exact(self, inputs: TrainingInputs, kind: str) -> str:
        """Whether two runs agree where torch may use deterministic kernels only, and what that costs or breaks."""
        states = []
        for at in range(2):
            here = Here(self._section.device)  # settles the arithmetic its own way
            torch.use_deterministic_algorithms(True, warn_only=False)
            trainer = here.engine.trainer(inputs)
            begun = time.perf_counter()
            try:
                train(trainer, inputs, self._folder / f"{kind} exact {at}", TASK, lambda _: None)
            except RuntimeError as error:
                return f"{type(error).__name__}: {str(error)[:160]}"
            finally:
                torch.use_deterministic_algorithms(True, warn_only=True)
                trainer.close()
            states.append(read_bytes(self._folder / f"{kind} exact {at}", 2))
        return f"{states[0] == states[1]}, {(time.perf_counter() - begun) / inputs.spec.steps * 1000:.1f} ms an update"

    def _again(
        self, inputs: TrainingInputs, run: Path, device: str, *, strict: bool = False
    ) -> tuple[SegmentReport, float, float]:
        """The second segment again: errors, how far the fingerprints lie apart, and seconds."""
        here = Here(device, threads=2 if device == "cpu" else 0)
        one, state = segments(inputs.spec)[1], checkpoint_file(run, 1)
        with here.engine.computing(strict=strict):
            trainer = here.engine.trainer(inputs, strict=strict)
            begun = time.perf_counter()
            try:
                path, losses = retrain(trainer, SegmentJob(inputs, one, state), self._folder / "re-run")
            finally:
                trainer.close()
        wait(self._section.device)
        seconds = time.perf_counter() - begun
        start, theirs, ours = read_state(state).weights, read_state(checkpoint_file(run, 2)), read_state(path)
        seals = [fingerprint(CHALLENGE, inputs.spec, [(start, end)]) for end in (ours.weights, theirs.weights)]
        report = judge_segment(inputs.spec, one, start, theirs, ours, read_losses(run, one), losses)
        return report, differ(*seals) / AuditRules().projection_tolerance, seconds

    def _report(self, what: str, found: SegmentReport, apart: float, seconds: float) -> None:
        self._section.add(what=what, error=found.error, moments=found.moments_error, losses=found.loss_error,
                          limit=found.limit, verdict=found.verdict.value, seal_of_tolerance=apart,
                          seconds=seconds)  # fmt: skip

    def _drawn(self, kind: str, run: Path) -> None:
        """The exported LoRA on both machines: does it change the picture, and the same way?"""
        from gesso_node.executors.lora.use import AdapterSet

        latent = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(3))
        outputs = {}
        for device in dict.fromkeys(("cpu", self._section.device)):
            pipe = Here(device).engine._pipeline(model.path(), "fp32").pipeline
            words = pipe.encode_prompt("a star", pipe.device, 1, False)[0]
            adapters = AdapterSet(pipe)
            call: Callable[[], Any] = lambda pipe=pipe, words=words: pipe.unet(  # noqa: E731 - typed
                latent.to(pipe.device), 500, encoder_hidden_states=words, return_dict=False
            )[0].cpu()  # fmt: skip
            with torch.inference_mode():
                bare = call()
                with adapters.applied([(run / ADAPTER_FOLDER, 1.0)]):
                    outputs[device] = call(), bare
        (one, bare), (other, _) = outputs["cpu"], outputs[self._section.device]
        self._section.add(what=f"{kind}: the LoRA drawn with", changes=float((one - bare).norm() / bare.norm()),
                          cpu_to_gpu=float((one - other).norm() / one.norm()))  # fmt: skip


def read_bytes(run: Path, number: int) -> bytes:
    return checkpoint_file(run, number).read_bytes()
