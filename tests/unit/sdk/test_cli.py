"""The command line: exit codes, errors without tracebacks, data apart from talk."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import pytest

from gesso.cli import app, failure
from gesso.cli.live import TaskLine, bar
from gesso.cli.output import Output, columns_text, pairs
from gesso.cli.saving import names
from gesso_protocol import errors, events
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.ids import ZERO_ADDRESS, Root, TaskId
from gesso_protocol.money import Wei

TASK = TaskId(b"\x07" * 32)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NETWORK", "WALLET", "PASSWORD", "RPC_URL", "RELAY_URL", "TRANSPORT", "MAX_FEE", "DEBUG"):
        monkeypatch.delenv(f"GESSO_{name}", raising=False)
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_no_network_is_exit_3_with_a_hint_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["model", "ls"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "gesso devnet up" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.usefixtures("home")
def test_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["model", "ls", "--format", "json"]) == 3
    document = json.loads(capsys.readouterr().err)
    assert document["error"]["code"] == "config-invalid"


@pytest.mark.parametrize("argv", [["generate"], ["task", "show"], ["nonsense"], ["task", "ls", "--limit", "many"]])
def test_wrong_usage_is_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, hint = told.err.splitlines()
    assert first.startswith("error: ")
    assert hint.startswith("  see: gesso")
    assert app.main([*argv, "--format", "json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"
    assert "Traceback" not in capsys.readouterr().err


def test_help_and_version_are_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--help"]) == 0
    assert "generate" in capsys.readouterr().out
    assert app.main(["--version"]) == 0


def test_a_missing_extra_is_one_sentence_with_the_install_command() -> None:
    missing = ModuleNotFoundError("No module named 'libp2p'", name="libp2p.host")
    found = failure.known_failure(missing, app._EXTRA_OF_MODULE)
    assert found is not None
    assert found.hint == "pip install 'gesso[p2p]'"
    assert found.exit_code == 3
    assert failure.known_failure(ModuleNotFoundError("x", name="ours"), app._EXTRA_OF_MODULE) is None


def test_a_typed_error_inside_a_group_is_the_one_shown() -> None:
    group = BaseExceptionGroup("g", [RuntimeError("noise"), ExceptionGroup("h", [errors.FeeTooLow("too little")])])
    found = failure.known_failure(group, {})
    assert found is not None
    assert (found.code, found.exit_code) == ("fee-too-low", 4)


def test_a_full_disk_is_no_bug() -> None:
    group = ExceptionGroup("g", [OSError(errno.ENOSPC, "No space left on device", "/far/out.png")])
    found = failure.known_failure(group, {})
    assert found is not None
    assert (found.message, found.exit_code) == ("/far/out.png cannot be written: No space left on device", 3)
    assert failure.known_failure(OSError(errno.EIO, "broken"), {}) is None


@pytest.mark.parametrize("kind", list(errors.error_tree()))
def test_every_error_leaf_can_be_shown(kind: type[errors.GessoError]) -> None:
    made = kind("x")
    found = failure.known_failure(made, {})
    assert found is not None
    assert json.loads(found.to_json())["error"]["code"] == kind.code


def test_wallet_new_makes_a_keystore_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "secret").write_text("correct horse\n")
    argv = ["wallet", "new", "mine", "--password-file", str(home / "secret"), "--format", "json"]
    assert app.main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    assert Path(document["keystore"]).is_file()
    assert "correct horse" not in Path(document["keystore"]).read_text()
    assert app.main(argv) == 3


def output(form: str = "human") -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(form, stdout=out, stderr=err), out, err  # type: ignore[arg-type]


def test_data_goes_to_stdout_and_talk_to_stderr() -> None:
    sink, out, err = output("json")
    sink.result({"a": 1})
    sink.say("talk")
    sink.hint("gesso next")
    assert json.loads(out.getvalue()) == {"a": 1}
    assert err.getvalue() == "talk\n"


def test_hints_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, _, err = output()
    sink.hint("gesso task ls")
    monkeypatch.setenv("GESSO_NO_HINTS", "1")
    sink.hint("gesso task show")
    assert err.getvalue() == "next: gesso task ls\n"


def test_tables_align_and_empty_ones_are_said() -> None:
    assert columns_text([{"a": "xyz", "b": None}], ["a", "b"]) == "A    B\nxyz  -"
    assert pairs({"a": 1, "long": [1, 2], "sub": {"x": ()}}) == "a     1\nlong  1, 2\nsub\n  x  -"
    sink, out, err = output()
    sink.table([], ["a"], empty="none yet")
    assert (out.getvalue(), err.getvalue()) == ("", "none yet\n")


def test_a_task_is_told_stage_by_stage_when_nobody_watches_live() -> None:
    sink, _, err = output()
    line = TaskLine(sink)
    line.show(events.Submitted(task=TASK, at_ms=1, fee=Wei(1)))
    line.show(events.Claimed(task=TASK, at_ms=2, node=ZERO_ADDRESS, commit_by=9))
    for index in (1, 2):
        line.show(events.Step(task=TASK, at_ms=3, index=index, total=2))
    line.show(events.StopRequested(task=TASK, at_ms=3, node=ZERO_ADDRESS))
    line.show(events.PartCommitted(task=TASK, at_ms=3, node=ZERO_ADDRESS, done_bps=1234, stop_requested=True))
    line.show(events.RestReturned(task=TASK, at_ms=3, refund=Wei(10**17)))
    line.show(events.Settled(task=TASK, at_ms=4, node=ZERO_ADDRESS, paid=Wei(1)))
    line.close()
    assert err.getvalue().splitlines() == [
        "submitted", f"claimed by {ZERO_ADDRESS.short}", "step 2/2", "asked to stop", "12.34 % done", "0.1 came back",
        "settled",
    ]  # fmt: skip


def test_the_last_step_is_said_once_for_each_picture() -> None:
    for pictures, said in ((1, ["step 2/2"]), (2, ["picture 1/2 step 2/2", "picture 2/2 step 2/2"])):
        sink, _, err = output()
        line = TaskLine(sink, pictures=pictures)
        line.show(events.Step(task=TASK, at_ms=0, index=2, total=2))  # of an old task, before the chain has spoken
        line.show(events.Submitted(task=TASK, at_ms=1, fee=Wei(1)))
        for image in range(pictures):
            for index, node in ((2, None), (1, ZERO_ADDRESS), (2, ZERO_ADDRESS)):  # two draw, before one has claimed
                line.show(events.Step(task=TASK, at_ms=3, index=index, total=2, image=image, node=node))
        assert err.getvalue().splitlines() == ["submitted", *said]


def test_steps_that_came_before_the_claim_go_on_after_it() -> None:
    sink, _, _ = output()
    line = TaskLine(sink)
    line.show(events.Submitted(task=TASK, at_ms=1, fee=Wei(1)))
    line.show(events.Step(task=TASK, at_ms=2, index=1, total=2))
    line.show(events.Claimed(task=TASK, at_ms=3, node=ZERO_ADDRESS, commit_by=9))
    line.show(events.Step(task=TASK, at_ms=4, index=2, total=2))
    line.show(events.Settled(task=TASK, at_ms=5, node=ZERO_ADDRESS, paid=Wei(1)))
    assert line._stages == ["submitted", f"claimed by {ZERO_ADDRESS.short}", "step 2/2", "settled"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["wallet", "deposit", "abc"], "an amount is written like 0.02"),
        (["wallet", "withdraw", "1e3"], "an amount is written like 0.02"),
        (["devnet", "up", "--nodes", "0"], "nodes: "),
        (["generate", " "], "the prompt is empty"),
        (["devnet", "logs"], "nothing has a log yet"),
        (["earnings", "0x12"], "'0x12' is not an address"),
        (["devnet", "logs", "bogus"], "no actor named 'bogus' has a log"),
        (["devnet", "fund", "0x12", "5"], "gesso devnet fund does not know what to do with: 5"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_slip_is_named_before_anything_is_asked(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(argv) in (2, 3)
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_shells_can_complete_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("generate", "fetch", "leave", "audit", "snapshot"))


def test_progress_bars_and_file_names() -> None:
    assert len(bar(3, 7)) == len(bar(0, 0)) == 16
    assert names(Path("out.png"), 1) == [Path("out.png")]
    assert names(Path("a/out.png"), 2) == [Path("a/out-1.png"), Path("a/out-2.png")]


def test_a_dispute_is_told_from_the_pick_to_the_refund() -> None:
    sink, _, err = output()
    line = TaskLine(sink)
    zero, who = ZERO_ADDRESS, ZERO_ADDRESS.short
    task: dict[str, Any] = {"task": TASK, "at_ms": 1}
    story: list[events.Event] = [
        events.AuditOpened(**task, auditor=zero, challenge="0x" + "01" * 32, round=4, commit_by=9),
        events.AuditCommitted(**task, auditor=zero),
        events.AuditRevealed(
            **task, auditor=zero, verdict=AuditVerdict.FLAG, profile="0x" + "02" * 32, projection=(0,) * 16
        ),
        events.AuditClosed(**task, outcome=AuditOutcome.DISPUTED),
        events.DisputeOpened(**task, by=zero, level=0, round=8),
        events.VoteRevealed(**task, juror=zero, level=0, vote=2),
        events.DisputeTallied(**task, level=0, outcome=DisputeOutcome.GUILTY, appeal_by=99),
        events.Expired(**task, refund=Wei(1), node=zero),
        events.DisputeExecuted(**task, outcome=DisputeOutcome.GUILTY, slashed=Wei(10**19)),
    ]
    for event in story:
        line.show(event)
    assert err.getvalue().splitlines() == [
        f"audit: picked, {who} checks it", f"{who} checks it too", f"{who} FLAGS it", "disputed",
        f"dispute: brought by {who}",
        f"juror {who}: bad", "GUILTY", "fee refunded", "slashed 10",
    ]  # fmt: skip


def test_a_fee_that_nobody_has_is_not_called_refunded() -> None:
    sink, _, err = output()
    TaskLine(sink).show(events.Expired(task=TASK, at_ms=1, refund=Wei(0), node=ZERO_ADDRESS))
    assert err.getvalue() == "in doubt, fee burned\n"


def test_what_speaks_against_a_node_is_red_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    err = Terminal()
    line = TaskLine(Output("human", stdout=io.StringIO(), stderr=err))
    line.show(events.VoteRevealed(task=TASK, at_ms=1, juror=ZERO_ADDRESS, level=0, vote=2))
    line.show(events.DisputeTallied(task=TASK, at_ms=1, level=0, outcome=DisputeOutcome.GUILTY, appeal_by=99))
    assert err.getvalue().endswith(f"juror {ZERO_ADDRESS.short}\x1b[31m: bad\x1b[0m ─ \x1b[31mGUILTY\x1b[0m")


def test_a_pause_of_a_training_is_told_and_its_end_too() -> None:
    (sink, _, err), root = output(), Root(bytes(32))
    line = TaskLine(sink)
    line.show(events.Claimed(task=TASK, at_ms=1, node=ZERO_ADDRESS, commit_by=1))
    line.show(events.TrainingPaused(task=TASK, at_ms=1, index=7, total=40))
    line.show(events.TrainingPaused(task=TASK, at_ms=1, index=8, total=40, over=True))
    line.show(
        events.Committed(task=TASK, at_ms=1, node=ZERO_ADDRESS, result_root=root, trace_root=root, settle_after=9)
    )
    assert err.getvalue().splitlines()[1:] == [
        "step 7/40: paused, its node checks others' work", "step 8/40: it goes on", "committed"
    ]  # fmt: skip


def test_a_line_that_would_wrap_goes_on_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, _, err = output()
    monkeypatch.setattr(Output, "live", True)
    monkeypatch.setenv("COLUMNS", "30")
    line = TaskLine(sink)
    for number in range(4):
        line.show(events.Claimed(task=TASK, at_ms=1, node=ZERO_ADDRESS, commit_by=number))
        line.show(events.Claimed(task=TASK, at_ms=2, node=ZERO_ADDRESS, commit_by=number))  # heard twice
    line.show(events.Step(task=TASK, at_ms=1, index=1, total=2))
    line.show(events.TrainingStep(task=TASK, at_ms=1, index=1, total=20000, loss=0.25))
    line.close()
    drawn = [part.split("\r\x1b[2K")[-1] for part in err.getvalue().split("\n")[:-1]]
    assert drawn[:4] == [f"claimed by {ZERO_ADDRESS.short}"] * 4
    assert drawn[4].endswith("step 1/20000 loss 0.2500")
