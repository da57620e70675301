"""Whole networks in one process. One calm network serves all tests that break nothing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gesso_devnet import Devnet

# Shared steps live beside the tests; importlib mode puts no test folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A network's worth of work on a busy machine takes longer than a unit test may."""
    for item in items:
        if "tests/network" in item.path.as_posix() and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(540))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def net(anyio_backend: str) -> AsyncIterator[Devnet]:
    async with Devnet.open(nodes=3, audit_rate=0) as opened:  # who is audited would be chance
        yield opened
