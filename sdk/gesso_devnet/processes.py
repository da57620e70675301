"""Child processes of a devnet: start them, know that they are ready, stop them all, leave nothing behind.

A devnet outlives the command that started it, so what runs is written to files in the state folder:
`pids/ACTOR.json` (process id and start time, so that a recycled id is never signalled) and `logs/ACTOR.log`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil

from gesso_protocol.errors import ConfigError, Unreachable

READY_POLL_S = 0.05
DRAIN_GRACE_S = 2.0
STOP_GRACE_S = 8.0
ORPHAN_GRACE_S = 1.0
LOG_TAIL_LINES = 12
MAX_READY_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Actor:
    """A process to start. `ready_timeout_s` bounds the wait for its ready line: JSON with `"ready": true`."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    ready_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started by us. `created` is its start time in unix seconds."""

    name: str
    pid: int
    created: float

    def alive(self) -> bool:
        """True while this very process runs; a zombie does not count."""
        return self._process() is not None

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def signal(self, number: int) -> None:
        """Send a signal; no effect on a process that has ended."""
        process = self._process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """The same for the process and all it started: whoever freezes a launcher means what it launched, too."""
        process = self._process()
        if process is not None:
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(number)


class Supervisor:
    """Starts and stops the actors of one state folder."""

    def __init__(self, state: Path) -> None:
        self._pids = state / "pids"
        self._logs = state / "logs"

    def log_of(self, actor: str) -> Path:
        """Where an actor's output goes."""
        return self._logs / f"{actor}.log"

    def running(self) -> tuple[Running, ...]:
        """Everything of ours that is alive, in the order in which it was started."""
        found = [entry for path in self._pids.glob("*.json") if (entry := _read_pid(path)) is not None]
        return tuple(sorted((entry for entry in found if entry.alive()), key=lambda entry: entry.created))

    def find(self, actor: str) -> Running:
        """The running actor of that name. Raises ConfigError."""
        for entry in self.running():
            if entry.name == actor:
                return entry
        names = ", ".join(entry.name for entry in self.running())
        raise ConfigError(
            f"no actor named {actor!r} is running", hint=f"running: {names}" if names else "nothing is running"
        )

    def spawn(self, actor: Actor) -> Running:
        """Start a process in its own session, output to its log. Returns at once; see `wait_ready`."""
        self._pids.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log_of(actor.name).open("ab") as log:
            child = subprocess.Popen(
                list(actor.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(actor.env or {})},
                start_new_session=True,
            )
        running = Running(actor.name, child.pid, _created(child.pid))
        self._remember(running)
        child.returncode = 0  # it may outlive us, and is known by its file from here on: this handle holds nothing
        return running

    def adopt(self, name: str, pid: int) -> Running:
        """Write down a process that somebody else started for this devnet."""
        self._pids.mkdir(parents=True, exist_ok=True)
        running = Running(name, pid, _created(pid))
        self._remember(running)
        return running

    async def wait_ready(self, actor: Actor, running: Running, *, from_byte: int = 0) -> dict[str, Any]:
        """The actor's ready line. Raises Unreachable with the end of its log when it dies or stays silent."""
        log = self.log_of(actor.name)
        with anyio.move_on_after(actor.ready_timeout_s):
            while True:
                line = _ready_line(log, from_byte)
                if line is not None:
                    return line
                if not running.alive():
                    raise Unreachable(f"{actor.name} stopped while starting\n{tail(log)}", hint=f"its log: {log}")
                await anyio.sleep(READY_POLL_S)
        raise Unreachable(
            f"{actor.name} was not ready within {actor.ready_timeout_s:g} s\n{tail(log)}", hint=f"its log: {log}"
        )

    async def start(self, actor: Actor) -> dict[str, Any]:
        """Spawn and wait; returns the ready line."""
        log = self.log_of(actor.name)
        before = log.stat().st_size if log.exists() else 0
        return await self.wait_ready(actor, self.spawn(actor), from_byte=before)

    def stop(self, name: str, *, hard: bool = False) -> None:
        """Stop one actor and forget it; `hard` is kill -9."""
        _end([self.find(name)], hard=hard)
        (self._pids / f"{name}.json").unlink(missing_ok=True)

    def stop_all(self) -> tuple[str, ...]:
        """Stop everything, last started first, with children; kills what does not go. Returns the names."""
        entries = self.running()[::-1]
        _end(entries, hard=False)
        for path in self._pids.glob("*.json"):
            path.unlink(missing_ok=True)
        return tuple(entry.name for entry in entries)

    def _remember(self, running: Running) -> None:
        path = self._pids / f"{running.name}.json"
        path.write_text(json.dumps({"name": running.name, "pid": running.pid, "created": running.created}))


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, for error messages."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def python(*args: str) -> tuple[str, ...]:
    """A command line for this very interpreter."""
    return (sys.executable, *args)


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return time.time()


def _read_pid(path: Path) -> Running | None:
    try:
        entry = json.loads(path.read_text())
        return Running(str(entry["name"]), int(entry["pid"]), float(entry["created"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ready_line(log: Path, from_byte: int) -> dict[str, Any] | None:
    if not log.exists():
        return None
    with log.open("rb") as file:
        file.seek(from_byte)
        for line in file:
            if line.startswith(b"{") and line.endswith(b"\n") and len(line) < MAX_READY_LINE and b'"ready"' in line:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict) and found.get("ready") is True:
                    return found
    return None


def _end(entries: Sequence[Running], *, hard: bool) -> None:
    parents: list[psutil.Process] = []
    children: list[psutil.Process] = []
    for entry in entries:
        process = entry._process()
        if process is not None:
            parents.append(process)
            children += _children(process)
            entry.signal(signal.SIGCONT)
            entry.signal(signal.SIGKILL if hard else signal.SIGTERM)
    _, draining = psutil.wait_procs(parents, timeout=DRAIN_GRACE_S)
    _send(draining, signal.SIGTERM)  # a node takes the second one as: leave now, the journal remembers
    _, stubborn = psutil.wait_procs(draining, timeout=STOP_GRACE_S)
    # A parent that went in order has taken its children along; orphans get a short moment of their own.
    _, orphans = psutil.wait_procs(children, timeout=0.2)
    _send(orphans, signal.SIGTERM)
    _, left = psutil.wait_procs(orphans, timeout=ORPHAN_GRACE_S)
    _send([*stubborn, *left], signal.SIGKILL)
    psutil.wait_procs([*stubborn, *left], timeout=STOP_GRACE_S)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _send(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
