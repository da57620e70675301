"""A LoRA that nobody trained: small random changes of the base model's attention, enough to be missed when left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gesso.tensorfile import open_tensors, write_tensors
from gesso_devnet.seed import base_model_folder

RANK = 4
SEED = 11
SIZE = 0.05
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"
MAX_UNET_BYTES = 1 << 30
_QUERY = ".to_q.weight"


def write_stray_lora(path: Path) -> Path:
    """The file at `path`, in diffusers form; for a model without weights one layer of a made-up shape."""
    rng = np.random.default_rng(SEED)
    rows = []
    for module, (outputs, inputs) in _layers().items():
        down, up = (SIZE * rng.standard_normal(shape, np.float32) for shape in ((RANK, inputs), (outputs, RANK)))
        for side, matrix in (("A", down), ("B", up)):
            rows.append((f"unet.{module}.lora_{side}.weight", "F32", matrix.shape, matrix.astype("<f4").tobytes()))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, rows)
    return path


def _layers() -> dict[str, tuple[int, int]]:
    folder = base_model_folder()
    if folder is None:
        return {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8)}
    found = open_tensors(folder / UNET, max_bytes=MAX_UNET_BYTES).tensors
    queries = {name.removesuffix(".weight"): info.shape for name, info in found.items() if name.endswith(_QUERY)}
    return {name: (shape[0], shape[1]) for name, shape in sorted(queries.items()) if len(shape) == 2}
