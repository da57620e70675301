"""The supervisor: ready lines, deaths while starting, recycled ids, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import psutil
import pytest

from gesso_devnet.processes import Actor, Running, Supervisor, python
from gesso_protocol.errors import ConfigError, Unreachable

READY = 'import json, sys, time; print(json.dumps({"ready": True, "port": 7}), flush=True); time.sleep(600)'
SILENT = "import time; time.sleep(600)"
DYING = 'print("no such model"); raise SystemExit(3)'
PARENT = (
    "import json, subprocess, sys, time\n"
    f"child = subprocess.Popen([sys.executable, '-c', {SILENT!r}])\n"
    'print(json.dumps({"ready": True, "child": child.pid}), flush=True)\n'
    "time.sleep(600)\n"
)
STUBBORN = (
    "import json, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    'print(json.dumps({"ready": True}), flush=True)\n'
    "time.sleep(600)\n"
)


def actor(code: str, name: str = "one", timeout_s: float = 20) -> Actor:
    return Actor(name, python("-c", code), ready_timeout_s=timeout_s)


@pytest.mark.anyio
async def test_start_gives_the_ready_line_and_stop_ends_it(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    assert (await supervisor.start(actor(READY)))["port"] == 7
    (running,) = supervisor.running()
    assert running.alive()
    assert supervisor.stop_all() == ("one",)
    assert not running.alive()
    assert supervisor.running() == ()
    assert list((tmp_path / "pids").iterdir()) == []


@pytest.mark.anyio
async def test_a_death_while_starting_shows_the_log(tmp_path: Path) -> None:
    with anyio.fail_after(60), pytest.raises(Unreachable, match="no such model"):
        await Supervisor(tmp_path).start(actor(DYING))


@pytest.mark.anyio
async def test_silence_is_bounded(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    try:
        with anyio.fail_after(60), pytest.raises(Unreachable, match="not ready within"):
            await supervisor.start(actor(SILENT, timeout_s=0.3))
    finally:
        supervisor.stop_all()


@pytest.mark.anyio
async def test_grandchildren_go_too(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    child = psutil.Process((await supervisor.start(actor(PARENT)))["child"])
    supervisor.stop_all()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.anyio
async def test_freezing_an_actor_freezes_what_it_started(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    child = psutil.Process((await supervisor.start(actor(PARENT)))["child"])
    try:
        supervisor.find("one").signal_all(signal.SIGSTOP)
        with anyio.fail_after(60):
            while child.status() != psutil.STATUS_STOPPED:
                await anyio.lowlevel.checkpoint()
        supervisor.find("one").signal_all(signal.SIGCONT)
        with anyio.fail_after(60):
            while child.status() == psutil.STATUS_STOPPED:
                await anyio.lowlevel.checkpoint()
    finally:
        supervisor.stop_all()


@pytest.mark.anyio
async def test_what_ignores_the_polite_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gesso_devnet.processes.STOP_GRACE_S", 0.3)
    supervisor = Supervisor(tmp_path)
    await supervisor.start(actor(STUBBORN))
    (running,) = supervisor.running()
    supervisor.stop_all()
    assert not running.alive()


def test_a_recycled_process_id_is_never_touched(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", SILENT])
    try:
        (tmp_path / "pids").mkdir()
        entry = {"name": "old", "pid": bystander.pid, "created": 1.0}
        (tmp_path / "pids/old.json").write_text(json.dumps(entry))
        assert Supervisor(tmp_path).stop_all() == ()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("text", ["", "[]", '{"pid": "x"}', "\x00"])
def test_damaged_pid_files_are_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "pids").mkdir()
    (tmp_path / "pids/x.json").write_text(text)
    assert Supervisor(tmp_path).running() == ()


def test_an_unknown_actor_is_named_with_those_that_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no actor named 'relay'"):
        Supervisor(tmp_path).find("relay")


def test_our_own_process_counts_as_alive() -> None:
    assert Running("me", os.getpid(), psutil.Process().create_time()).alive()
