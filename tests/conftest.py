"""Shared by every suite: asyncio is the only event loop outside the libp2p adapter."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No test judges a duration, hypothesis's own neither: on a busy machine both judge the machine.
settings.register_profile("gesso", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gesso")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
