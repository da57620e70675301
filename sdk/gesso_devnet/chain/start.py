"""Start a local chain as a process of its own, wait until it answers, and stop it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import BinaryIO, Literal, Self

import aiohttp
import anyio

from gesso_devnet import ports
from gesso_devnet.chain.accounts import TestAccount, known_accounts
from gesso_devnet.chain.anvil import HOW_TO_GET_IT, MISSING, anvil_command, find_anvil
from gesso_devnet.chain.nursery import STOP_TIMEOUT_S, Nursery
from gesso_protocol.errors import ChainError, ConfigError

ChainKind = Literal["auto", "anvil", "embedded"]

LOCAL_CHAIN_ID = 31_337
START_TIMEOUT_S = 30.0
POLL_S = 0.03
PORT_ATTEMPTS = 3


@dataclass(frozen=True)
class RunningChain:
    """A chain that answers on `rpc_url`. The accounts' keys are public test keys."""

    kind: Literal["anvil", "embedded"]
    rpc_url: str
    chain_id: int
    accounts: tuple[TestAccount, ...] = field(repr=False)


def choose(kind: ChainKind) -> Literal["anvil", "embedded"]:
    """What `auto` means here. Raises ConfigError when anvil is asked for by name and absent."""
    if kind == "embedded":
        return "embedded"
    if find_anvil() is not None:
        return "anvil"
    if kind == "anvil":
        raise ConfigError(MISSING, hint=HOW_TO_GET_IT)
    return "embedded"


def chain_command(
    kind: ChainKind,
    *,
    port: int,
    block_time_s: float,
    host: str = "127.0.0.1",
    chain_id: int = LOCAL_CHAIN_ID,
    accounts: int = 10,
) -> list[str]:
    """The command line that runs such a chain in the foreground, for whoever supervises processes."""
    program = find_anvil()
    if choose(kind) == "anvil" and program is not None:
        return anvil_command(
            program, host=host, port=port, block_time_s=block_time_s, chain_id=chain_id, accounts=accounts
        )
    command = [sys.executable, "-m", "gesso_devnet.chain.embedded", "--host", host, "--port", str(port)]
    command += ["--block-time", f"{block_time_s:g}", "--chain-id", str(chain_id), "--accounts", str(accounts)]
    return command


async def wait_until_up(rpc_url: str, *, alive: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> int:
    """Poll until the chain answers; returns its chain id. Raises ChainError when it died or stays silent."""
    deadline = time.monotonic() + timeout_s
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
        while time.monotonic() < deadline:
            # An open port proves nothing and a dead process never opens one: ask, and look at the process.
            if not alive():
                raise ChainError("the local chain stopped before it answered")
            try:
                async with session.post(rpc_url, json=request) as reply:
                    return int((await reply.json())["result"], 16)
            except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
                await asyncio.sleep(POLL_S)
    raise ChainError(f"the local chain did not answer within {timeout_s:g} s")


@asynccontextmanager
async def start_chain(
    kind: ChainKind = "auto",
    *,
    port: int = 0,
    block_time_s: float = 1.0,
    accounts: int = 10,
    log: Path | None = None,
) -> AsyncIterator[RunningChain]:
    """Run a chain in a child process until the block ends. Port 0 takes a free one; `log` collects its output."""
    chosen = choose(kind)
    last_error: ChainError | None = None
    for _ in range(PORT_ATTEMPTS if port == 0 else 1):
        with ports.held_for(port) if port else _one() as used:
            command = chain_command(chosen, port=used, block_time_s=block_time_s, accounts=accounts)
            child = await (_Forked.start(command, log) if chosen == "embedded" else _Spawned.start(command, log))
            try:
                url = f"http://127.0.0.1:{used}"
                chain_id = await wait_until_up(url, alive=child.alive)
            except ChainError as error:
                await child.stop()
                last_error = error  # where ports cannot be held somebody may have taken it in between
                continue
            except BaseException:
                await child.stop()
                raise
        try:
            yield RunningChain(chosen, url, chain_id, known_accounts(accounts))
        finally:
            await child.stop()
        return
    raise last_error or ChainError("the local chain did not start")


class _Spawned:
    """anvil. It must not outlive us, however we end: it gets a parent-death signal where the system has the tool."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: list[str], log: Path | None) -> Self:
        leash = shutil.which("setpriv")
        leashed = [leash, "--pdeathsig", "TERM", "--", *command] if leash else command
        with _output(log) as output:
            return cls(await asyncio.create_subprocess_exec(*leashed, stdin=PIPE, stdout=output, stderr=output))

    def alive(self) -> bool:
        return self._process.returncode is None

    async def stop(self) -> None:
        if not self.alive():
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class _Forked:
    """Ours, out of this process's nursery."""

    _nursery = Nursery()

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @classmethod
    async def start(cls, command: list[str], log: Path | None) -> Self:
        arguments = command[command.index("--host") :]
        with anyio.CancelScope(shield=True):  # or nobody would know of it
            pid = await asyncio.to_thread(cls._nursery.start, arguments, log)
        return cls(pid)

    def alive(self) -> bool:
        return self._nursery.alive(self._pid)

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await asyncio.to_thread(self._nursery.stop, self._pid)


def _output(log: Path | None) -> BinaryIO:
    return Path(os.devnull).open("wb") if log is None else log.open("ab")


@contextmanager
def _one() -> Iterator[int]:
    with ports.held(1) as (port,):
        yield port
