"""The lines of contracts/README.md that deploy a network do so, on every chain that gesso runs on."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from gesso.chain import DeploySettings
from gesso.chain.settings import ContractAddresses
from gesso.chain.wallet import Wallet

from .networks import DEPLOYER, Network

PAGE = Path(__file__).parents[3] / "contracts" / "README.md"
LIMIT_S = 100


def told(market: Network) -> str:
    """The page's Python, with this network's endpoint and token where a reader puts theirs."""
    (code,) = (block.split("```")[0] for block in PAGE.read_text().split("```python\n")[1:])
    for blank, ours in (("https://rpc.example.org", market.chain.rpc_url), ("0x…", market.contracts.token)):
        assert code.count(blank) == 1
        code = code.replace(blank, ours)
    return code


@pytest.mark.anyio
async def test_the_page_deploys_a_network(
    market: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Wallet.create(Path("deployer.json"), "its password", key=market.chain.accounts[DEPLOYER].key, strength="light")
    capsys.readouterr()
    with anyio.fail_after(LIMIT_S):
        await anyio.to_thread.run_sync(exec, compile(told(market), str(PAGE), "exec"), {})
    contracts = ContractAddresses(**json.loads(capsys.readouterr().out))
    assert contracts.token == market.contracts.token, "an ERC-20 that was there before"
    async with market.open(None, contracts=contracts) as chain:
        assert chain.arbiter is not None
        assert await chain.arbiter.rules() == DeploySettings().audits
        assert await chain.arbiter.is_drand()
