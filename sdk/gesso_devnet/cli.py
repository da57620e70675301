"""`gesso devnet`: bring a whole network up on this machine, look at it, break it, take it down."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import anyio
from cyclopts import Parameter

from gesso.chain.chain import Chain
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet
from gesso.cli.inputs import MaybeWhole, Whole, account, whole
from gesso.cli.output import Printing
from gesso.settings import Settings, home_folder
from gesso_devnet import controls
from gesso_devnet.stack import NETWORK, ExecutorChoice, Stack, StackState, wanted_stack
from gesso_protocol.errors import ConfigError, GessoError
from gesso_protocol.ids import Address
from gesso_protocol.money import parse_amount

Fault = Literal["kill", "stop", "freeze", "thaw", "restart"]


async def up(
    *,
    nodes: Whole = 3,
    watchers: MaybeWhole = None,
    cheat: str | None = None,
    chain: Literal["auto", "anvil", "embedded"] = "auto",
    executor: ExecutorChoice = "auto",
    block_time: float = 1.0,
    demo: bool = False,
    common: Printing | None = None,
) -> None:
    """Start chain, contracts, relay and nodes; returns when all of them are ready.

    Parameters
    ----------
    nodes
        How many nodes, 1 to 32.
    watchers
        How many nodes that only audit and judge; 3 with --cheat, else none.
    cheat
        What the last node does wrong, such as fewer-steps or withhold; --cheat list names all.
    chain
        anvil when it is installed, else the embedded chain.
    executor
        diffusers runs the base model, fake draws a marked stand-in picture.
    block_time
        Seconds between blocks.
    demo
        Run one task when everything is up.
    """
    common = common or Printing()
    out = common.out
    if cheat is not None:
        from gesso_devnet.cheats import choose_cheat, list_cheats

        if cheat == "list":
            list_cheats(out)
            return
        choose_cheat(cheat)
    stack = Stack(home_folder())
    settings = wanted_stack(
        nodes=nodes,
        watchers=watchers if watchers is not None else 3 if cheat else 0,
        cheat=cheat,
        chain=chain,
        executor=executor,
        block_time_s=block_time,
    )
    state = await stack.up(settings, out.say)
    out.result(_ready(state), human=f"ready: network {state.network.name!r}, {nodes} nodes")
    if demo:
        from gesso_devnet.demo import Demo, run_task

        await run_task(stack, state, Demo(), out)
    out.hint('gesso generate "a red circle on a blue background" -o out.png', "stop with: gesso devnet down")


def down(*, common: Printing | None = None) -> None:
    """Stop everything that `up` started; logs stay."""
    common = common or Printing()
    stopped = Stack(home_folder()).down()
    common.out.result(
        {"stopped": list(stopped)}, human="stopped " + ", ".join(stopped) if stopped else "nothing was running"
    )


async def status(*, common: Printing | None = None) -> None:
    """What is running, and where."""
    common = common or Printing()
    stack = Stack(home_folder())
    state = stack.state()
    alive = {entry.name: entry.pid for entry in stack.supervisor.running()}
    rows = [
        {
            "actor": name,
            "state": "up" if name in alive else "down",
            "pid": alive.get(name),
            "log": stack.supervisor.log_of(name),
        }
        for name in state.actors
    ]
    common.out.table(rows, ["actor", "state", "pid", "log"], empty="nothing is running")
    if common.out.form == "human":
        chain = ChainSettings(rpc_url=state.network.rpc_url, contracts=state.network.contracts)
        async with Chain.open(chain) as opened:
            block, weight = await opened.block_number(), await opened.total_weight()
        common.out.say(
            f"{state.chain} chain at block {block} · weight of all nodes {weight} · relay {state.network.relay_url}"
        )


async def logs(
    actor: str | None = None,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"])] = False,
    lines: Annotated[int, Parameter(name=["--lines", "-n"], converter=whole)] = 20,
) -> None:
    """Show logs of one actor, or of all with their names in front.

    Parameters
    ----------
    actor
        chain, relay, node-1, …
    follow
        Keep printing what is added, until Ctrl-C.
    lines
        How many of the last lines to begin with.
    """
    stack = Stack(home_folder())
    known = sorted(path.stem for path in (stack.folder / "logs").glob("*.log"))
    if actor and actor not in known:
        there = f"there are: {', '.join(known)}" if known else "start a devnet: gesso devnet up"
        raise ConfigError(f"no actor named {actor!r} has a log", hint=there)
    if not known:
        raise ConfigError("nothing has a log yet", hint="start a devnet: gesso devnet up")
    names = [actor] if actor else known
    positions = {name: _print_tail(stack.supervisor.log_of(name), name, lines) for name in names}
    while follow:
        await anyio.sleep(0.3)
        for name in names:
            positions[name] = _print_from(stack.supervisor.log_of(name), name, positions[name])


async def fund(address: str, /, *, tokens: str = "100", common: Printing | None = None) -> None:
    """Give an address fee tokens, and gas money to move them.

    Parameters
    ----------
    address
        Any account of the local chain.
    tokens
        How many whole tokens.
    """
    common = common or Printing()
    network = Stack(home_folder()).state().network
    funded = account(address)
    await controls.fund(network.rpc_url, network.contracts, funded, parse_amount(tokens))
    common.out.result({"address": address, "tokens": tokens}, human=f"{address} got {tokens} tokens and gas money")
    if _pays_here(funded):
        common.out.hint(f"gesso wallet deposit {tokens}")


async def warp(span: str, /, *, common: Printing | None = None) -> None:
    """Move the chain's clock forward.

    Parameters
    ----------
    span
        90s, 15m, 1h or 2d.
    """
    common = common or Printing()
    now = await controls.warp(Stack(home_folder()).state().network.rpc_url, controls.parse_duration(span))
    common.out.result({"now": now})


async def snapshot(*, restore: str | None = None, common: Printing | None = None) -> None:
    """Remember the chain's state, or return to it.

    Parameters
    ----------
    restore
        The name that an earlier `snapshot` printed.
    """
    common = common or Printing()
    rpc_url = Stack(home_folder()).state().network.rpc_url
    if restore is not None:
        await controls.restore(rpc_url, restore)
        common.out.result({"restored": restore})
        return
    name = await controls.snapshot(rpc_url)
    common.out.result({"snapshot": name})
    common.out.hint(f"gesso devnet snapshot --restore {name}")


async def fail(actor: str, /, *, how: Fault = "kill", common: Printing | None = None) -> None:
    """Break one actor on purpose, or mend it.

    Parameters
    ----------
    actor
        chain, relay, node-1, …
    how
        kill (-9), stop (politely), freeze, thaw, or restart what was killed or stopped.
    """
    common = common or Printing()
    stack = Stack(home_folder())
    if how == "restart":
        await stack.restart(actor)
    elif how in ("kill", "stop"):
        stack.supervisor.stop(actor, hard=how == "kill")
    else:
        stack.supervisor.find(actor).signal_all(signal.SIGSTOP if how == "freeze" else signal.SIGCONT)
    common.out.result({"actor": actor, "fault": how})
    if how in ("kill", "stop"):
        common.out.hint(f"gesso devnet fail {actor} --how restart")
    if how == "freeze":
        common.out.hint(f"gesso devnet fail {actor} --how thaw")


def _pays_here(address: Address) -> bool:
    """Whether it is the wallet that commands pay with: a node's tokens become its stake and go in no deposit."""
    try:
        source = Settings.load(network=NETWORK).wallet
        return source is not None and Wallet.address_in(source.keystore) == address
    except GessoError:
        return False


def _ready(state: StackState) -> dict[str, object]:
    return {"ready": True, **state.network.model_dump(mode="json"), "model": state.model, "executor": state.executor}


def _print_tail(path: Path, name: str, lines: int) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 200 * lines - 4096))
        for line in file.read().decode(errors="replace").splitlines()[-lines:]:
            _print_line(name, line)
        return size


def _print_from(path: Path, name: str, position: int) -> int:
    if not path.is_file() or path.stat().st_size <= position:
        return position
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            _print_line(name, line.decode(errors="replace").rstrip())
        return file.tell()


def _print_line(name: str, line: str) -> None:
    sys.stdout.write(f"{name:<8} │ {line}\n")
    sys.stdout.flush()
