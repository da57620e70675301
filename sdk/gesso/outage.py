"""Waiting through an outage of the chain: it is said once, and only a long one is an error."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gesso_protocol.errors import ChainError, ChainReverted, InsufficientFunds, Unreachable

PATIENCE_S = 300.0
_log = logging.getLogger(__name__)


class Outage:
    """Of one waiter. What is tried again and again anyway goes inside `borne`."""

    def __init__(self) -> None:
        self._since: float | None = None

    @contextmanager
    def borne(self) -> Iterator[None]:
        """Pass over a chain that does not answer, or takes nothing from us, for PATIENCE_S at a stretch. A contract
        that says no is an answer."""
        try:
            yield
        except ChainReverted:
            raise
        except (Unreachable, ChainError, InsufficientFunds) as error:
            now = time.monotonic()
            if self._since is None:
                self._since = now
                _log.warning("waiting goes on: %s", error.message)
            elif now - self._since > PATIENCE_S:
                raise
        else:
            self._since = None
