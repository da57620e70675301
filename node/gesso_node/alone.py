"""One process a wallet and a folder: two nodes of one wallet seal twice, and each claims what the other works on."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gesso_node.settings import NodeSettings
from gesso_protocol.errors import ConfigError


@contextmanager
def alone(settings: NodeSettings) -> Iterator[None]:
    """Raises ConfigError where another process runs with this folder or this wallet. Whoever dies gives both back."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_held(settings.data_dir, "the folder"))
        if settings.wallet is not None and settings.wallet.keystore.is_file():
            stack.enter_context(_held(settings.wallet.keystore, "the wallet"))
        yield


@contextmanager
def _held(path: Path, what: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = (
                "it may be running already: gesso node status; a second node has a wallet of its own: gesso node init"
            )
            raise ConfigError(f"another process runs a node with {what} {path}", hint=hint) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # file systems without locks have none to ask for
                raise
        yield
    finally:
        os.close(descriptor)
