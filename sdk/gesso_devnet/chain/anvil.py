"""Foundry's anvil, where it is found: on PATH, or as the npm package that the contracts' lockfile brings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

PACKAGED = "node_modules/@foundry-rs/anvil-*/bin/anvil*"
MISSING = "anvil is not on PATH nor in node_modules"
HOW_TO_GET_IT = "use the chain that needs nothing: --chain embedded; or install anvil: scripts/setup --contracts"


def find_anvil(start: Path | None = None) -> Path | None:
    """The anvil program, or None. `node_modules` is looked for from `start` (the working directory) and from this
    source tree upwards. The platform binary is taken directly: npm's own launcher needs node."""
    on_path = shutil.which("anvil")
    if on_path is not None:
        return Path(on_path)
    return next(_packaged(start or Path.cwd()), None)


def _packaged(start: Path) -> Iterator[Path]:
    here = Path(__file__).resolve()
    for folder in dict.fromkeys([start.resolve(), *start.resolve().parents, *here.parents]):
        yield from sorted(found for found in folder.glob(PACKAGED) if found.is_file())


def anvil_command(
    program: Path, *, host: str, port: int, block_time_s: float, chain_id: int, accounts: int
) -> list[str]:
    """Prague rules as on the embedded chain, first-come order, no output. A block time of 0 mines each transaction
    at once; prefer 1 s for anything that sends many at a time (bursts can strand nonces in auto-mining)."""
    command = [str(program), "--silent", "--host", host, "--port", str(port)]
    command += ["--chain-id", str(chain_id), "--accounts", str(accounts), "--balance", "10000"]
    command += ["--hardfork", "prague", "--gas-limit", "30000000", "--order", "fifo"]
    if block_time_s > 0:
        command += ["--block-time", f"{block_time_s:g}"]
    return command
