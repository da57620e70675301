"""Local chains start, answer, and are gone afterwards, also when their starter dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from gesso.chain.rpc import Rpc
from gesso_devnet.chain import start
from gesso_devnet.chain.accounts import known_accounts
from gesso_devnet.chain.anvil import find_anvil
from gesso_devnet.chain.start import ChainKind, choose, start_chain, wait_until_up
from gesso_protocol.errors import ChainError, ConfigError, Unreachable

pytestmark = pytest.mark.anyio
LIMIT_S = 60

STARTER = """
import asyncio, sys
from gesso_devnet.chain.start import start_chain
async def main():
    async with start_chain("{kind}") as chain:
        print(chain.rpc_url, flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""


@pytest.fixture(params=["embedded", "anvil"])
def kind(request: pytest.FixtureRequest) -> ChainKind:
    if request.param == "anvil" and find_anvil() is None:
        pytest.skip("anvil is not installed here")
    chosen: ChainKind = request.param
    return chosen


async def gone(url: str) -> None:
    async with Rpc(url, timeout_s=2) as rpc:
        while True:
            try:
                await rpc.chain_id()
            except Unreachable:
                return
            await anyio.sleep(0.02)


async def test_a_chain_makes_blocks_on_its_own_and_stops(kind: ChainKind) -> None:
    with anyio.fail_after(LIMIT_S):
        async with start_chain(kind, block_time_s=0.1) as chain, Rpc(chain.rpc_url, timeout_s=60) as rpc:
            assert (chain.kind, chain.chain_id) == (kind, 31337)
            assert await rpc.balance(chain.accounts[0].address) == 10_000 * 10**18
            while True:
                if await rpc.block_number() >= 3:
                    break
                await anyio.sleep(0.02)
        await gone(chain.rpc_url)


async def test_a_chain_does_not_outlive_a_killed_starter(kind: ChainKind) -> None:
    with anyio.fail_after(LIMIT_S):
        command = [sys.executable, "-c", STARTER.format(kind=kind)]
        async with await anyio.open_process(command, stdin=None) as starter:
            url = await first_line(starter)
            async with Rpc(url, timeout_s=60) as rpc:
                assert await rpc.chain_id() == 31337
            os.kill(starter.pid, signal.SIGKILL)
            await starter.wait()
        await gone(url)


async def first_line(process: Process) -> str:
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        text += await process.stdout.receive()
    return text.decode().strip()


async def test_waiting_for_a_dead_process_ends_at_once() -> None:
    with anyio.fail_after(60), pytest.raises(ChainError, match="stopped before it answered"):
        await wait_until_up("http://127.0.0.1:9", alive=lambda: False)


async def test_waiting_for_a_silent_one_ends_too() -> None:
    with anyio.fail_after(60), pytest.raises(ChainError, match="did not answer"):
        await wait_until_up("http://127.0.0.1:9", alive=lambda: True, timeout_s=0.1)


async def test_a_taken_port_is_an_error_not_a_hang(kind: ChainKind) -> None:
    with anyio.fail_after(LIMIT_S):
        async with start_chain("embedded") as first:
            port = int(first.rpc_url.rsplit(":", 1)[1])
            # The port answers, but not for the new process: it must not be taken for the one just started.
            with pytest.raises(ChainError):
                async with start_chain(kind, port=port):
                    pass


def test_auto_falls_back_to_what_pip_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "find_anvil", lambda: None)
    assert choose("auto") == "embedded"
    with pytest.raises(ConfigError, match="anvil is not on PATH") as missing:
        choose("anvil")
    assert "scripts/setup --contracts" in missing.value.hint


def test_anvil_is_found_in_a_lockfiles_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    binary = tmp_path / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    binary.parent.mkdir(parents=True)
    binary.touch()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_anvil(deep) == binary


def test_the_known_accounts_are_the_ones_everybody_knows() -> None:
    first, second = known_accounts(2)
    assert first.address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert second.address == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    assert first.key.hex() not in repr(first)
    with pytest.raises(ValueError, match="1 to 1000"):
        known_accounts(0)
