"""drand's clock and the form of its signatures; tests/vectors/drand.py checks the published rounds by pairing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol import drand
from gesso_protocol.errors import EncodingInvalid

VECTORS = Path(__file__).parents[2] / "vectors"
ROUNDS = json.loads((VECTORS / "drand.json").read_text())
SIGNATURES = [bytes.fromhex(text[2:]) for text in ROUNDS["signature"]]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    pytest.importorskip("py_ecc", reason="py-evm brings it")
    spec = importlib.util.spec_from_file_location("drand_vectors", VECTORS / "drand.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_published_rounds() -> None:
    for signature, point, seed in zip(SIGNATURES, ROUNDS["point"], ROUNDS["randomness"], strict=True):
        assert "0x" + drand.uncompress(signature).hex() == point
        assert "0x" + drand.seed_of(signature).hex() == seed


def test_vectors_are_what_another_implementation_of_the_curve_accepts(generator: ModuleType) -> None:
    assert generator.main(["--check"]) == 0


def test_a_wrong_digit_cannot_enter_the_vectors(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "ROUNDS", {1001: generator.ROUNDS[1000]})
    with pytest.raises(ValueError, match="not signed"):
        generator.published()


@given(st.integers(drand.GENESIS, 2**40), st.integers(0, 3600))
def test_a_round_is_public_before_the_next_begins(time_s: int, lag_s: int) -> None:
    number = drand.round_at(time_s, lag_s)
    assert drand.published_at(number) - lag_s <= time_s < drand.published_at(number + 1) - lag_s


def test_no_round_before_the_first() -> None:
    assert drand.round_at(drand.GENESIS - 1) == 0
    assert drand.round_at(drand.GENESIS) == 1
    assert drand.round_at(0) == 0


def test_the_other_sign_gives_the_other_point() -> None:
    signature = SIGNATURES[0]
    other = drand.uncompress(bytes([signature[0] ^ 0x20]) + signature[1:])
    point = drand.uncompress(signature)
    assert other[:48] == point[:48]
    assert int.from_bytes(other[48:], "big") + int.from_bytes(point[48:], "big") == drand.FIELD


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        SIGNATURES[0][:-1],
        SIGNATURES[0] + b"\0",
        bytes([SIGNATURES[0][0] & 0x7F]) + SIGNATURES[0][1:],
        bytes([0xC0]) + bytes(47),
        bytes([0x80]) + bytes(46) + b"\x01",
        bytes([0x80 | (drand.FIELD >> 376)]) + drand.FIELD.to_bytes(48, "big")[1:],
    ],
)
def test_what_is_no_signature_is_refused(wrong: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        drand.uncompress(wrong)


@given(st.binary(min_size=48, max_size=48))
def test_any_bytes_give_a_point_of_the_curve_or_an_error(data: bytes) -> None:
    try:
        point = drand.uncompress(data)
    except EncodingInvalid:
        return
    x, y = int.from_bytes(point[:48], "big"), int.from_bytes(point[48:], "big")
    assert max(x, y) < drand.FIELD
    assert (y * y - x**3 - 4) % drand.FIELD == 0
