"""The device that an engine computes on: which one, how exactly, what kind it is, and its memory back in the end.

Imported in the child only.
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gesso_node.executors.profiles import device_family
from gesso_protocol.errors import ConfigError


def chosen_device(wanted: str) -> torch.device:
    """`cpu`, `cuda`, or `auto` for a GPU where torch finds one. Raises ConfigError for a GPU that is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"the executor is to use a GPU, and torch {torch.__version__} finds none",
            hint="install a build of torch for this GPU and its driver, or set executor.child.options.device to cpu",
        )
    return torch.device(wanted)


def settle_arithmetic() -> None:
    """The same bits from the same machine, and fp32 that is fp32 (TF32 is as coarse as fp16)."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else every fresh tensor is filled with NaN before it is written: one more kernel each, for programs with bugs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's stubs lack it
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    # Sums of long products stay in fp32 to their end, also where they are made in parts.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def family_of(device: torch.device) -> str:
    """The device family of the profile key, as in `cuda-sm90`."""
    if device.type == "cpu":
        return device_family("cpu")
    if torch.version.hip:
        # Torch calls AMD's devices cuda too, and one of them 9.0 like Nvidia's Hopper: their numbers differ.
        architecture = torch.cuda.get_device_properties(device).gcnArchName
        return device_family("rocm", name=architecture.partition(":")[0])
    return device_family(device.type, torch.cuda.get_device_capability(device))


def device_name(device: torch.device) -> str:
    """For people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def give_back_memory(device: torch.device) -> None:
    """After the last reference to a model is gone. Replaced methods and hooks of a pipeline refer to it in circles, so
    without this its memory on a GPU stays taken until Python happens to look."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Strict replays add up in one order."""
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
