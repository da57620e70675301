"""Commands over a chain that is none: what only looks asks for no password, and what is printed fits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet
from gesso.cli import app
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei

NETWORK = {
    "name": "far",
    "chain_id": 5,
    "rpc_url": "http://127.0.0.1:1",
    "contracts": {
        name: f"0x{number:040x}"
        for number, name in enumerate(("task_board", "node_registry", "marketplace", "token"), start=1)
    },
}


OWNER = "0x" + "07" * 20


class ChainDouble:
    """Holds ten tokens of whoever is asked for; opened with a wallet or without."""

    def __init__(self, settings: ChainSettings, wallet: Wallet | None) -> None:
        self.wallet = wallet
        self.arbiter = None
        self.settings = settings
        self.asked: list[Address] = []

    async def token_balance_of(self, account: Address) -> Wei:
        self.asked.append(account)
        return Wei(10**19)

    balance_of = native_balance_of = token_balance_of


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    """A wallet whose password nobody here can give."""
    for name in ("PASSWORD", "PASSWORD_FILE", "RPC_URL", "RELAY_URL", "TRANSPORT", "MAX_FEE"):
        monkeypatch.delenv(f"GESSO_{name}", raising=False)
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    monkeypatch.setenv("GESSO_NETWORK", "far")
    monkeypatch.setenv("GESSO_WALLET", "mine")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "far.json").write_text(json.dumps(NETWORK))
    return Wallet.create(tmp_path / "wallets" / "mine.json", "secret", strength="light").address


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[ChainDouble]:
    """Every chain that a command opened."""
    chains: list[ChainDouble] = []

    @asynccontextmanager
    async def open_chain(settings: ChainSettings, wallet: Wallet | None = None) -> AsyncIterator[ChainDouble]:
        chains.append(ChainDouble(settings, wallet))
        yield chains[-1]

    monkeypatch.setattr("gesso.wiring.Chain", SimpleNamespace(open=open_chain))
    return chains


def test_a_locked_wallet_can_be_shown(
    me: Address, opened: list[ChainDouble], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["wallet", "show", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["address"], shown["deposit"]) == (str(me), "10")
    assert [(chain.wallet, set(chain.asked)) for chain in opened] == [(None, {me})]


@pytest.mark.parametrize("argv", [["task", "ls"], ["model", "ls", "--mine"], ["earnings"]], ids=" ".join)
def test_a_list_of_what_is_mine_asks_for_no_password(
    argv: list[str], me: Address, opened: list[ChainDouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    of: list[Address | None] = []

    async def tasks(_: object, *, requester: Address | None, **__: Any) -> list[Any]:
        of.append(requester)
        return []

    async def search(_: object, wanted: Any) -> list[Any]:
        of.append(wanted.owner)
        return []

    async def read_earnings(_: object, account: Address) -> Any:
        of.append(account)
        return SimpleNamespace(
            account=account, block=1, earned=(), tasks=0, total_earned=0, penalties=(), checks=(), document=dict,
            reconciled=True,
        )  # fmt: skip

    monkeypatch.setattr("gesso.directory.Directory.tasks", tasks)
    monkeypatch.setattr("gesso.directory.Directory.search", search)
    monkeypatch.setattr("gesso.client.read_earnings", read_earnings)
    assert app.main(argv) == 0
    assert of == [me]
    assert opened[0].wallet is None


@pytest.mark.usefixtures("me")
def test_a_list_of_everybodys_needs_no_wallet(opened: list[ChainDouble], monkeypatch: pytest.MonkeyPatch) -> None:
    async def tasks(_: object, **__: Any) -> list[Any]:
        return []

    monkeypatch.setattr("gesso.directory.Directory.tasks", tasks)
    monkeypatch.delenv("GESSO_WALLET")
    assert app.main(["task", "ls", "--all"]) == 0
    assert opened[0].wallet is None


def test_a_deposit_is_proposed_to_the_wallet_that_pays_and_to_no_other(
    me: Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nothing(*_: object) -> None:
        return

    (tmp_path / "networks" / "devnet.json").write_text(json.dumps(NETWORK | {"name": "devnet"}))
    network = SimpleNamespace(rpc_url="", contracts=None)
    monkeypatch.setattr("gesso_devnet.cli.Stack.state", lambda _: SimpleNamespace(network=network))
    monkeypatch.setattr("gesso_devnet.controls.fund", nothing)
    for address, proposed in ((str(me), True), ("0x" + "07" * 20, False)):
        assert app.main(["devnet", "fund", address, "--tokens", "5"]) == 0
        assert ("gesso wallet deposit 5" in capsys.readouterr().err) is proposed


@pytest.mark.usefixtures("me", "opened")
def test_what_signs_still_needs_the_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main(["wallet", "deposit", "1", "--yes"]) == 3
    assert "GESSO_PASSWORD_FILE" in capsys.readouterr().err


@pytest.mark.usefixtures("me", "opened")
def test_a_row_of_a_model_fits_a_line_for_people_and_is_whole_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"model": "alice/zbx@1", "kind": "lora", "price": "8 %", "uses": 12, "earned": "0.123456", "owner": OWNER}

    async def search(*_: object) -> list[Any]:
        return [SimpleNamespace(document=lambda: row)]

    monkeypatch.setattr("gesso.directory.Directory.search", search)
    assert app.main(["model", "search"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 80
    assert app.main(["model", "search", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [row]
