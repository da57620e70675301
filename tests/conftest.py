"""Shared by every suite: asyncio is the only event loop outside the libp2p adapter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# importlib mode puts no test folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from costs import Costs
from hostile import FUZZ

# No test judges a duration, hypothesis's own neither: on a busy machine both judge the machine. Examples are the same
# each time, so that what fails is what was changed; scripts/fuzz draws others.
settings.register_profile(
    "gesso",
    deadline=None,
    max_examples=100 * FUZZ,
    derandomize=FUZZ == 1,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gesso")


# A warning is a defect, and so is a session of HTTP that nobody closed (files and pipes of killed children are closed
# by whoever collects them). The last are about other people's code, in versions that we pin.
WARNINGS = (
    "error",
    "ignore::ResourceWarning",
    "error:Unclosed (client|connect):ResourceWarning",
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers",
    "ignore:TF32 acceleration on top of oneDNN is available:UserWarning:torch",
    "ignore:websockets.legacy is deprecated:DeprecationWarning:websockets",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="rank files and tests by the CPU seconds that they cost")
    parser.addoption("--costs-file", type=Path, help="write wall, own and children's seconds of each test there")


def pytest_configure(config: pytest.Config) -> None:
    for line in WARNINGS:
        config.addinivalue_line("filterwarnings", line)
    if config.getoption("costs"):
        config.pluginmanager.register(Costs(config.getoption("costs_file")), "costs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole networks mostly wait and all else computes. Of several workers, each of which begins with an even share of
    the list, every other one begins with networks: so cores are busy from the first second to the last. Files of
    networks stay whole: their tests share one."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    waiting = [item for item in items if "network" in item.path.parts]
    computing = [item for item in items if "network" not in item.path.parts]
    cuts = [_between_files(waiting, len(waiting) * worker // workers) for worker in range(workers + 1)]
    left, ordered = len(items), list[pytest.Item]()
    for worker in range(workers):
        share = left // (workers - worker)
        left -= share
        waits = waiting[cuts[worker] : cuts[worker + 1]]
        computes, computing = computing[: max(0, share - len(waits))], computing[max(0, share - len(waits)) :]
        ordered += waits + computes if worker % 2 else computes + waits
    items[:] = ordered + computing


def _between_files(items: list[pytest.Item], at: int) -> int:
    while 0 < at < len(items) and items[at].path == items[at - 1].path:
        at += 1
    return at


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
