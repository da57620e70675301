"""Shared by every suite: asyncio is the only event loop outside the libp2p adapter."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
