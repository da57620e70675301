"""The machine under the real engine: its device, its arithmetic, its memory, and previews that nobody waits for."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("diffusers")

import torch

from gesso_node.executors import machine, preview
from gesso_node.executors.diffusers import DiffusersEngine, DiffusersOptions
from gesso_node.executors.environment import child_environment
from gesso_node.executors.machine import chosen_device, family_of, settle_arithmetic
from gesso_node.executors.preview import Previewer
from gesso_protocol.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")
CUDA = torch.device("cuda")


def test_a_model_leaves_its_memory_when_another_one_comes(sample_model: Path) -> None:
    """A strict pipeline refers to itself, so its last reference is not its end; and the next one needs the room."""
    engine = DiffusersEngine(DiffusersOptions(device="cpu", threads=1))
    first = weakref.ref(engine._pipeline(sample_model, "fp32", strict=True).pipeline.unet)
    second = engine._pipeline(sample_model, "fp32").pipeline.unet
    assert first() is None
    assert second is engine._pipeline(sample_model, "fp32").pipeline.unet


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="finds none"):
        chosen_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("auto") == chosen_device("cuda") == CUDA


def test_an_amd_gpu_is_no_nvidia_gpu_of_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    assert family_of(CUDA) == "cuda-sm90"
    amd = SimpleNamespace(gcnArchName="gfx90a:sramecc+:xnack-")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: amd)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert family_of(CUDA) == "rocm-gfx90a"


def test_arithmetic_is_exact_whatever_was_set_before() -> None:
    settle_arithmetic()
    product, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    product.allow_tf32 = convolution.allow_tf32 = convolution.benchmark = True
    product.allow_fp16_reduced_precision_reduction = product.allow_bf16_reduced_precision_reduction = True
    settle_arithmetic()
    loose = [product.allow_tf32, convolution.allow_tf32, convolution.benchmark]
    loose += [product.allow_fp16_reduced_precision_reduction, product.allow_bf16_reduced_precision_reduction]
    assert loose == [False] * 5
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_memory_of_a_gpu_goes_back_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = list[bool]()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    machine.give_back_memory(torch.device("cpu"))
    assert emptied == []
    machine.give_back_memory(CUDA)
    assert emptied == [True]


def test_a_child_sees_the_gpus_that_its_node_was_given(tmp_path: Path) -> None:
    ours = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0", "SECRET": "x"}
    seen = child_environment(tmp_path, ours)
    assert {name: seen.get(name) for name in ours} == {**ours, "SECRET": None}


class Slow:
    """A GPU that takes its time: pixels arrive when the test says so."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, pixels: torch.Tensor) -> Any:
        return pixels, lambda: self.done


def previewer() -> Previewer:
    made = Previewer(None, torch.eye(4)[:, :3], False)
    made.begin()
    return made


def test_a_preview_comes_when_the_gpu_is_there_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, made = Slow(), previewer()
    monkeypatch.setattr(preview, "_on_its_way", gpu)
    red, blue = (torch.full((1, 4, 8, 8), -1.0) for _ in range(2))
    red[:, 0], blue[:, 2] = 1.0, 1.0
    assert made.take(red) is None
    assert made.take(blue) is None
    gpu.done = True
    picture = made.take(blue)
    assert picture is not None
    assert colour(picture) == "red"


def test_what_was_on_its_way_is_not_the_next_picture_s(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, made = Slow(), previewer()
    monkeypatch.setattr(preview, "_on_its_way", gpu)
    red, blue = (torch.full((1, 4, 8, 8), -1.0) for _ in range(2))
    red[:, 0], blue[:, 2] = 1.0, 1.0
    assert made.take(red) is None
    made.begin()
    gpu.done = True
    picture = made.take(blue)
    assert picture is not None
    assert colour(picture) == "blue"


def colour(picture: bytes) -> str:
    import io

    from PIL import Image

    pixel: Any = Image.open(io.BytesIO(picture)).convert("RGB").getpixel((4, 4))
    return ("red", "green", "blue")[pixel.index(max(pixel))]
