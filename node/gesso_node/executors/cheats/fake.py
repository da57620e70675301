"""The fake model as a forger has it: other weights, other prompts."""

from __future__ import annotations

from dataclasses import replace

from gesso_node.executors.cheats import NODE_CHEATS
from gesso_node.executors.cheats.forgeries import known_variant
from gesso_node.executors.fake_model import SCHEDULER_CONFIG, FakeSteps, Weights
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TextToImage

VARIANTS = ("wrong-model", "missing-lora", "feature-reuse", "int8", "int4", *NODE_CHEATS)


class FakeKit:
    """A spec and the fake model of its manifest."""

    scheduler_config = SCHEDULER_CONFIG

    def __init__(self, spec: TextToImage, manifest: BlobRef) -> None:
        self.spec = spec
        self._manifest = manifest

    def steps(
        self, spec: TextToImage | None = None, *, prompt: str | None = None, variant: str | None = None
    ) -> FakeSteps:
        """See `forgeries.Kit`."""
        made = _ReusingSteps if variant == "feature-reuse" else FakeSteps
        return made(spec or self.spec, self._weights(variant), prompt=prompt)

    def _weights(self, variant: str | None) -> Weights:
        weights = Weights.for_task(self._manifest, self.spec)
        if variant is None or known_variant(variant, VARIANTS) in (*NODE_CHEATS, "feature-reuse"):
            return weights
        if variant == "missing-lora":
            return Weights.of(self._manifest)
        if variant == "wrong-model":
            return replace(Weights.of(BlobRef.of(self._manifest.value)), colours=weights.colours)
        return weights.rounded(8 if variant == "int8" else 4)


class _ReusingSteps(FakeSteps):
    """Looks at every second latent only: the deepest layers of so small a model are all of it."""

    _seen = b""

    def predict(self, step: int, latent: bytes) -> tuple[bytes, bytes | None]:
        if step % 2 == 0 or not self._seen:
            self._seen = latent
        return super().predict(step, self._seen)
