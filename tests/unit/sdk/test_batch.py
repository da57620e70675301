"""Many prompts at once: read from a file, kept apart when one fails, named in order."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from made_results import TASK, image

from gesso import Client
from gesso.chain.settings import ContractAddresses
from gesso.cli import app
from gesso.cli.batch import MAX_STDIN_BYTES, _kept, generate_all, numbered, read_prompts
from gesso.cli.output import Output
from gesso.cli.saving import save_all
from gesso.client import AsyncClient
from gesso.many import Drawn, checked, draw_many
from gesso.outcome import Result
from gesso.settings import Network, Settings
from gesso.task import AsyncTask
from gesso_protocol.errors import ConfigError, FeeTooLow, NoEligibleNode, TaskFailed, Unreachable, UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.spec import TextToImage

BOARD = Address("0x" + "11" * 20)


def specs(*prompts: str) -> list[TextToImage]:
    return [TextToImage(prompt=prompt, model="tiny@1", seed=at) for at, prompt in enumerate(prompts)]


def test_prompts_are_lines_and_the_rest_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# mine\na red circle\n\n  a blue square \r\n")
    assert read_prompts(file) == ["a red circle", "a blue square"]
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo"))
    assert read_prompts(Path("-")) == ["one", "two"]
    file.write_text("# nothing\n")
    with pytest.raises(UsageError, match="holds no prompt"):
        read_prompts(file)
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * (MAX_STDIN_BYTES + 2)))
    with pytest.raises(UsageError, match="longer than"):
        read_prompts(Path("-"))
    with pytest.raises(ConfigError):
        read_prompts(tmp_path / "missing")


def test_names_sort_as_their_prompts_do() -> None:
    assert [numbered(Path("a/out.png"), at, 12).name for at in (1, 12)] == ["out-01.png", "out-12.png"]


@pytest.mark.parametrize("argv", [["generate"], ["generate", "a circle", "--prompts", "x"]])
def test_a_prompt_or_a_file_and_not_both(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(argv) == 2
    assert "give a prompt, or a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompts", "at_once"), [([], 1), ("a circle", 1), (["x"] * 10_001, 1), (["x"], 0), (["x"], 65)]
)
def test_what_makes_no_sense_is_said_before_anything_is_ordered(prompts: Sequence[str], at_once: int) -> None:
    with pytest.raises(UsageError):
        checked(prompts, at_once)


class Task:
    """Ends as it is told to, after all that were let in have begun."""

    id = TASK

    def __init__(self, result: Result | None) -> None:
        self._result = result

    async def result(self, **_: Any) -> Result:
        await anyio.lowlevel.checkpoint()
        if self._result is None:
            raise TaskFailed("the node let it lapse")
        return self._result


@pytest.mark.anyio
async def test_one_failure_stands_in_its_place_and_stops_no_other() -> None:
    under_way, most = 0, 0
    drawn = image()
    heard: list[int] = []
    paid: list[int] = []

    def on_ordered(begun: Drawn) -> None:
        assert (begun.task, begun.result, begun.error) == (TASK, None, None)
        paid.append(begun.index)

    async def order(spec: TextToImage) -> AsyncTask:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.lowlevel.checkpoint()
        if spec.prompt == "nobody":
            under_way -= 1
            raise NoEligibleNode("nobody claimed it")
        under_way -= 1
        return Task(None if spec.prompt == "lapses" else Result((drawn,), drawn.receipt, {}))  # type: ignore[return-value]

    ends = await draw_many(
        order,
        specs("good", "nobody", "lapses", "fine"),
        at_once=2,
        on_ordered=on_ordered,
        on_drawn=lambda done: heard.append(done.index),
        until="delivered",
        timeout_s=None,
    )
    assert [end.prompt for end in ends] == ["good", "nobody", "lapses", "fine"]
    assert [type(end.error) for end in ends] == [type(None), NoEligibleNode, TaskFailed, type(None)]
    assert [end.task for end in ends] == [TASK, None, TASK, TASK], "what was ordered can be fetched, whatever failed"
    assert sorted(heard) == [0, 1, 2, 3]
    assert sorted(paid) == [0, 2, 3]
    assert most == 2
    assert ends[0].image is drawn
    assert ends[1].images == ()
    with pytest.raises(NoEligibleNode):
        _ = ends[1].image


@pytest.mark.anyio
async def test_what_a_callback_raises_is_raised_when_all_are_done() -> None:
    drawn = image()
    heard: list[int] = []

    async def order(_: TextToImage) -> AsyncTask:
        return Task(Result((drawn,), drawn.receipt, {}))  # type: ignore[return-value]

    def hear(done: Drawn) -> None:
        heard.append(done.index)
        if done.result is not None and done.index == 0:
            raise ZeroDivisionError("the caller's own")

    hears = {"on_ordered": hear, "on_drawn": hear}
    with pytest.raises(ZeroDivisionError):
        await draw_many(order, specs("a", "b", "c"), at_once=1, until="delivered", timeout_s=None, **hears)  # type: ignore[arg-type]
    assert heard == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n rubbish", b"no PNG at all"])
def test_a_broken_picture_is_a_row_of_the_batch(data: bytes, tmp_path: Path) -> None:
    good = image()
    broken = Drawn(0, good.spec, Result((replace(good, data=data),), good.receipt, {}), task=TASK)
    row = _kept(broken, tmp_path / "out.png")
    assert (row["images"], row["error"]["code"]) == ([], "blob-corrupt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("ceilings", "of_settings", "each"),
    [
        ({}, None, "0.01"),
        ({"max_fee": "0.05"}, None, "0.05"),
        ({"max_total": "0.031"}, None, "0.01"),
        ({"max_fee": "0.05", "max_total": "0.06"}, None, "0.02"),
        ({}, "0.03", "0.03"),
        ({}, "0.009", None),
        ({"max_total": "0.029"}, None, None),
    ],
)
async def test_no_picture_of_a_batch_costs_more_than_was_said(
    ceilings: dict[str, str], of_settings: str | None, each: str | None
) -> None:
    """Each is quoted again when its turn comes, and a node may ask ten times as much by then."""
    paid: list[str | None] = []

    class Priced(AsyncClient):
        @property
        def _specs(self) -> Any:
            return SimpleNamespace(another=lambda first, prompt, seed: first)

        async def spec(self, prompt: str, **_: Any) -> TextToImage:
            return specs(prompt)[0]

        async def quote(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(total=Wei(10**16), audit_fee=0)

        async def submit(self, spec: Any, *, max_fee: str | None = None, **_: Any) -> Any:
            paid.append(max_fee)
            raise NoEligibleNode("nobody")

    async def balance_of(_: object) -> Wei:
        return Wei(10**18)

    client = Priced()
    ports: Any = SimpleNamespace(chain=SimpleNamespace(balance_of=balance_of), address=BOARD, max_fee=of_settings)
    client._ports_now = ports
    order = partial(client.generate_many, ["a", "b", "c"], **ceilings)  # type: ignore[arg-type]
    if each is None:
        with pytest.raises(FeeTooLow):
            await order()
    else:
        await order()
    assert paid == ([] if each is None else [each] * 3)


def test_pictures_that_cannot_be_written_are_not_lost(tmp_path: Path) -> None:
    drawn = image()
    result = Result((drawn, drawn), drawn.receipt, {})
    (tmp_path / "out-2.png").mkdir()
    with pytest.raises(ConfigError) as error:
        save_all(result, tmp_path / "out.png")
    assert f"gesso task fetch {drawn.receipt.task}" in error.value.hint
    (tmp_path / "out-2.png").rmdir()
    assert [Path(path).name for path in save_all(result, tmp_path / "out.png")] == ["out-1.png", "out-2.png"]


@pytest.mark.anyio
async def test_the_blocking_client_works_where_a_loop_runs(tmp_path: Path) -> None:
    """As in the cell of a notebook: it gets as far as the chain that is not there."""
    board = Address("0x" + "11" * 20)
    contracts = ContractAddresses(task_board=board, node_registry=board, marketplace=board, token=board)
    network = Network(name="gone", chain_id=1, rpc_url="http://127.0.0.1:9", contracts=contracts)
    with pytest.raises(Unreachable), Client(Settings(home=tmp_path, network=network)):
        pass


@pytest.mark.anyio
async def test_the_command_saves_what_was_drawn_and_says_what_was_not(tmp_path: Path) -> None:
    drawn = image()
    good, bad = specs("good", "bad")

    class Client:
        async def spec(self, prompt: str, **_: Any) -> TextToImage:
            return good

        async def quote(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(total=Wei(10**16), document=lambda: {"total": "0.01"})

        async def generate_many(self, prompts: list[str], *, on_drawn: Any, **_: Any) -> None:
            on_drawn(Drawn(1, bad, error=TaskFailed("it lapsed"), task=TASK))
            on_drawn(Drawn(0, good, Result((drawn, drawn), drawn.receipt, {})))

    out = Output("json", stdout=io.StringIO(), stderr=io.StringIO())
    terms: dict[str, Any] = {"settings": {}, "fee": None, "max_fee": None, "audit": "sampled", "settle": False}
    client: Any = Client()
    ended = await generate_all(client, out, ["good", "bad"], tmp_path / "out.png", **terms, dry_run=False)
    assert ended == 5
    said = out._stderr.getvalue()  # type: ignore[attr-defined]
    assert "2 prompts at 0.01 each, 0.02 in all" in said
    assert "failed: it lapsed" in said
    assert sorted([path.name async for path in anyio.Path(tmp_path).iterdir()]) == ["out-1-1.png", "out-1-2.png"]
    assert await generate_all(client, out, ["good", "bad"], tmp_path / "out.png", **terms, dry_run=True) == 0
    first, second = out._stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert '"total": "0.02"' in second
    assert first.index('"good"') < first.index('"bad"') < first.rindex(f'"task": "{TASK}"')


@pytest.mark.anyio
async def test_who_leaves_a_batch_is_told_where_its_pictures_are(tmp_path: Path) -> None:
    (good,) = specs("good")

    class Client:
        async def spec(self, prompt: str, **_: Any) -> TextToImage:
            return good

        async def quote(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(total=Wei(1))

        async def generate_many(self, *_: Any, on_ordered: Any, on_drawn: Any, **__: Any) -> None:
            on_ordered(Drawn(1, good, task=TASK))
            on_ordered(Drawn(0, good, task=TaskId(bytes(32))))
            on_drawn(Drawn(0, good, error=TaskFailed("it lapsed"), task=TaskId(bytes(32))))
            scope.cancel()
            await anyio.sleep_forever()

    client: Any = Client()
    out = Output("human", stdout=io.StringIO(), stderr=io.StringIO())
    terms: dict[str, Any] = {"settings": {}, "fee": None, "max_fee": None, "audit": "sampled", "settle": False}
    with anyio.CancelScope() as scope:
        await generate_all(client, out, ["good"] * 2, tmp_path / "my out.png", **terms, dry_run=False)
    talk = out._stderr.getvalue()  # type: ignore[attr-defined]
    assert "1 done, 1 under way" in talk
    assert f"\ngesso task fetch {TASK} -o '{tmp_path}/my out-2.png'\n" in talk
    assert talk.count("task fetch 0x") == 1, "what is done or failed is not under way"
    assert "next: gesso task ls" in talk


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "yes"), [("n", False), ("y", False), ("", True)])
async def test_a_person_is_asked_before_many_pictures_are_paid_for(
    answer: str, yes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (good,) = specs("good")
    asked: list[str] = []

    class Client:
        async def spec(self, prompt: str, **_: Any) -> TextToImage:
            return good

        async def quote(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(total=Wei(10**18))

        async def generate_many(self, *_: Any, max_total: str, **__: Any) -> None:
            assert max_total == "9", "no more than what was said yes to"
            asked.append("ordered")

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda: asked.append("asked") or answer)
    client: Any = Client()
    out = Output("human", stdout=io.StringIO(), stderr=io.StringIO())
    terms: dict[str, Any] = {"settings": {}, "fee": None, "max_fee": None, "audit": "sampled", "settle": False}
    order = partial(generate_all, client, out, ["good"] * 9, tmp_path / "out.png", **terms, dry_run=False, yes=yes)
    if answer == "n":
        with pytest.raises(UsageError, match="nothing was sent"):
            await order()
    else:
        assert await order() == 0
    assert asked == (["ordered"] if yes else ["asked"] if answer == "n" else ["asked", "ordered"])
