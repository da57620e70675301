"""Shared by every suite: asyncio is the only event loop outside the libp2p adapter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# importlib mode puts no test folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from costs import Costs

# No test judges a duration, hypothesis's own neither: on a busy machine both judge the machine.
settings.register_profile("gesso", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gesso")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="rank files and tests by the CPU seconds that they cost")
    parser.addoption("--costs-file", type=Path, help="write wall, own and children's seconds of each test there")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("costs"):
        config.pluginmanager.register(Costs(config.getoption("costs_file")), "costs")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
