"""Adapters and checkpoints of strangers: read whole, or refused by a sentence."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import almost, damaged
from hypothesis import given
from hypothesis import strategies as st

from gesso.adapterfile import read_adapter
from gesso.checkpointfile import State, check_state, read_state, write_state
from gesso.tensorfile import open_tensors, write_tensors
from gesso_protocol.errors import ModelInvalid

READERS: tuple[Callable[[Path], object], ...] = (
    lambda path: open_tensors(path, max_bytes=10**6),
    read_adapter,
    read_state,
    lambda path: check_state(path, step=3, rank=2),
)
NAME = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def _adapter(path: Path) -> None:
    rows = [(f"{NAME}.lora_{side}.weight", "F32", shape, bytes(32)) for side, shape in (("A", (2, 4)), ("B", (4, 2)))]
    write_tensors(path, rows, {"gesso.base": "tiny@1", "lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2})})


def _state(path: Path) -> None:
    layers = {f"{NAME}.lora_A.weight": np.ones((2, 4), np.float32)}
    write_state(path, State(3, layers, layers, layers))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module", params=[_adapter, _state], ids=["adapter", "state"])
def good(request: pytest.FixtureRequest, folder: Path) -> bytes:
    request.param(folder / "good.safetensors")
    return (folder / "good.safetensors").read_bytes()


def tried(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for reader in READERS:
        with contextlib.suppress(ModelInvalid):
            reader(path)


def test_what_is_damaged_below_was_good(good: bytes, folder: Path) -> None:
    taken = 0
    (folder / "x.safetensors").write_bytes(good)
    for reader in READERS:
        with contextlib.suppress(ModelInvalid):
            reader(folder / "x.safetensors")
            taken += 1
    assert taken >= 2


@given(data=st.data())
def test_damaged_files(data: st.DataObject, good: bytes, folder: Path) -> None:
    tried(folder / "x.safetensors", data.draw(damaged(good)))


@given(data=st.data())
def test_headers_that_are_almost_right(data: st.DataObject, good: bytes, folder: Path) -> None:
    size = struct.unpack("<Q", good[:8])[0]
    header: dict[str, Any] = data.draw(almost(json.loads(good[8 : 8 + size])))
    text = json.dumps(header).encode()
    tried(folder / "x.safetensors", struct.pack("<Q", len(text)) + text + good[8 + size :])
