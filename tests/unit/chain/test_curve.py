"""Dear precompiles of the embedded chain are computed once: a memory must not change what they give or cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from eth.abc import ComputationAPI

from gesso_devnet.chain import curve


class Meter:
    """As much of a computation as a precompile touches."""

    def __init__(self, data: bytes, gas: int = 1000) -> None:
        self.msg = SimpleNamespace(data=data)
        self.gas = gas
        self.output = b""

    def consume_gas(self, amount: int, reason: str) -> None:
        if amount > self.gas:
            raise ValueError(f"out of gas: {reason}")
        self.gas -= amount

    def get_gas_remaining(self) -> int:
        return self.gas


class Doubling:
    """A precompile that costs a unit of gas a byte and refuses zeros."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, computation: Any) -> Any:
        self.runs += 1
        computation.consume_gas(len(computation.msg.data), reason="bytes")
        if 0 in computation.msg.data:
            raise ValueError("no such point")
        computation.output = computation.msg.data * 2
        return computation


def ran(precompile: curve.Precompile, meter: Meter) -> tuple[bytes, int]:
    precompile(cast(ComputationAPI, meter))
    return meter.output, meter.gas


def test_the_second_run_gives_and_costs_what_the_first_did() -> None:
    dear = Doubling()
    cheap = curve.remembered(dear)
    assert ran(cheap, Meter(b"abc")) == ran(cheap, Meter(b"abc")) == (b"abcabc", 997)
    assert ran(cheap, Meter(b"abcd", gas=4)) == (b"abcdabcd", 0)
    assert dear.runs == 2


def test_too_little_gas_is_too_little_for_what_is_known_too() -> None:
    cheap = curve.remembered(Doubling())
    ran(cheap, Meter(b"abc"))
    with pytest.raises(ValueError, match="out of gas"):
        ran(cheap, Meter(b"abc", gas=2))


def test_failures_are_not_remembered() -> None:
    dear = Doubling()
    cheap = curve.remembered(dear)
    for _ in range(2):
        with pytest.raises(ValueError, match="no such point"):
            ran(cheap, Meter(b"a\0"))
    assert dear.runs == 2


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "MAX_REMEMBERED", 2)
    dear = Doubling()
    cheap = curve.remembered(dear)
    for data in (b"a", b"b", b"c", b"c", b"a"):
        ran(cheap, Meter(data))
    assert dear.runs == 4
