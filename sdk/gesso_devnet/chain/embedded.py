"""A whole Ethereum chain from pip alone: `async with EmbeddedChain.open()`, or `python -m gesso_devnet.chain.embedded`.

It exists so that a laptop without Node or Foundry has a network; it keeps everything in memory and forgets it at exit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress

from aiohttp import web

from gesso_devnet.chain.accounts import START_BALANCE, known_accounts
from gesso_devnet.chain.front import Front
from gesso_devnet.chain.ledger import Ledger
from gesso_devnet.chain.methods import Methods

LOCAL_CHAIN_ID = 31_337
SHUTDOWN_S = 2.0
IDLE_S = 75.0
"""A connection without a whole request for so long is closed."""
STACK_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class EmbeddedChain:
    """A running embedded chain in this process. `block_time_s` of 0 mines a block for each transaction at once."""

    def __init__(self, host: str, port: int, chain_id: int, accounts: Sequence[str]) -> None:
        self.rpc_url = f"http://{host}:{port}"
        self.chain_id = chain_id
        self.accounts = tuple(accounts)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        block_time_s: float = 0.0,
        chain_id: int = LOCAL_CHAIN_ID,
        accounts: int = 10,
        clock: Callable[[], float] = time.time,
    ) -> AsyncIterator[EmbeddedChain]:
        """Serve a fresh chain until the block ends. Port 0 takes any free port."""
        names = [account.address for account in known_accounts(accounts)]
        balances = {bytes.fromhex(name[2:]): START_BALANCE for name in names}
        with _chain_thread() as executor:
            ledger = Ledger(chain_id=chain_id, balances=balances, clock=clock, automine=block_time_s == 0)
            ticker = _Ticker(ledger, executor, block_time_s)
            front = Front(Methods(ledger, names, ticker.set_interval), executor)
            runner = web.AppRunner(
                front.application(), access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=IDLE_S
            )
            await runner.setup()
            try:
                site = web.TCPSite(runner, host, port)
                await site.start()
                task = asyncio.create_task(ticker.run(), name="embedded chain blocks")
                try:
                    yield cls(host, runner.addresses[0][1], chain_id, names)
                finally:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
            finally:
                await runner.cleanup()


@contextmanager
def _chain_thread() -> Iterator[ThreadPoolExecutor]:
    """The one thread that runs the chain. Its stack is large: contracts may call each other a thousand deep, py-evm
    runs each call inside the one before, and a stack that overflows takes the process with it (half a megabyte is
    the default on some systems)."""
    usual = threading.stack_size(STACK_BYTES)
    try:
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gesso-chain")
        executor.submit(int).result()  # the thread starts with its first work
    finally:
        threading.stack_size(usual)
    with executor:
        yield executor


class _Ticker:
    """Makes a block each interval. The interval may change at any time; 0 stops the blocks."""

    def __init__(self, ledger: Ledger, executor: ThreadPoolExecutor, interval_s: float) -> None:
        self._ledger = ledger
        self._executor = executor
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def set_interval(self, interval_s: float) -> None:
        """Called on the chain's thread."""
        self._interval_s = interval_s
        if interval_s > 0:
            self._ledger.automine = False
        self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        due = self._loop.time() + self._interval_s
        while True:
            self._changed.clear()
            patience = max(0.0, due - self._loop.time()) if self._interval_s > 0 else None
            try:
                await asyncio.wait_for(self._changed.wait(), patience)
                due = self._loop.time() + self._interval_s
            except TimeoutError:
                await self._loop.run_in_executor(self._executor, self._ledger.mine)
                # A late block moves the beat: a machine that stalls must not be answered with a burst of blocks.
                due = max(due + self._interval_s, self._loop.time())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a chain until SIGTERM, SIGINT, or (with --exit-with-stdin) until standard input closes."""
    parser = argparse.ArgumentParser(prog="gesso_devnet.chain.embedded", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds; 0 mines each transaction at once")
    parser.add_argument("--chain-id", type=int, default=LOCAL_CHAIN_ID)
    parser.add_argument("--accounts", type=int, default=10)
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when the starter goes away")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(_serve(options))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.exit_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end, stop)
    opened = EmbeddedChain.open(
        host=options.host,
        port=options.port,
        block_time_s=options.block_time,
        chain_id=options.chain_id,
        accounts=options.accounts,
    )
    async with opened as chain:
        sys.stdout.write(json.dumps({"rpc_url": chain.rpc_url, "chain_id": chain.chain_id}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def _stop_at_end(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


if __name__ == "__main__":
    sys.exit(main())
