"""The relay as a process of its own over a real chain: killed, started again, the chain forked under it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from gesso.blobs import HttpBlobs
from gesso.chain import Chain, ChainSettings, DeploySettings
from gesso.chain.deploy import deploy
from gesso.chain.rpc import Rpc
from gesso.chain.wallet import Wallet
from gesso.settings import Network
from gesso_devnet.chain.funding import Funds, fund
from gesso_devnet.chain.start import start_chain
from gesso_protocol.ids import NO_LISTING, BlobRef, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import Terms
from gesso_relay import RelaySettings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ONE = 10**18


@dataclass
class World:
    """A chain with our contracts, a requester with money, and where the relay keeps its things."""

    rpc: Rpc
    settings: ChainSettings
    requester: Wallet
    folder: Path
    nonce: int = 0

    def config(self, **values: object) -> Path:
        made = RelaySettings(data_dir=self.folder / "relay", chain=self.settings, index_poll_s=0.05, listen_port=0)
        path = self.folder / "relay.json"
        path.write_text(json.dumps(made.model_dump(mode="json") | values))
        return path

    async def submit(self, chain: Chain) -> TaskId:
        self.nonce += 1
        made = Terms(
            requester=self.requester.address,
            fee=Wei(ONE),
            spec=BlobRef.of(b"spec"),
            model=NO_LISTING,
            claim_window_s=600,
            commit_window_s=600,
            nonce=self.nonce,
        )
        await chain.submit(made)
        return chain.task_id(made)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with start_chain("embedded", block_time_s=0) as chain, Rpc(chain.rpc_url, timeout_s=60) as rpc:
        giver, requester = (Wallet.from_key(account.key) for account in chain.accounts[:2])
        contracts = await deploy(chain.rpc_url, giver, DeploySettings.devnet())
        await fund(chain.rpc_url, contracts, giver, {requester.address: Funds(coin=Wei(0))})
        settings = ChainSettings(rpc_url=chain.rpc_url, contracts=contracts, receipt_poll_s=0.02)
        yield World(rpc, settings, requester, tmp_path)


@contextmanager
def relay_process(config: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A relay that has said that it is ready, and its URL. Killed hard at the end if it still runs."""
    command = [sys.executable, "-m", "gesso_relay", "--config", str(config), "--log-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            ready = json.loads(line)
            assert ready["ready"] is True
            yield process, ready["url"]
        finally:
            process.kill()


async def state_of(url: str, task: TaskId, wanted: str | None) -> dict[str, Any]:
    """The task's document once the relay shows it in that state (None: not at all)."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        with anyio.fail_after(60):
            while True:
                reply = await client.get(f"/v1/tasks/{task}")
                found = reply.json() if reply.status_code == 200 else {}
                if found.get("state") == wanted:
                    return dict(found)


async def json_of(url: str) -> Any:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return (await client.get(url)).json()


async def test_a_relay_killed_and_started_again_knows_what_it_missed(world: World) -> None:
    async with Chain.open(world.settings, world.requester) as chain:
        await chain.deposit(Wei(10 * ONE))
        with relay_process(world.config()) as (process, url):
            first = await world.submit(chain)
            await state_of(url, first, "submitted")
            async with HttpBlobs(url) as blobs:
                ref = await blobs.put(b"kept over a kill")
            process.kill()
        second = await world.submit(chain)
        with relay_process(world.config()) as (process, url):
            found = await state_of(url, second, "submitted")
            assert found["requester"] == world.requester.address
            await state_of(url, first, "submitted")
            async with HttpBlobs(url) as blobs:
                assert await blobs.get(ref, max_bytes=100) == b"kept over a kill"
            process.terminate()
            assert process.wait(60) == 0


async def test_a_fork_of_the_real_chain_is_followed(world: World) -> None:
    async with Chain.open(world.settings, world.requester) as chain:
        await chain.deposit(Wei(10 * ONE))
        with relay_process(world.config()) as (_, url):
            kept = await world.submit(chain)
            await state_of(url, kept, "submitted")
            snapshot = await world.rpc.request("evm_snapshot")
            lost = await world.submit(chain)
            await state_of(url, lost, "submitted")
            await world.rpc.request("evm_revert", snapshot)
            await world.rpc.request("evm_mine")
            await state_of(url, lost, None)
            await state_of(url, kept, "submitted")
            health = await json_of(f"{url}/v1/health")
            assert health["index"]["rewinds"] == 1


async def test_the_network_document_is_enough_to_join(world: World) -> None:
    with relay_process(world.config()) as (_, url):
        document = await json_of(f"{url}/v1/network")
        network = Network.model_validate(document["network"])
        assert (network.contracts, network.rpc_url) == (world.settings.contracts, world.settings.rpc_url)
        settings = ChainSettings(rpc_url=network.rpc_url, contracts=network.contracts, chain_id=network.chain_id)
        async with Chain.open(settings) as chain:
            assert document["params"] == (await chain.params()).model_dump(mode="json")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"listen_prot": 1}, 3, "did you mean 'listen_port'"),
        ({"listen_host": "203.0.113.1"}, 3, "cannot listen"),
        ({"database_url": "postgresql://nobody@127.0.0.1:1/none"}, 3, "index database"),
    ],
)
async def test_what_is_wrong_is_said_in_two_lines(
    world: World, changes: dict[str, object], status: int, words: str
) -> None:
    command = [sys.executable, "-m", "gesso_relay", "--config", str(world.config(**changes))]
    done = await anyio.run_process(command, check=False)
    error = [line for line in done.stderr.decode().splitlines() if line.startswith(("error:", "hint:", "Traceback"))]
    assert done.returncode == status
    assert words in error[0]
    assert [line.split(":")[0] for line in error] == ["error", "hint"]
    assert done.stdout == b""


async def test_a_chain_that_is_not_there_is_unreachable(tmp_path: Path, world: World) -> None:
    world.settings = world.settings.model_copy(update={"rpc_url": "http://127.0.0.1:1"})
    command = [sys.executable, "-m", "gesso_relay", "--config", str(world.config())]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == 7
    assert b"Traceback" not in done.stderr
