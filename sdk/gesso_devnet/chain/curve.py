"""py-evm's rules with a memory for pairings: it computes them in Python, a second each, and a proof of drand's is
called, estimated and mined by several nodes with the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from eth._utils.address import force_bytes_to_address
from eth.abc import ComputationAPI
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.constants import (
    BLS12_MAP_FP_TO_G1_PRECOMPILE_ADDRESS,
    BLS12_PAIRING_CHECK_PRECOMPILE_ADDRESS,
)
from eth.vm.forks.prague.state import PragueState

MAX_REMEMBERED = 256
Precompile = Callable[[ComputationAPI], Any]


def remembered(precompile: Precompile) -> Precompile:
    """The same function of its input, computed once: same output, same gas. Failures are computed again."""
    known: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def run(computation: Any) -> Any:
        data = bytes(computation.msg.data)
        if data in known:
            gas, computation.output = known[data]
            computation.consume_gas(gas, reason="a precompile that was run before")
            return computation
        before = computation.get_gas_remaining()
        precompile(computation)
        known[data] = (before - computation.get_gas_remaining(), bytes(computation.output))
        if len(known) > MAX_REMEMBERED:
            known.popitem(last=False)
        return computation

    return run


_DEAR = [
    force_bytes_to_address(address)
    for address in (BLS12_PAIRING_CHECK_PRECOMPILE_ADDRESS, BLS12_MAP_FP_TO_G1_PRECOMPILE_ADDRESS)
]


class Computation(PragueComputation):
    """Prague's, where dear precompiles remember."""

    _precompiles = PragueComputation.get_precompiles() | {
        address: remembered(PragueComputation.get_precompiles()[address]) for address in _DEAR
    }


class CurveState(PragueState):
    """Prague's state with that computation."""

    computation_class = Computation
