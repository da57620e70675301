"""What a full disk is called, by everything that writes blobs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from gesso_protocol.errors import DiskFull


@contextmanager
def disk_room() -> Iterator[None]:
    """That this machine's disk is full is an error with a name, wherever it is noticed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"this disk has no room left ({error.strerror})") from error
        raise
