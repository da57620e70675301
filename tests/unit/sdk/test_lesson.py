"""The demo: what makes no sense starts nothing, and what its users started stops with it."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path

import anyio
import pytest

from gesso.cli.output import Output
from gesso_devnet.demo import main
from gesso_devnet.lesson import User
from gesso_protocol.errors import TaskFailed
from gesso_protocol.ids import ZERO_ADDRESS


def user(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> User:
    """One whose `gesso` is a script of ours."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return User("alice", folder, folder, ZERO_ADDRESS)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_command_ends_when_the_demo_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = user(tmp_path, monkeypatch, f"touch {tmp_path}/begun; exec sleep 100")
    typing = asyncio.create_task(alice.types(Output("human", stderr=io.StringIO()), "train"))
    with anyio.fail_after(60):
        while not await anyio.Path(tmp_path / "begun").exists():  # noqa: ASYNC110 - another process makes it
            await anyio.sleep(0.01)
        typing.cancel()  # once, as Ctrl-C does
        with pytest.raises(asyncio.CancelledError):
            await typing


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_what_a_command_says_is_shown_and_its_failure_ends_the_lesson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    alice = user(tmp_path, monkeypatch, "echo $TMPDIR; read answer || echo nobody answers; exit 5")
    with pytest.raises(TaskFailed, match="`gesso model` ended with 5"):
        await alice.types(Output("human", stderr=said), "model", "ls")
    assert said.getvalue().splitlines()[1:] == ["alice$ gesso model ls", f"  {tmp_path}", "  nobody answers"]


def test_every_option_of_the_demo_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert re.findall(r"^  (--\S+)(?: \S+)?\n(?!   )", told, re.M) == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--prompt", ""], "prompt"),
        (["--seed", "-4"], "seed"),
        (["--output", "."], "is a folder"),
        (["--cheat", "fewer-step"], "did you mean fewer-steps?"),
    ],
    ids=" ".join,
)
def test_what_the_network_would_refuse_is_said_before_one_is_started(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("gesso_devnet.demo.Stack.up", started)
    assert main(argv) == 2
    assert said in capsys.readouterr().err
