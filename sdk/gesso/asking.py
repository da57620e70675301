"""Questions to the person at the terminal. Ctrl-C ends them at once, also where an event loop would have it wait for
the answer."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def ask(question: str) -> str:
    """One line in answer; empty when the person ended the input (Ctrl-D)."""
    with _heard():
        sys.stderr.write(question)
        sys.stderr.flush()
        try:
            return input().strip()
        except EOFError:
            sys.stderr.write("\n")
            return ""


def ask_secret(question: str) -> str:
    """The same for what nobody shall see."""
    import getpass

    with _heard():
        try:
            return getpass.getpass(question)
        except EOFError:
            sys.stderr.write("\n")
            return ""


@contextmanager
def _heard() -> Iterator[None]:
    """While it asks Ctrl-C raises KeyboardInterrupt: asyncio's own handler only makes a note, and reading goes on. One
    that was pressed before, while the program was still loading, is such a note: nothing is asked any more."""
    if _interrupted():
        raise KeyboardInterrupt
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return False
    return task is not None and task.cancelling() > 0
