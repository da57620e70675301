"""The SDK's guide is true: its code runs from top to bottom on a network, as a stranger would paste it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from training_acts import photos

import gesso
from gesso.chain.wallet import Wallet
from gesso.cli.join import join
from gesso.cli.output import Common
from gesso.settings import write_network
from gesso_devnet import Devnet
from gesso_protocol.errors import Unreachable

pytestmark = pytest.mark.anyio

GUIDE = Path(gesso.__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
PICTURES = ("ring", "circle-0", "circle-1", "red", "green", "blue", "zbx")


async def test_every_block_of_the_guide_runs(net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _home(net, tmp_path / "home")
    monkeypatch.setenv("GESSO_HOME", str(tmp_path / "home"))
    photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()

    def run() -> None:
        with contextlib.redirect_stdout(said):
            for number, block in enumerate(BLOCKS):
                exec(compile(block, f"block {number} of {GUIDE.name}", "exec"), {"__name__": "guide"})

    with anyio.fail_after(240):
        await to_thread.run_sync(run)
    assert len(BLOCKS) >= 6
    assert all((tmp_path / f"{name}.png").stat().st_size for name in PICTURES)
    assert "fee-too-low" in said.getvalue()
    assert "Stats(uses=1" in said.getvalue()


async def test_who_knows_a_relay_joins_its_network(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    await join(f"{net.relay.url}/", name="near", common=Common("json"))
    async with gesso.AsyncClient(gesso.Settings.load(network="near")) as client:
        assert [listing.name for listing in await client.models()]
    with pytest.raises(Unreachable):
        await join("http://127.0.0.1:9", common=Common("json"))


async def _home(net: Devnet, home: Path) -> None:
    """A user's folder and deposit, as `gesso devnet up` leaves them."""
    write_network(home, net.network.model_copy(update={"wallet": "user"}))
    key = net.running.accounts[-1].key
    wallet = Wallet.create(home / "wallets" / "user.json", "pass", key=key, strength="light")
    (home / "wallets" / "user.password").write_text("pass")
    await net.fund(wallet.address, 10**20)
    async with net.client(wallet, peer=False) as client:
        await client.deposit("50")
