"""The devnet as real processes: chain, relay and nodes, each with its own folder, wallet, libp2p host and log.

What runs outlives the command that started it. The state folder `GESSO_HOME/devnet` says what there is:

    stack.json      ports, actors and how to start them again
    pids/  logs/    one file an actor
    relay/  node-1/ …   each actor's own data and configuration
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gesso.blobs import HttpBlobs
from gesso.chain.chain import Chain
from gesso.chain.deploy import DeploySettings
from gesso.chain.settings import ChainSettings, ContractAddresses
from gesso.chain.wallet import Wallet
from gesso.settings import Network, explain, read_bounded, write_network
from gesso_devnet.chain.accounts import known_accounts
from gesso_devnet.chain.start import ChainKind, chain_command, choose, wait_until_up
from gesso_devnet.cores import executor_section
from gesso_devnet.genesis import (
    BUSY_WINDOW_S,
    CHEAP_PRICE,
    NODE_PRICE,
    NODE_STAKE,
    SLOW_WINDOW_S,
    Cast,
    found,
    publish,
    unhurried,
)
from gesso_devnet.ports import LOOPBACK, held
from gesso_devnet.processes import Actor, Supervisor, python
from gesso_devnet.seed import base_model_folder, pack, stand_in
from gesso_protocol.errors import ConfigError, Unreachable, UsageError

ExecutorChoice = Literal["auto", "fake", "diffusers"]
NETWORK = "devnet"
SUBMITTER = "devnet-submitter"
PASSWORD = "devnet"  # noqa: S105 - guards keys that are public
MAX_NODES = 32
JOIN_TIMEOUT_S = 60.0
Say = Callable[[str], None]


class StackSettings(BaseModel):
    """What to bring up. `block_time_s` is in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(default=3, ge=1, le=MAX_NODES)
    watchers: int = Field(default=0, ge=0, le=MAX_NODES)
    """Nodes that audit and judge and take no tasks."""
    cheat: str | None = None
    """What the last of the nodes does wrong, by name; it also asks for half the price, so that it gets the tasks."""
    chain: ChainKind = "auto"
    executor: ExecutorChoice = "auto"
    block_time_s: float = Field(default=1.0, gt=0, le=60)

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names: workers first, then watchers, in the order of their wallets."""
        workers = [f"node-{number + 1}" for number in range(self.nodes)]
        return (*workers, *(f"watcher-{number + 1}" for number in range(self.watchers)))

    @property
    def cheater(self) -> str | None:
        """Who cheats."""
        return None if self.cheat is None else f"node-{self.nodes}"

    def cast(self) -> Cast:
        """Who is who, with the wallets of all."""
        return Cast.of(known_accounts(3 + len(self.names)), len(self.names))


def wanted_stack(**wanted: Any) -> StackSettings:
    """What somebody asked to bring up. Raises UsageError that names what makes no sense."""
    try:
        return StackSettings(**wanted)
    except ValidationError as error:
        raise UsageError(explain(error, StackSettings.model_fields), hint=f"1 to {MAX_NODES} nodes") from error


class StackState(BaseModel):
    """What is up, as `stack.json` holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: StackSettings
    chain: str
    executor: str
    model: str
    network: Network
    actors: dict[str, tuple[str, ...]]
    details: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on loopback, chosen once so that an actor keeps its address when it is restarted."""

    chain: int
    relay: int
    relay_peer: int
    nodes: tuple[int, ...]
    status: tuple[int, ...]

    @classmethod
    @contextmanager
    def held(cls, nodes: int) -> Iterator[Ports]:
        """Ports that nobody else gets while all of them start."""
        with held(3 + 2 * nodes) as found:
            yield cls(found[0], found[1], found[2], found[3 : 3 + nodes], found[3 + nodes :])


class Stack:
    """One devnet in one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "devnet"
        self.supervisor = Supervisor(self.folder)

    async def up(self, settings: StackSettings, say: Say) -> StackState:
        """Start everything and wait until all nodes have joined. Stops what it started when anything fails.

        Raises ConfigError when a devnet is up already or on its way, Unreachable with the end of the log of what did
        not start.
        """
        with self._alone():
            if self.supervisor.running():
                raise ConfigError("a devnet is running already", hint="stop it first: gesso devnet down")
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            try:
                with Ports.held(len(settings.names)) as ports:
                    state = await self._bring_up(settings, ports, say)
            except BaseException:
                self.supervisor.stop_all()
                raise
            self._state_file.write_text(state.model_dump_json(indent=2) + "\n")
            write_network(self.home, state.network)
            return state

    def down(self) -> tuple[str, ...]:
        """Stop everything, last started first; the network file goes, logs stay. Returns the names."""
        stopped = self.supervisor.stop_all()
        (self.home / "networks" / f"{NETWORK}.json").unlink(missing_ok=True)
        return stopped

    def state(self) -> StackState:
        """What is up. Raises ConfigError when nothing is."""
        if not self._state_file.is_file() or not self.supervisor.running():
            raise ConfigError("no devnet is running", hint="start one: gesso devnet up")
        try:
            return StackState.model_validate_json(read_bounded(self._state_file))
        except ValidationError as error:
            raise ConfigError(f"{self._state_file} is damaged", hint="gesso devnet down, then up") from error

    async def restart(self, name: str) -> None:
        """Start a stopped actor again with the command that it had."""
        state = self.state()
        if name not in state.actors:
            raise ConfigError(f"no actor named {name!r}", hint=f"there are: {', '.join(state.actors)}")
        if any(entry.name == name for entry in self.supervisor.running()):
            raise UsageError(f"{name} is running", hint=f"break it first: gesso devnet fail {name}")
        await self.supervisor.start(Actor(name, state.actors[name]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two that start at once would remove each other's folder, and nobody could find what they had started."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{NETWORK}.lock").open("ab") as file:  # beside the folder, which is made anew
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                hint = "wait for it, or stop it with Ctrl-C; another home has a devnet of its own: GESSO_HOME"
                raise ConfigError("another `gesso devnet up` is at work here", hint=hint) from None
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # also for what was forked meanwhile and has the file too

    @property
    def _state_file(self) -> Path:
        return self.folder / "stack.json"

    async def _bring_up(self, settings: StackSettings, ports: Ports, say: Say) -> StackState:
        names, cast = settings.names, settings.cast()
        actors: dict[str, tuple[str, ...]] = {}
        details: dict[str, dict[str, Any]] = {}
        rpc_url, chain_kind = await self._start_chain(settings, ports, actors)
        say(f"chain      {chain_kind} at {rpc_url}, a block every {settings.block_time_s:g} s")
        rules = DeploySettings.devnet()
        real = settings.executor == "diffusers" or (settings.executor == "auto" and base_model_folder() is not None)
        if settings.watchers:
            rules = unhurried(rules, SLOW_WINDOW_S if real else BUSY_WINDOW_S)
        contracts = await found(rpc_url, cast, rules)
        say(f"contracts  task board {contracts.task_board}")
        chain = ChainSettings(rpc_url=rpc_url, contracts=contracts)
        relay_url = f"http://127.0.0.1:{ports.relay}"
        details["relay"] = await self._start_relay(chain, ports, relay_url, actors)
        bootstrap = tuple(str(address) for address in details["relay"].get("bootstrap", ()))
        say(f"relay      {relay_url}, with pages for a browser")
        executor, model = await self._publish(settings, chain, cast.publisher, relay_url)
        say(f"model      {model} on the marketplace, runs on the {executor} executor")
        for at, name in enumerate(names):
            config = self._node_config(name, at, chain, ports, relay_url, bootstrap, executor, model, len(names))
            config |= _role(settings, name, config)
            self._wallet(self.folder / name / "wallet.json", cast.nodes[at])
            actors[name] = python(
                "-m", "gesso_node", "--config", str(_write(self.folder / name / "config.json", config))
            )
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(self._start_node, name, actors[name], details)
        await _wait_joined(chain, len(names))
        for at, name in enumerate(names):
            wrong = f"\n           cheats: {settings.cheat}" if name == settings.cheater else ""
            say(f"{name:<9}  {cast.nodes[at].address}, libp2p port {ports.nodes[at]}{wrong}")
        self._submitter_wallet(cast.submitter)
        network = Network(
            name=NETWORK,
            chain_id=31337,
            rpc_url=rpc_url,
            relay_url=relay_url,
            bootstrap=bootstrap,
            contracts=contracts,
            wallet=SUBMITTER,
        )
        return StackState(
            settings=settings,
            chain=chain_kind,
            executor=executor,
            model=model,
            network=network,
            actors=actors,
            details=details,
        )

    async def _start_chain(
        self, settings: StackSettings, ports: Ports, actors: dict[str, tuple[str, ...]]
    ) -> tuple[str, str]:
        kind = choose(settings.chain)
        accounts = 3 + len(settings.names)
        command = chain_command(kind, port=ports.chain, block_time_s=settings.block_time_s, accounts=accounts)
        actors["chain"] = tuple(command)
        running = self.supervisor.spawn(Actor("chain", actors["chain"]))
        url = f"http://127.0.0.1:{ports.chain}"
        await wait_until_up(url, alive=running.alive)
        return url, kind

    async def _start_relay(
        self, chain: ChainSettings, ports: Ports, url: str, actors: dict[str, tuple[str, ...]]
    ) -> dict[str, Any]:
        folder = self.folder / "relay"
        config = {
            "data_dir": str(folder / "data"),
            "chain": chain.model_dump(mode="json", include={"rpc_url", "contracts"}),
            "network_name": NETWORK,
            "listen_port": ports.relay,
            "public_url": url,
            "rpc_hint": chain.rpc_url,
            "index_poll_s": 0.25,
            "gossip": {
                "listen_host": LOOPBACK,
                "listen_port": ports.relay_peer,
                "key_file": str(folder / "peer.key"),
            },
        }
        actors["relay"] = python("-m", "gesso_relay", "--config", str(_write(folder / "config.json", config)))
        return await self.supervisor.start(Actor("relay", actors["relay"]))

    async def _start_node(self, name: str, argv: Sequence[str], details: dict[str, dict[str, Any]]) -> None:
        details[name] = await self.supervisor.start(Actor(name, argv))

    async def _publish(
        self, settings: StackSettings, chain: ChainSettings, publisher: Wallet, relay_url: str
    ) -> tuple[str, str]:
        folder = base_model_folder()
        executor = settings.executor
        if executor == "auto":
            executor = "fake" if folder is None else "diffusers"
        if executor == "diffusers" and folder is None:
            raise ConfigError("the base model is not installed here", hint="use --executor fake")
        model = stand_in(self.folder / "stand-in") if folder is None else pack(folder)
        async with Chain.open(chain, publisher) as opened, HttpBlobs(relay_url) as blobs:
            await publish(opened, model, blobs)
        return executor, model.manifest.label

    def _node_config(
        self,
        name: str,
        at: int,
        chain: ChainSettings,
        ports: Ports,
        relay_url: str,
        bootstrap: tuple[str, ...],
        executor: str,
        model: str,
        nodes: int,
    ) -> dict[str, Any]:
        folder = self.folder / name
        return {
            "data_dir": str(folder / "data"),
            "name": name,
            "chain": {"rpc_url": chain.rpc_url, "contracts": _contracts(chain.contracts)},
            "wallet": {"keystore": str(folder / "wallet.json"), "password_file": str(folder / "wallet.password")},
            "transport": {
                "listen_host": LOOPBACK,
                "listen_port": ports.nodes[at],
                "key_file": str(folder / "peer.key"),
                "bootstrap": list(bootstrap),
            },
            "blobs": {"relays": [relay_url]},
            "executor": executor_section(executor, nodes),
            "policy": {"min_fee": str(NODE_PRICE), "max_training_steps": 2000},
            "models": {"prefetch": [model]},
            "stake": str(NODE_STAKE),
            "status_port": ports.status[at],
            "log_format": "json",
        }

    def _submitter_wallet(self, wallet: Wallet) -> None:
        path = self.home / "wallets" / f"{SUBMITTER}.json"
        path.unlink(missing_ok=True)
        self._wallet(path, wallet)

    def _wallet(self, path: Path, wallet: Wallet) -> None:
        key = next(account.key for account in known_accounts(3 + 2 * MAX_NODES) if account.address == wallet.address)
        Wallet.create(path, PASSWORD, key=key, strength="light")
        path.with_suffix(".password").write_text(PASSWORD)


def _role(settings: StackSettings, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """What a watcher, and the one who cheats, have different from an honest worker."""
    if name.startswith("watcher"):
        return {"work": False}
    if name != settings.cheater:
        return {}
    assert settings.cheat is not None
    wrong = executor_section(config["executor"]["engine"], len(settings.names), settings.cheat)
    return {"executor": wrong, "policy": {"min_fee": str(CHEAP_PRICE)}}


async def _wait_joined(chain: ChainSettings, nodes: int) -> None:
    """Every node staked and active, so that the first task does not wait for them."""
    async with Chain.open(chain) as opened:
        with anyio.move_on_after(JOIN_TIMEOUT_S):
            while await opened.total_weight() < nodes:  # noqa: ASYNC110 - the chain tells only who asks
                await anyio.sleep(0.1)
            return
    raise Unreachable("not all nodes joined in time", hint="see why: gesso devnet logs")


def _contracts(contracts: ContractAddresses) -> dict[str, str]:
    return contracts.model_dump(mode="json")


def _write(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
