"""How a child process is run: its limits, and the whole of its environment, built from an allow-list."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
    "PYTHONPATH",
)
"""The only variables of ours that a child sees; keys and passwords are in none of them."""

FIXED = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class ChildSettings(BaseModel):
    """How children are run. Times in seconds, memory in bytes (0: no limit of ours)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_s: float = Field(default=120.0, gt=0)
    stall_s: float = Field(default=300.0, gt=0)
    """No line for this long means that the child hangs; loading a model counts as silence."""
    memory_limit_bytes: int = Field(default=0, ge=0)
    cancel_s: float = Field(default=3.0, gt=0)
    """How long a child may take to stop a job that is not wanted any more, before it is killed."""
    max_warm: int = Field(default=1, ge=1, le=16)
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of a child; 0: as many as there are cores, or as `OMP_NUM_THREADS` says."""
    wait: Literal["passive", "active"] = "passive"
    """How a child's threads wait for each other. Active ones spin: a quarter faster where nothing else wants a core,
    and two to thirteen times slower where something does, as others spin for the thread that has none."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the engine as they are (see `FakeFaults`, `DiffusersOptions`)."""


def child_environment(
    home: Path, ours: Mapping[str, str] | None = None, settings: ChildSettings | None = None
) -> dict[str, str]:
    """The whole environment of a child. `home` keeps libraries from reading or writing the operator's own caches."""
    ours = os.environ if ours is None else ours
    settings = settings or ChildSettings()
    kept = {name: ours[name] for name in PASSED_ON if name in ours}
    places = {"HOME": home, "HF_HOME": home / "hf", "XDG_CACHE_HOME": home / "cache"}
    places["TORCHINDUCTOR_CACHE_DIR"] = home / "cache" / "inductor"  # else it leaves a folder where temporary files go
    return {**kept, **FIXED, **_threads(settings), **{name: str(place) for name, place in places.items()}}


def _threads(settings: ChildSettings) -> dict[str, str]:
    """For GNU's and Intel's OpenMP; what a process started with is all that they heed."""
    count = {"OMP_NUM_THREADS": str(settings.threads)} if settings.threads else {}
    if settings.wait == "active":
        return count  # a few milliseconds of it are their own choice; to be told so means for ever
    return {**count, "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
