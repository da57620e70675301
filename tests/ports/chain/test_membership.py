"""An operator's commands on a real chain: pause, resume, more stake, leave, and every token out again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.chain import Chain, NodeState, Wallet
from gesso_node.cli import app as cli
from gesso_node.cli.chosen import OfNode
from gesso_protocol.errors import ConfigError, GasMissing, InsufficientFunds, TooEarly, UsageError
from gesso_protocol.money import Wei

from .networks import NODE, ONE, OTHER, STAKE, Network

pytestmark = pytest.mark.anyio


@pytest.fixture
async def config(market: Network, tmp_path: Path) -> Path:
    """Settings of the registered node, as `gesso node init` writes them."""
    keystore, password = tmp_path / "wallet.json", anyio.Path(tmp_path / "password")
    Wallet.create(keystore, "pass", key=market.chain.accounts[NODE].key, strength="light")
    await password.write_text("pass")
    document = {
        "data_dir": str(tmp_path / "data"),
        "chain": market.settings().model_dump(mode="json", include={"rpc_url", "contracts"}),
        "wallet": {"keystore": str(keystore), "password_file": str(password)},
    }
    await anyio.Path(tmp_path / "config.json").write_text(json.dumps(document))
    return tmp_path / "config.json"


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


async def test_pause_and_resume(market: Network, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = OfNode(config, "json")
    await cli.pause(common=common)
    assert told(capsys)["state"] == "paused"
    async with market.open(None) as chain:
        assert (await chain.node(market.wallet(NODE).address)).state is NodeState.PAUSED
    with pytest.raises(UsageError, match="is paused"):
        await cli.pause(common=common)
    await cli.resume(common=common)
    assert told(capsys)["weight"] == 1
    with pytest.raises(UsageError, match="is active"):
        await cli.resume(common=common)


async def test_more_stake_is_more_weight(market: Network, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await cli.stake("100", yes=True, common=OfNode(config, "json"))
    said = told(capsys)
    assert (said["stake"], said["weight"]) == ("200", 2)
    with pytest.raises(InsufficientFunds) as poor:
        await cli.stake("1000000000", yes=True, common=OfNode(config))
    assert str(market.wallet(NODE).address) in poor.value.hint
    with pytest.raises(UsageError, match="nobody is there to ask"):
        await cli.stake("1", common=OfNode(config))


async def test_who_leaves_takes_everything_along(
    market: Network, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common, cold = OfNode(config, "json"), market.wallet(OTHER).address
    async with market.open(NODE) as node:
        await node.deposit(Wei(3 * ONE))  # earnings arrive on the board too
        held = await node.token_balance_of(node.address)
        others = await node.token_balance_of(cold)
        await cli.leave(yes=True, common=common)
        said = told(capsys)
        assert said["state"] == "unbonding"
        assert said["free_in"].endswith("min")

        await cli.withdraw(yes=True, common=common)
        said = told(capsys)
        assert (said["earnings"], said["stake"], said["sent"]) == ("3", "0", "0")
        with pytest.raises(TooEarly, match="not free") as nothing:
            await cli.withdraw("atelier", yes=True, common=common)
        assert re.match(r"it is in \d+ min.*: gesso node withdraw --config \S+config.json;", nothing.value.hint)
        with pytest.raises(UsageError, match="is unbonding") as gone:
            await cli.pause("atelier", common=common)
        assert gone.value.hint.endswith(f"gesso node withdraw --config {config}")  # as it was named
        with pytest.raises(ConfigError, match=r"no node at \S+none.json") as missing:
            await cli.pause(common=OfNode(config.with_name("none.json")))
        assert "init" not in missing.value.hint

        await market.warp(901)
        await cli.withdraw(to=str(cold), keep="2", yes=True, common=common)
        said = told(capsys)
        assert (said["stake"], said["tokens"]) == ("100", "2")
        assert await node.token_balance_of(cold) == others + held + 3 * ONE + STAKE - 2 * ONE
        assert (await node.node(node.address)).state is NodeState.NONE
    with pytest.raises(UsageError, match="is not registered"):
        await cli.leave(yes=True, common=common)


async def test_without_gas_money_the_address_is_named(market: Network) -> None:
    poor = Wallet.from_key(b"\x09" * 32)
    async with Chain.open(market.settings(), poor) as chain:
        with pytest.raises(GasMissing) as missing:
            await chain.transfer_tokens(market.wallet(NODE).address, Wei(0))
    assert missing.value.hint.endswith(str(poor.address))
