"""A picture that was paid for: the committed bytes, checked against the chain, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import png
from gesso.receipt import Receipt
from gesso_protocol.errors import MissingExtra
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import Spec, TrainLora

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

_SAMPLERS = {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M"}


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a task. `data` is exactly what the node committed to; `blob` is its hash."""

    data: bytes = field(repr=False)
    blob: BlobRef
    seed: int
    width: int
    height: int
    spec: Spec
    receipt: Receipt = field(repr=False)

    @property
    def parameters(self) -> str:
        """The settings in the text form that image tools read from the `parameters` field."""
        return parameters_text(self.spec, self.seed)

    def png(self) -> bytes:
        """The picture as a PNG that carries `parameters` and the receipt; the pixels are the committed ones."""
        texts = {"parameters": self.parameters, "gesso": self.receipt.model_dump_json()}
        return png.with_text(self.data, texts)

    def _repr_png_(self) -> bytes:
        """Shown by itself at the end of a notebook's cell."""
        return self.png()

    def save(self, path: str | Path) -> Path:
        """Write the PNG, at once and whole; returns where it is. Makes missing folders."""
        target = Path(path).expanduser().resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_bytes(self.png())
        partial.replace(target)
        return target

    def pil(self) -> PilImage:
        """The picture for Pillow. Raises MissingExtra where Pillow is not installed."""
        import io

        try:
            from PIL import Image as pillow  # noqa: N813 - the module is called Image too
        except ModuleNotFoundError as error:
            raise MissingExtra("pillow", message="Image.pil() needs Pillow, which is not installed") from error
        return pillow.open(io.BytesIO(self.data))


def parameters_text(spec: Spec, seed: int) -> str:
    """Prompt, negative prompt and settings, one line each, as Stable Diffusion tools write them."""
    if isinstance(spec, TrainLora):
        return f"sample of a LoRA training\nSteps: {spec.sample_steps}, Seed: {seed}, Model: {spec.model}"
    settings = {
        "Steps": spec.steps,
        "Sampler": _SAMPLERS.get(spec.scheduler, spec.scheduler),
        "CFG scale": f"{spec.guidance:g}",
        "Seed": seed,
        "Size": f"{spec.width}x{spec.height}",
        "Model": spec.model,
    }
    if spec.model_manifest is not None:
        settings["Model hash"] = str(spec.model_manifest).removeprefix("b3:")[:10]
    lines = [spec.prompt]
    if spec.negative_prompt:
        lines.append(f"Negative prompt: {spec.negative_prompt}")
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(lines)
