"""TCP ports on loopback for processes that are yet to start.

A port that was free a moment ago may be somebody else's when its process has started, and whoever asks there then takes
the stranger for it. So each is held from its choice on: bound and not listened on, it is nobody else's choice, and may
be listened on by whoever says SO_REUSEADDR too, as all servers here do.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gesso_protocol.errors import ChainError

LOOPBACK = "127.0.0.1"
_HOLDS = sys.platform == "linux"
"""Elsewhere a held port could not be listened on, so it is let go at once."""


@contextmanager
def held(count: int) -> Iterator[tuple[int, ...]]:
    """So many free ports, held until the block ends."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(_bound(0)) for _ in range(count)]
        ports = tuple(int(one.getsockname()[1]) for one in sockets)
        if not _HOLDS:
            stack.close()
        yield ports


@contextmanager
def held_for(port: int) -> Iterator[int]:
    """This very port. Raises ChainError where somebody listens on it."""
    try:
        holding = _bound(port)
    except OSError as error:
        raise ChainError(f"port {port} is taken", hint="stop what runs there, or choose another port") from error
    with holding:
        if not _HOLDS:
            holding.close()
        yield port


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LOOPBACK, port))
    except OSError:
        made.close()
        raise
    return made
