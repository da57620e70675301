"""Embedded chains out of one process that has py-evm loaded: loading it takes a second of a core, forking it nothing.

Each process that starts chains has a nursery of its own from the first one on. Its standard input is its leash: it ends
with whoever started it, however that ends, and its chains end with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from gesso_protocol.errors import ChainError

STOP_TIMEOUT_S = 5.0
_POLL_S = 0.01


class Nursery:
    """The starter's side. Blocks for as long as a fork takes, or an end: call it from a thread where that matters."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str], log: Path | None) -> int:
        """A new chain with the arguments of `gesso_devnet.chain.embedded`: its process id."""
        return int(self._ask({"start": list(arguments), "log": None if log is None else str(log.absolute())}))

    def alive(self, pid: int) -> bool:
        """Whether that chain runs."""
        return bool(self._ask({"alive": pid}))

    def stop(self, pid: int) -> None:
        """Returns when it is gone."""
        self._ask({"stop": pid})

    def close(self) -> None:
        """Ends it and all of its chains, as the end of this process does by itself."""
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        if self._process is not None:
            with suppress(BrokenPipeError), self._process:  # closes both pipes, which it ends with, and waits for it
                pass
            self._process = None

    def _ask(self, order: dict[str, Any]) -> Any:
        with self._lock:
            if self._process is None:
                command = [sys.executable, "-m", "gesso_devnet.chain.nursery"]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
                return json.loads(self._process.stdout.readline())
            except (OSError, ValueError) as error:
                self._process.kill()
                self._leave()
                raise ChainError("the process that starts local chains is gone") from error


class _Chains:
    """The nursery's side: its chains, and the ends of the pipes that they are leashed by."""

    def __init__(self) -> None:
        self._leashes: dict[int, int] = {}

    def answer(self, order: dict[str, Any]) -> Any:
        if "start" in order:
            return self._fork(order["start"], order["log"] or os.devnull)
        if "alive" in order:
            return self._lives(order["alive"])
        return self._end(order["stop"])

    def _fork(self, arguments: list[str], log: str) -> int:
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid == 0:
            for leash in (*self._leashes.values(), ours):
                os.close(leash)
            _become_chain(arguments, log, theirs)
        os.close(theirs)
        self._leashes[pid] = ours
        return pid

    def _lives(self, pid: int) -> bool:
        if pid in self._leashes and os.waitpid(pid, os.WNOHANG) != (0, 0):
            os.close(self._leashes.pop(pid))
        return pid in self._leashes

    def _end(self, pid: int) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        wish = signal.SIGTERM
        while self._lives(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, wish)
            if time.monotonic() > deadline:
                wish = signal.SIGKILL
            time.sleep(_POLL_S)  # waitpid has no time-out, and one thread alone may fork


def _become_chain(arguments: list[str], log: str, leash: int) -> None:
    """Never returns: this is a process of its own now."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for old, new in ((leash, 0), (output, 1), (output, 2)):
            os.dup2(old, new)
        from gesso_devnet.chain import embedded

        code = embedded.main([*arguments, "--exit-with-stdin"])
    except BaseException:  # whatever it is, this process must not go on as a second nursery
        traceback.print_exc()
    finally:
        os._exit(code)


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """One line of JSON after another, until there are no more."""
    import gesso_devnet.chain.embedded  # noqa: F401 - what all of this is for

    chains = _Chains()
    for line in orders:
        answers.write(json.dumps(chains.answer(json.loads(line))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the starter lets us know
    serve(sys.stdin.buffer, sys.stdout.buffer)
