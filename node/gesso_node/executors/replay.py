"""Running parts of somebody's task again: the same order of work for every engine, in raw bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gesso_node.executors.port import Replayed, ReplayJob
from gesso_protocol.errors import ModelInvalid


class Steps(Protocol):
    """What an engine can compute of one spec. Bytes are fp32, little-endian; RGB is uint8."""

    def embed(self) -> tuple[bytes, bytes]:
        """Conditional and unconditional embedding of the spec's prompts."""
        ...

    @property
    def embedding_parts(self) -> tuple[int, ...]:
        """See `Replayed`."""
        ...

    def noise(self, image: int) -> bytes: ...

    def step_noises(self, image: int) -> Iterator[bytes]:
        """One a step for ancestral schedulers, none for others."""
        ...

    def predict(self, step: int, latent: bytes) -> tuple[bytes, bytes | None]:
        """Both branches of a step from the latent before it. Raises ModelInvalid for a latent of a wrong size."""
        ...

    def rgb(self, latent: bytes) -> bytes: ...


@dataclass(slots=True)
class ReplayedParts:
    """What was computed so far."""

    embeddings: tuple[bytes, bytes] | None = None
    embedding_parts: tuple[int, ...] = ()
    outputs: dict[tuple[int, int], tuple[bytes, bytes | None]] = field(default_factory=dict)
    noises: dict[int, bytes] = field(default_factory=dict)
    step_noises: dict[tuple[int, int], bytes] = field(default_factory=dict)
    rgb: dict[int, bytes] = field(default_factory=dict)

    def finished(
        self, scheduler_config: dict[str, Any], profile: dict[str, str], begun: float, executor: str
    ) -> Replayed:
        """The answer; `begun` is `time.perf_counter()` of the start."""
        return Replayed(
            outputs=self.outputs,
            embeddings=self.embeddings,
            noises=self.noises,
            step_noises=self.step_noises,
            rgb=self.rgb,
            scheduler_config=scheduler_config,
            profile=profile,
            seconds=time.perf_counter() - begun,
            executor=executor,
            embedding_parts=self.embedding_parts,
        )


def replay_with(job: ReplayJob, steps: Steps) -> ReplayedParts:
    """Everything that `job` asks for. Raises ModelInvalid when it asks for what its spec does not have."""
    _check_places(job)
    parts = ReplayedParts()
    if job.embeddings:
        parts.embeddings, parts.embedding_parts = steps.embed(), steps.embedding_parts
    for image in sorted({*job.images, *(check.image for check in job.checks), *(image for image, _ in job.decode)}):
        parts.noises[image] = steps.noise(image)
        parts.step_noises.update({(image, step): noise for step, noise in enumerate(steps.step_noises(image))})
    for check in job.checks:
        parts.outputs[check.image, check.step] = steps.predict(check.step, check.latent)
    for image, latent in job.decode:
        parts.rgb[image] = steps.rgb(latent)
    return parts


def _check_places(job: ReplayJob) -> None:
    images = (*job.images, *(check.image for check in job.checks), *(image for image, _ in job.decode))
    if any(not 0 <= image < job.spec.count for image in images):
        raise ModelInvalid(f"the task has {job.spec.count} pictures")
    if any(not 0 <= check.step < job.spec.steps for check in job.checks):
        raise ModelInvalid(f"the task has {job.spec.steps} steps")
