"""The short way into the library computes what its documented interface computes, and is not needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from Crypto.Hash import keccak as crypto

from gesso_protocol import keccak
from gesso_protocol.hashing import keccak256

EMPTY = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
SIZES = (0, 1, 20, 68, 135, 136, 137, 272, 4096)


def test_the_empty_input_has_ethereums_hash() -> None:
    assert keccak256(b"").hex() == EMPTY
    assert keccak.public(b"").hex() == EMPTY


@pytest.mark.parametrize("size", SIZES)
def test_both_ways_agree(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert keccak.direct()(data) == keccak.public(data)
    assert keccak256(bytearray(data)) == keccak256(data)  # type: ignore[arg-type]


def test_threads_do_not_disturb_each_other() -> None:
    inputs = [number.to_bytes(68, "big") for number in range(500)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(keccak.direct(), inputs)) == list(map(keccak.public, inputs))


@pytest.mark.parametrize("layout", [None, object()], ids=["gone", "another"])
def test_another_layout_of_the_library_is_survived(layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "_raw_keccak_lib", layout)
    assert keccak.fastest() is keccak.public


def test_a_library_that_computes_something_else_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keccak, "_PADDING", 6)
    assert keccak.fastest() is keccak.public
