"""Who is asked can say no in every way that terminals know."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import anyio
import pytest

from gesso.asking import ask_secret
from gesso.cli import app
from gesso.cli.wallet import confirm, new_password
from gesso_protocol.errors import UsageError, WalletError


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.delenv("GESSO_PASSWORD", raising=False)


def interrupted(_: str = "") -> str:
    """What the keyboard does on Ctrl-C, and what is typed after that when nobody hears of it."""
    signal.raise_signal(signal.SIGINT)
    return "y"


def ended(_: str = "") -> str:
    raise EOFError


def test_ctrl_c_is_a_no_also_where_an_event_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    async def command() -> None:
        confirm("send it?", yes=False)
        sent.append("money")

    async def unlocked() -> None:
        sent.append(ask_secret("password: "))

    monkeypatch.setattr("builtins.input", interrupted)
    monkeypatch.setattr("getpass.getpass", interrupted)
    for main in (command, unlocked):
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            anyio.run(main)
        assert signal.getsignal(signal.SIGINT) is before
    assert sent == []


def test_ctrl_c_while_the_program_loads_keeps_it_from_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio has the first one wait for the next await, and a question is none: it took a second one."""
    asked: list[str] = []

    async def unlocked() -> None:
        signal.raise_signal(signal.SIGINT)  # as within an import
        asked.append(ask_secret("password: "))

    monkeypatch.setattr("getpass.getpass", lambda _: "secret")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of the background is deaf to it otherwise
    try:
        with pytest.raises(KeyboardInterrupt):
            anyio.run(unlocked)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == []


def test_the_end_of_the_input_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", ended)
    monkeypatch.setattr("getpass.getpass", ended)
    with pytest.raises(UsageError, match="nothing was sent"):
        confirm("send it?", yes=False)
    with pytest.raises(WalletError, match="an empty password"):
        new_password(None)


def test_ctrl_c_within_a_group_of_tasks_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def within(*_: object) -> None:
        raise BaseExceptionGroup("unhandled errors in a TaskGroup", [KeyboardInterrupt()])

    monkeypatch.setattr("gesso.cli.wallet.new", within)
    assert app.main(["wallet", "new"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
