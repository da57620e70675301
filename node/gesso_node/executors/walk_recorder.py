"""Recording a walk: its tensors into the trace, its last latent into a picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image

from gesso_node.executors.engine import EngineJob, finish_picture
from gesso_node.executors.port import ImageFile
from gesso_node.executors.trace import TraceRecorder
from gesso_node.executors.walk import F32, Walk
from gesso_protocol.trace import LeafKind, Slot, TensorType


class WalkRecorder:
    """One job's walk on its way into trace and files; pictures one after the other."""

    def __init__(self, job: EngineJob, walk: Walk, shape: Sequence[int], recorder: TraceRecorder) -> None:
        self.spec = job.spec
        self._job = job
        self._walk = walk
        self._shape = tuple(shape)
        self._recorder = recorder
        self._last: F32 | None = None

    def embeddings(self, shape: Sequence[int]) -> None:
        """Record both text embeddings."""
        for step, data in enumerate(self._walk.embed()):
            self._recorder.tensor(Slot(LeafKind.EMBEDDING, step=step), data, shape)

    def steps(self, image: int) -> Iterator[tuple[int, F32]]:
        """Walk one picture; yields the number of steps done and the latent after them."""
        self._tensor(LeafKind.NOISE, image, 0, self._walk.noise(image))
        for step, done in enumerate(self._walk.latents(image)):
            self._tensor(LeafKind.LATENT, image, step, done.latent)
            self._tensor(LeafKind.COND, image, step, done.cond)
            if done.uncond is not None:
                self._tensor(LeafKind.UNCOND, image, step, done.uncond)
            self._last = done.latent
            yield step + 1, done.latent

    def preview(self, image: int, latent: F32, side_px: int) -> bytes:
        """A small PNG of an unfinished latent."""
        return _png(self._picture(self._walk.rgb(image, latent)).resize((side_px, side_px)))

    def finish(self, engine: str, image: int) -> ImageFile:
        """Decode and write the picture that was walked last."""
        assert self._last is not None
        raw = self._walk.rgb(image, self._last)
        shape = (self.spec.height, self.spec.width, 3)
        self._recorder.tensor(Slot(LeafKind.RGB, image), raw, shape, TensorType.UINT8)
        return finish_picture(self._job, engine, image, _png(self._picture(raw)), self._recorder)

    def _tensor(self, kind: LeafKind, image: int, step: int, data: F32) -> None:
        self._recorder.tensor(Slot(kind, image, step), data.astype("<f4", copy=False).tobytes(), self._shape)

    def _picture(self, raw: bytes) -> Image.Image:
        return Image.frombytes("RGB", (self.spec.width, self.spec.height), raw)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
