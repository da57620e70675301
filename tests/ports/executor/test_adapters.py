"""LoRAs beside a warm pipeline: to the bit what the library draws, and the base is never touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peft")

import torch

from gesso.tensorfile import write_tensors
from gesso_node.executors.diffusers import DiffusersEngine
from gesso_node.executors.lora.use import AdapterSet
from gesso_node.executors.sample import write_sample_pipeline
from gesso_protocol.errors import ModelInvalid


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_sample_pipeline(tmp_path_factory.mktemp("model") / "sample")


def pipeline(model: Path, dtype: str = "fp32") -> Any:
    return DiffusersEngine()._pipeline(model, dtype).pipeline


def shapes(pipe: Any) -> dict[str, torch.Size]:
    """Attention and convolutions of the UNet and attention of the text encoder, as files name them."""
    return {
        f"{part}.{name}": module.weight.shape
        for part in ("unet", "text_encoder")
        for name, module in getattr(pipe, part).named_modules()
        if name.endswith(("to_q", "to_v", "conv1", "downsamplers.0.conv", "q_proj"))
    }


def write(folder: Path, layers: dict[str, torch.Size], seed: int, rank: int = 3, poison: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    rows: list[Any] = []
    for name, (outer, *inner) in layers.items():
        for side, shape in (("A", (rank, *inner)), ("B", (outer, rank, *(1 for _ in inner[1:])))):
            array = rng.standard_normal(shape).astype("<f4")
            rows.append((f"{name}.lora_{side}.weight", "F32", shape, array.tobytes()))
    if poison:
        name, dtype, shape, data = rows[-1]
        rows[-1] = (name, dtype, shape, data[:-4] + np.float32("nan").tobytes())
    folder.mkdir()
    write_tensors(folder / "adapter.safetensors", rows, {})
    return folder


def put(adapters: AdapterSet, files: Sequence[Path]) -> None:
    for file in files:
        with adapters.applied([(file, 0.7)]):
            pass


def output(pipe: Any) -> torch.Tensor:
    """What the UNet makes of words that the text encoder has read."""
    kind = pipe.unet.dtype
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(0)).to(kind)
    with torch.no_grad():
        words = pipe.text_encoder(torch.arange(8)[None])[0].to(kind)
        made: torch.Tensor = pipe.unet(noise, 10, words, return_dict=False)[0]
    return made


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")  # the library's own way
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_several_on_a_warm_pipeline_are_to_the_bit_what_the_library_makes_of_them(
    dtype: str, model: Path, tmp_path: Path
) -> None:
    warm, library = pipeline(model, dtype), pipeline(model, dtype)
    layers, plain = shapes(warm), output(warm)
    files = [write(tmp_path / str(seed), layers, seed) for seed in range(6)]
    adapters = AdapterSet(warm, keep=2)
    put(adapters, files)
    for file in files[-2:]:
        library.load_lora_weights(str(file), weight_name="adapter.safetensors", adapter_name=file.name)
    library.set_adapters([file.name for file in files[-2:]], [0.7, -0.3])
    with adapters.applied([(files[-2], 0.7), (files[-1], -0.3)]):
        shown = output(warm)
        assert torch.equal(shown, output(library))
        assert not torch.equal(shown, plain)
    assert torch.equal(output(warm), plain)


def test_the_base_keeps_its_modules_and_the_numbers_in_them(model: Path, tmp_path: Path) -> None:
    pipe = pipeline(model)
    before = {name: (module, dict(module._forward_hooks)) for name, module in pipe.unet.named_modules()}
    weights = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    adapters = AdapterSet(pipe)
    file = write(tmp_path / "lora", shapes(pipe), 1)
    with pytest.raises(RuntimeError), adapters.applied([(file, 1.0)]):
        raise RuntimeError("in the middle of a picture")
    assert {name: (module, dict(module._forward_hooks)) for name, module in pipe.unet.named_modules()} == before
    assert all(torch.equal(value, weights[name]) for name, value in pipe.unet.state_dict().items())


def test_those_at_hand_are_read_once_whatever_their_form(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(model)
    layers = shapes(pipe)
    adapters = AdapterSet(pipe, keep=3)
    first, second = (write(tmp_path / str(seed), layers, seed) for seed in range(2))
    thin = write(tmp_path / "thin", layers, 2, rank=2)
    few = write(tmp_path / "few", dict(list(layers.items())[:3]), 3)
    put(adapters, [first, second, thin, few])
    assert adapters.kept == (second, thin, few)
    read: list[Path] = []
    ours = adapters._read
    monkeypatch.setattr(adapters, "_read", lambda path: (read.append(path), ours(path))[1])
    put(adapters, [second, few, first, second])
    assert read == [first]
    assert adapters.kept == (few, first, second)


def test_a_task_may_use_more_than_are_kept(model: Path, tmp_path: Path) -> None:
    pipe = pipeline(model)
    adapters = AdapterSet(pipe, keep=2)
    files = [write(tmp_path / str(seed), shapes(pipe), seed) for seed in range(3)]
    with adapters.applied([(file, 0.5) for file in files]):
        assert adapters.kept == tuple(files)


def test_a_refused_file_takes_nobodys_place(model: Path, tmp_path: Path) -> None:
    pipe = pipeline(model)
    layers, plain = shapes(pipe), output(pipe)
    adapters = AdapterSet(pipe, keep=2)
    files = [write(tmp_path / str(seed), layers, seed) for seed in range(2)]
    put(adapters, files)
    bad = write(tmp_path / "bad", layers, 3, poison=True)
    with pytest.raises(ModelInvalid, match="not numbers"), adapters.applied([(files[0], 1.0), (bad, 1.0)]):
        pass
    assert set(adapters.kept) == set(files)
    assert torch.equal(output(pipe), plain)
