"""A child process can do anything to itself; the node gets an outcome, keeps its memory and its keys, and goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_node.executors import messages
from gesso_node.executors.child import ChildExecutor
from gesso_node.executors.environment import ChildSettings, child_environment
from gesso_node.executors.port import Crashed, Finished, Job, Outcome, OutOfMemory, StepDone, TimedOut, Unfit
from gesso_protocol.errors import ExecutorCrashed

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
MakeJob = Callable[..., Job]
READY = '{"kind":"ready","engine":"fake"}'


async def ignore(_: StepDone) -> None:
    return None


def fake(home: Path, settings: ChildSettings | None = None, **faults: object) -> ChildExecutor:
    base = settings or ChildSettings()
    return ChildExecutor("fake", home, base.model_copy(update={"options": faults}))


def scripted(home: Path, body: str, **settings: float) -> ChildExecutor:
    """A child that is a few lines of Python and as rude as they make it."""
    command: Sequence[str] = [sys.executable, "-c", textwrap.dedent(body)]
    return ChildExecutor("fake", home, ChildSettings.model_validate(settings), command=command)


async def run(executor: ChildExecutor, job: Job) -> Outcome:
    with anyio.fail_after(60):
        return await executor.run(job, on_event=ignore)


async def test_a_crash_is_an_outcome_and_the_next_job_gets_a_fresh_child(make_job: MakeJob, tmp_path: Path) -> None:
    async with fake(tmp_path / "home", crash_at_step=3, once_file=tmp_path / "once") as executor:
        outcome = await run(executor, make_job())
        assert isinstance(outcome, Crashed)
        assert "139" in outcome.reason
        assert isinstance(await run(executor, make_job()), Finished)
        assert executor.health().started == 2
        assert executor.health().ended == {"Crashed": 1}


def workers() -> list[psutil.Process]:
    """Executors that this process has started. What an earlier test left may be dead beside them, but not gone."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "gesso_node.executors.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


async def test_a_killed_child_is_a_crash_that_names_the_signal(make_job: MakeJob, tmp_path: Path) -> None:
    async with fake(tmp_path / "home", step_s=0.05) as executor:

        async def kill_child(_: StepDone) -> None:
            for child in workers():
                child.send_signal(signal.SIGKILL)

        with anyio.fail_after(60):
            outcome = await executor.run(make_job(steps=40), on_event=kill_child)
    assert isinstance(outcome, Crashed)
    assert "SIGKILL" in outcome.reason


async def test_a_hang_is_noticed_by_silence(make_job: MakeJob, tmp_path: Path) -> None:
    settings = ChildSettings(stall_s=0.5)
    async with fake(tmp_path / "home", settings, hang_at_step=2) as executor:
        outcome = await run(executor, make_job())
        assert isinstance(outcome, TimedOut)
        assert outcome.after_s == 0.5
        assert executor.health().warm == ()


async def test_lack_of_memory_is_its_own_outcome(make_job: MakeJob, tmp_path: Path) -> None:
    async with fake(tmp_path / "home", oom_at_step=2) as executor:
        assert isinstance(await run(executor, make_job()), OutOfMemory)


async def test_a_memory_limit_holds_for_real_work(make_job: MakeJob, tmp_path: Path) -> None:
    settings = ChildSettings(memory_limit_bytes=400 * 2**20)
    async with fake(tmp_path / "home", settings) as executor:
        small = await run(executor, make_job(steps=1))
        assert isinstance(small, Finished)
    tight = ChildSettings(memory_limit_bytes=60 * 2**20)
    async with fake(tmp_path / "home", tight) as executor:
        assert isinstance(await run(executor, make_job(steps=1)), OutOfMemory | Crashed)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys; sys.stdout.write('x' * (1 << 22)); sys.stdout.flush(); sys.stdin.read()", "over"),
        ("print('hello, world', flush=True); import sys; sys.stdin.read()", "unreadable"),
        ("import sys; sys.exit(3)", "exit code 3"),
        (f"print('{READY}'); print('{READY}', flush=True); import sys; sys.stdin.read()", "unexpected ready"),
        (
            f"""
            import sys
            print('{READY}', flush=True); sys.stdin.readline()
            print('{{"kind":"done","job":1,"pictures":[],"profile":{{}},"seconds":0}}', flush=True)
            sys.stdin.read()
            """,
            "unreadable",
        ),
        (
            f"""
            import sys
            print('{READY}', flush=True); sys.stdin.readline()
            picture = '{{"index":0,"name":"image-0.png","sha256":"' + '0' * 64 + '","width":64,"height":64,"seed":5}}'
            print('{{"kind":"done","job":1,"pictures":[' + picture + '],"profile":{{}},"seconds":0}}', flush=True)
            sys.stdin.read()
            """,
            "trace",
        ),
    ],
)
async def test_rude_children_are_crashes(make_job: MakeJob, tmp_path: Path, body: str, said: str) -> None:
    async with scripted(tmp_path / "home", body) as executor:
        outcome = await run(executor, make_job())
    assert isinstance(outcome, Crashed), outcome
    assert said in outcome.reason


async def test_stderr_is_a_short_tail_however_much_is_written(make_job: MakeJob, tmp_path: Path) -> None:
    body = "import sys; sys.stderr.write('noise' * 10**6); sys.stderr.write('the last words'); sys.exit(1)"
    async with scripted(tmp_path / "home", body) as executor:
        outcome = await run(executor, make_job())
    assert isinstance(outcome, Crashed)
    assert len(outcome.tail) <= 8 * 1024


async def test_a_child_that_never_introduces_itself_is_given_up(make_job: MakeJob, tmp_path: Path) -> None:
    async with scripted(tmp_path / "home", "import sys; sys.stdin.read()", start_s=0.3) as executor:
        assert isinstance(await run(executor, make_job()), TimedOut)


async def test_one_warm_child_serves_all_jobs_and_ends_with_its_executor(make_job: MakeJob, tmp_path: Path) -> None:
    async with fake(tmp_path / "home") as executor:
        await executor.warm(tmp_path)
        for _ in range(3):
            assert isinstance(await run(executor, make_job(model_dir=tmp_path)), Finished)
        assert executor.health().started == 1
        children = workers()
        assert len(children) == 1
    assert not children[0].is_running()


async def test_another_model_replaces_the_warm_child(make_job: MakeJob, tmp_path: Path) -> None:
    async with fake(tmp_path / "home") as executor:
        for model in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
            assert isinstance(await run(executor, make_job(model_dir=model)), Finished)
        assert executor.health().started == 3
        assert executor.health().warm == (str(tmp_path / "a"),)


def test_the_environment_of_a_child_holds_no_secret(tmp_path: Path) -> None:
    ours = {"PATH": "/bin", "GESSO_WALLET_PASSWORD": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "HF_TOKEN": "secret"}
    environment = child_environment(tmp_path, ours)
    assert "secret" not in environment.values()
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["DIFFUSERS_DISABLE_REMOTE_CODE"] == "1"
    assert environment["HOME"] == str(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}),
        ({"threads": 2}, {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}),
        ({"wait": "active"}, {"OMP_NUM_THREADS": "7"}),
    ],
)
def test_threads_are_as_many_as_was_said_and_do_not_spin_unless_that_was_said(
    settings: dict[str, Any], told: dict[str, str], tmp_path: Path
) -> None:
    ours = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    environment = child_environment(tmp_path, ours, ChildSettings(**settings))
    assert {name: value for name, value in environment.items() if name[:3] in ("OMP", "KMP")} == told


async def test_the_real_child_sees_only_that_environment(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GESSO_WALLET_PASSWORD", "correct horse")
    body = "import os, json, sys; sys.stderr.write(json.dumps(dict(os.environ))); sys.stderr.flush(); sys.exit(1)"
    async with scripted(tmp_path / "home", body) as executor:
        outcome = await run(executor, make_job())
    assert isinstance(outcome, Crashed)
    assert "correct horse" not in outcome.tail
    assert json.loads(outcome.tail)["HF_HUB_OFFLINE"] == "1"


def test_the_child_may_not_use_the_network() -> None:
    code = """
        import sys, socket
        from gesso_node.executors.worker import _forbid
        sys.addaudithook(_forbid)
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        except PermissionError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "may not do socket" in done.stdout


def test_the_child_ends_when_the_node_is_killed(tmp_path: Path) -> None:
    """The node dies by SIGKILL in the middle of a job: its child must not go on using the machine."""
    code = f"""
        import anyio, os
        from pathlib import Path
        from gesso_node.executors.child import ChildExecutor
        from gesso_node.executors.environment import ChildSettings
        async def main():
            options = {{"hang_at_step": 1}}
            home = Path({str(tmp_path / "home")!r})
            async with ChildExecutor("fake", home, ChildSettings(options=options)) as executor:
                await executor.warm(None)
                import psutil
                print(psutil.Process().children()[0].pid, flush=True)
                os.kill(os.getpid(), 9)
        anyio.run(main)
    """
    node = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert node.returncode == -signal.SIGKILL
    pid = int(node.stdout)
    limit = time.monotonic() + 60
    with contextlib.suppress(psutil.NoSuchProcess):  # at whichever of the two looks it is gone
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < limit, "the child outlived its node"
            os.sched_yield()


async def test_a_pickle_in_the_model_folder_is_refused(make_job: MakeJob, sample_model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    (bad / "unet").mkdir(parents=True)
    (bad / "model_index.json").write_bytes((sample_model / "model_index.json").read_bytes())
    (bad / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    async with ChildExecutor("diffusers", tmp_path / "home") as executor:
        outcome = await run(executor, make_job(model_dir=bad))
        assert isinstance(outcome, Unfit)
        assert "safetensors" in outcome.reason
        # it is the model's fault, so the child stays
        assert executor.health().ended == {}


@given(st.binary(max_size=400))
def test_any_line_from_a_child_is_a_message_or_a_typed_error(line: bytes) -> None:
    with contextlib.suppress(ExecutorCrashed):
        messages.decode_from_child(line)


@given(st.sampled_from(["../x.png", "/etc/passwd", "a/b.png", "image-0.png\n", "x" * 60 + ".png", "image.jpg"]))
def test_pictures_are_plain_names_inside_the_job_folder(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        messages.Picture(index=0, name=name, sha256="0" * 64, width=1, height=1, seed=0)
