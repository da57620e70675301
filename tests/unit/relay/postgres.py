"""A throw-away PostgreSQL server on a Unix socket, when its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def find(program: str) -> str | None:
    """The program on PATH or where Debian puts it; the newest version."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return str(debian[-1]) if debian else shutil.which(program)


def as_server(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root; Debian's package made a user for it."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


def run(command: list[str]) -> None:
    """Run one of the server's programs quietly; it must succeed."""
    subprocess.run(as_server(command), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@contextmanager
def running_postgres(_scratch: Path) -> Iterator[str]:
    """A server's URL; skips the test when there is no server to run."""
    initdb, pg_ctl = find("initdb"), find("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if os.geteuid() == 0 and not _has_user("postgres"):
        pytest.skip("PostgreSQL does not run as root and there is no user 'postgres'")
    # Socket paths are short (107 characters), so this cannot live in pytest's deep folders.
    with tempfile.TemporaryDirectory(prefix="gesso-pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        run([initdb, "-D", str(data), "-U", "gesso", "-A", "trust", "-N"])
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        log = str(folder / "log")
        run([pg_ctl, "-D", str(data), "-o", options, "-l", log, "-w", "start"])
        try:
            yield f"postgresql+asyncpg://gesso@/postgres?host={folder}"
        finally:
            run([pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop"])


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
