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

LOCK_FILE = "node.lock"
_WITHOUT_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
"""What file systems say that have no locks to give, or none for files that are opened to read only (NFS)."""


@contextmanager
def alone(settings: NodeSettings) -> Iterator[None]:
    """Raises ConfigError where another process runs with this folder or this wallet. Whoever dies gives both back."""
    with ExitStack() as stack:
        stack.enter_context(_held(_lock_file(settings.data_dir), f"the folder {settings.data_dir}"))
        wallet = None if settings.wallet is None else settings.wallet.keystore
        descriptor = None if wallet is None else _keystore(wallet)
        if descriptor is not None:
            stack.enter_context(_held(descriptor, f"the wallet {wallet}"))
        yield


def _lock_file(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        hint = "free some space, or choose another data_dir that this account may write to"
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", hint=hint) from error


def _keystore(path: Path) -> int | None:
    """None for one that cannot be opened: what is wrong with it is said when it is unlocked."""
    for mode in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(path, mode)
        except OSError:
            continue
    return None


@contextmanager
def _held(descriptor: int, what: str) -> Iterator[None]:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = (
                "it may be running already: gesso node status; a second node has a wallet of its own: gesso node init"
            )
            raise ConfigError(f"another process runs a node with {what}", hint=hint) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise ConfigError(f"{what} cannot be locked: {error.strerror}", hint="is its disk in order?") from error
        yield
    finally:
        os.close(descriptor)
