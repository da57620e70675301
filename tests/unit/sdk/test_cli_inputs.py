"""What people type is checked before anything is asked or paid, and whoever waits hears what can be done."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from cyclopts import Parameter
from made_results import image

from gesso import png
from gesso.cli import app
from gesso.cli.inputs import account, check_output, count, task_named, whole
from gesso.cli.live import TaskLine
from gesso.cli.output import Output, columns_text
from gesso.cli.task import COLUMNS, _brief
from gesso.cli.train_options import TrainOptions
from gesso.cli.waiting import waiting
from gesso.tensorfile import FileUnreadable, open_tensors
from gesso_devnet.stack import Stack
from gesso_protocol import events
from gesso_protocol.errors import BlobMissing, UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.spec import TextToImage

TASK = TaskId(b"\x07" * 32)
NODE = Address("0x" + "11" * 20)


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function behind the command table."""
    for name in app._TOP:
        yield name, getattr(importlib.import_module(f"gesso.cli.{name}"), name)
    for noun, (_, verbs) in app._NOUNS.items():
        home = importlib.import_module(app._HOMES.get(noun, f"gesso.cli.{noun}"))
        for verb in verbs:
            yield f"{noun} {verb}", getattr(home, app.function_of(verb))


@pytest.mark.parametrize(("words", "command"), [*commands(), ("train options", TrainOptions)])
def test_no_command_lets_the_parser_round_numbers(words: str, command: Callable[..., Any]) -> None:
    hints = typing.get_type_hints(command, include_extras=True)
    for name in inspect.signature(command).parameters:
        kind, *notes = (
            typing.get_args(hints[name]) if typing.get_origin(hints[name]) is typing.Annotated else [hints[name]]
        )
        if kind is int or int in typing.get_args(kind):
            converters = [note.converter for note in notes if isinstance(note, Parameter)]
            assert whole in converters or count in converters, f"{words}: {name}"


@pytest.mark.parametrize(
    "argv",
    [
        ["generate", "a circle", "--steps", "1.5"],
        ["generate", "a circle", "--width", "1e3"],
        ["generate", "a circle", "--count", "0"],
        ["generate", "a circle", "--seed", "0x10"],
        ["train", "photos", "--rank", "4.5"],
        ["task", "ls", "--limit", "0"],
        ["devnet", "up", "--nodes", "2.5"],
        ["devnet", "logs", "-n", "many"],
    ],
)
def test_numbers_that_are_none_are_refused_by_the_parser(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(argv) == 2
    assert argv[-1] in capsys.readouterr().err
    assert app.main([*argv, "--format", "json"]) == 2 or argv[1] == "logs"
    if argv[1] != "logs":
        assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_an_address_that_is_none_is_the_typist_s_mistake() -> None:
    with pytest.raises(UsageError) as caught:
        account("0x12")
    assert "hostile" not in str(caught.value.hint)
    assert account(NODE) == NODE


@pytest.mark.usefixtures("capsys")
def test_a_place_for_the_result_is_looked_at_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "new" / "folder" / "out.png", "out.png")
    check_output(tmp_path / "file", "out.png")
    for bad in (tmp_path, tmp_path / "file" / "out.png"):
        with pytest.raises(UsageError):
            check_output(bad, "out.png")
        for argv in (["generate", "a circle"], ["train", str(tmp_path), "--dry-run"]):
            assert app.main([*argv, "-o", str(bad)]) == 2
            assert "-o" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_the_typist_s_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileUnreadable) as caught:
        open_tensors(tmp_path / "absent.safetensors", max_bytes=1)
    assert caught.value.exit_code == 2
    assert app.main(["generate", "--prompts", str(tmp_path / "absent.txt")]) == 3
    assert "check its path" in capsys.readouterr().err


def test_a_picture_names_its_task(tmp_path: Path) -> None:
    drawn = image()
    kept = drawn.save(tmp_path / "out.PNG")
    assert task_named(str(kept)) == str(drawn.receipt.task)
    assert task_named("0x12") == "0x12"
    with pytest.raises(UsageError, match="there is no picture"):
        task_named(str(tmp_path / "absent.png"))
    for name, data in (("plain.png", drawn.data), ("noise.png", b"x"), ("lies.png", lying(drawn.data))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match="carries no receipt"):
            task_named(str(tmp_path / name))


def test_no_picture_is_vouched_for_that_only_carries_the_receipt_of_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Handle:
        id = TASK
        lost = False

        async def gave(self, picture: bytes) -> bool:
            if self.lost:
                raise BlobMissing("nobody has the result")
            return png.without_text(picture, ("parameters", "gesso")) != image().data

        async def describe(self) -> dict[str, Any]:
            return {"task": str(TASK), "state": "cancelled", "since": 1, "due": None}

        async def spec(self) -> TextToImage:
            return TextToImage(prompt="a circle", model="tiny@1")

        async def result(self, **_: Any) -> Any:
            return SimpleNamespace(images=(image(),), receipt=image().receipt)

    class Client:
        async def task(self, _: str) -> Handle:
            return Handle()

    @asynccontextmanager
    async def client_for(*_: Any, **__: Any) -> AsyncIterator[Client]:
        yield Client()

    monkeypatch.setattr("gesso.cli.task.client_for", client_for)
    kept = image().save(tmp_path / "out.png")
    assert app.main(["task", "audit", str(kept)]) == 2
    assert "out.png is not what the task gave" in capsys.readouterr().err
    for command in (["show", str(kept)], ["fetch", str(kept), "-o", str(tmp_path / "true.png")]):
        assert app.main(["task", *command]) == 0
        shown = capsys.readouterr()
        assert "out.png is not what this task gave" in shown.err
        assert "not what" not in shown.out
    assert app.main(["task", "show", str(TASK)]) == 0
    assert "not what" not in capsys.readouterr().err
    monkeypatch.setattr(Handle, "lost", True)
    assert app.main(["task", "show", str(kept)]) == 0
    assert "nobody can tell whether out.png" in capsys.readouterr().err


def lying(picture: bytes) -> bytes:
    return png.with_text(picture, {"gesso": json.dumps({"task": "../../etc"})})


def test_a_row_of_tasks_fits_a_terminal_and_names_its_task() -> None:
    document = {"task": str(TASK), "state": "committed", "node": NODE, "fee": "0.01044", "requester": NODE}
    row = _brief({**document, "submitted_at": 1_700_000_000})
    assert len(columns_text([row], COLUMNS).splitlines()[-1]) < 80
    assert row["submitted"] == "11-14 22:13"
    document["submitted_at"] = None
    assert _brief(document)["submitted"] is None
    assert str(TASK).startswith(row["task"])
    assert _brief({**document, "node": None})["node"] is None


@pytest.mark.anyio
@pytest.mark.parametrize("answered", [False, True])
async def test_whoever_waits_for_a_claim_hears_once_what_can_be_done(answered: bool) -> None:
    talk = io.StringIO()
    out = Output("human", stdout=io.StringIO(), stderr=talk)
    line = TaskLine(out)
    line.show(events.Submitted(task=TASK, at_ms=1, fee=Wei(1)))
    if answered:
        line.show(events.Claimed(task=TASK, at_ms=2, node=NODE, commit_by=9))
    async with waiting(out, line, TASK, then="", patience_s=0):
        await anyio.wait_all_tasks_blocked()
    assert ("gesso task cancel" in talk.getvalue()) is not answered
    assert talk.getvalue().count("no node has taken it") == (not answered)


def test_a_remark_leaves_the_line_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    talk = Terminal()
    line = TaskLine(Output("human", stdout=io.StringIO(), stderr=talk))
    line.show(events.Submitted(task=TASK, at_ms=1, fee=Wei(1)))
    line.remark("still here")
    assert talk.getvalue().endswith("still here\n\r\x1b[2Ksubmitted")


@pytest.mark.anyio
async def test_who_leaves_is_told_where_the_task_stands() -> None:
    talk = io.StringIO()
    out = Output("human", stdout=io.StringIO(), stderr=talk)
    with anyio.CancelScope() as scope:
        async with waiting(out, TaskLine(out), TASK, then=f"gesso task fetch {TASK} -o out.png"):
            scope.cancel()
            await anyio.sleep_forever()
    assert talk.getvalue().endswith(f"next: gesso task fetch {TASK} -o out.png\n")


@pytest.mark.parametrize("written", ["", " \n"])
def test_a_wallet_without_a_password_is_not_made(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    (tmp_path / "password").write_text(written)
    assert app.main(["wallet", "new", "mine", "--password-file", str(tmp_path / "password")]) == 3
    assert "empty password" in capsys.readouterr().err
    assert app.main(["wallet", "new", "mine", "--password-file", str(tmp_path / "missing")]) == 3
    assert "No such file" in capsys.readouterr().err
    assert not list(tmp_path.glob("wallets/*.json"))


@pytest.mark.anyio
async def test_what_runs_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path)
    monkeypatch.setattr(stack, "state", lambda: SimpleNamespace(actors={"node-1": ("true",)}))
    monkeypatch.setattr(stack.supervisor, "running", lambda: (SimpleNamespace(name="node-1"),))
    with pytest.raises(UsageError, match="running"):
        await stack.restart("node-1")
