"""The devnet inside one process, for tests: real contracts, relay and nodes, with memory or libp2p between them.

async with Devnet.open(nodes=3, executor="fake") as net:
    image = await net.submitter.generate("a red circle")
    assert await net.balanced()
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import httpx
from anyio.abc import TaskGroup, TaskStatus

from gesso.blobs import HttpBlobs
from gesso.chain.chain import Chain
from gesso.chain.deploy import DeploySettings
from gesso.chain.settings import DRAND_URLS, ChainSettings
from gesso.chain.wallet import Wallet
from gesso.client import AsyncClient
from gesso.settings import Network
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId, Transport
from gesso.wiring import make_ports
from gesso_devnet import controls, ledger
from gesso_devnet.chain.accounts import known_accounts
from gesso_devnet.chain.start import ChainKind, RunningChain, start_chain
from gesso_devnet.cores import executor_section
from gesso_devnet.genesis import NODE_PRICE, NODE_STAKE, Cast, found, publish, rated
from gesso_devnet.ports import held
from gesso_devnet.seed import stand_in
from gesso_node.executors.fake import FakeFaults
from gesso_node.executors.lora.host import TrainingThreadExecutor
from gesso_node.peer import Node
from gesso_node.settings import NodeSettings
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei
from gesso_relay.peer import Relay
from gesso_relay.settings import RelaySettings

TransportKind = Literal["memory", "libp2p"]
Reconfigure = Callable[[int, dict[str, Any]], dict[str, Any]]
"""Changes the settings document of node number `n` (from 0) before it starts."""

JOIN_S = 60.0
STOP_S = 15.0
POLL_S = 0.05
STUCK_S = 3.0
"""Blocks come several times a second here: what is not in one after this long was taken back with its block."""


class RelayHandle:
    """The relay of a test network: can be stopped and started again on the same port and data."""

    def __init__(self, net: Devnet, settings: RelaySettings, transport: Transport) -> None:
        self.settings = settings
        self._net = net
        self._transport = transport
        self._stop = anyio.Event()
        self._stopped = anyio.Event()
        self._stopped.set()

    @property
    def url(self) -> str:
        """Where it listens, whether it runs or not."""
        return f"http://127.0.0.1:{self.settings.listen_port}"

    async def start(self) -> None:
        """Returns when it listens and has read the chain to its head."""
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        port = await self._net.group.start(self._run)
        self.settings = self.settings.model_copy(update={"listen_port": port})

    async def stop(self) -> None:
        """Returns when it is gone."""
        self._stop.set()
        await self._stopped.wait()

    async def _run(self, *, task_status: TaskStatus[int]) -> None:
        try:
            async with Relay.open(self.settings, transport=self._transport) as relay:
                await relay.caught_up()
                task_status.started(int(relay.url.rsplit(":", 1)[1]))
                await self._stop.wait()
        finally:
            self._stopped.set()


class NodeHandle:
    """A node of a test network; `node` is the running one."""

    def __init__(self, net: Devnet, number: int, wallet: Wallet, settings: NodeSettings, faults: FakeFaults) -> None:
        self.number = number
        self.address: Address = wallet.address
        self.settings = settings
        self.faults = faults
        self._net = net
        self._wallet = wallet
        self._node: Node | None = None
        self._peer: PeerId | None = None
        self._scope: anyio.CancelScope | None = None
        self._stopped = anyio.Event()

    @property
    def node(self) -> Node:
        """The running node."""
        assert self._node is not None, "the node is stopped"
        return self._node

    async def start(self) -> None:
        """Returns when it is registered and serves. The same peer and journal as before, if there was one."""
        self._stopped = anyio.Event()
        await self._net.group.start(self._run)

    async def stop(self) -> None:
        """Cut it off at once, as a crash would; the journal stays."""
        if self._scope is not None:
            self._scope.cancel()
            await self._stopped.wait()

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                async with AsyncExitStack() as stack:
                    self._node = await self._open(stack)
                    task_status.started()
                    await self._node.serve()
        finally:
            self._node = None
            self._stopped.set()

    async def _open(self, stack: AsyncExitStack) -> Node:
        net = self._net
        chain = await stack.enter_async_context(Chain.open(net.chain_settings.for_node(), self._wallet))
        key_file = self.settings.data_dir / "peer.key"
        transport = await stack.enter_async_context(net.make_transport(key_file, self._peer))
        self._peer = transport.peer_id
        await net.join(transport)
        executor = None
        if self.settings.executor.engine == "fake":
            executor = await stack.enter_async_context(TrainingThreadExecutor(self.faults))
        opened = Node.open(self.settings, chain=chain, transport=transport, executor=executor)
        return await stack.enter_async_context(opened)


class Devnet:
    """A whole network in this process. Make it with `Devnet.open`."""

    def __init__(
        self, folder: Path, running: RunningChain, chain_settings: ChainSettings, cast: Cast, transport: TransportKind
    ) -> None:
        self.folder = folder
        self.running = running
        self.chain_settings = chain_settings
        self.cast = cast
        self.hub = MemoryHub()
        self.nodes: list[NodeHandle] = []
        self.watchers: list[NodeHandle] = []
        self.relay: RelayHandle
        self.chain: Chain
        self.submitter: AsyncClient
        self.group: TaskGroup
        self._transport_kind = transport
        self._stack = AsyncExitStack()
        self._users = AsyncExitStack()
        self._before: ledger.Ledger = {}
        self._bootstrap: tuple[str, ...] = ()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        nodes: int = 3,
        *,
        watchers: int = 0,
        cheats: Mapping[int, str] | None = None,
        audit_rate: int | None = None,
        executor: Literal["fake", "diffusers"] = "fake",
        chain: ChainKind = "embedded",
        transport: TransportKind = "memory",
        block_time_s: float = 0.25,
        rules: DeploySettings | None = None,
        faults: FakeFaults | None = None,
        reconfigure: Reconfigure | None = None,
        accounts: int = 2,
        drand_urls: Sequence[str] = DRAND_URLS,
    ) -> AsyncIterator[Devnet]:
        """Everything up and joined; `accounts` spare funded wallets beside the cast. Nothing is left behind.

        `watchers` are nodes that audit and judge and take no tasks; `cheats` names what node n (from 0) does wrong;
        `audit_rate` is the rate of sampled audits in basis points, for every node alike.
        """
        with tempfile.TemporaryDirectory(prefix="gesso-net-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            opened = start_chain(
                chain, block_time_s=block_time_s, accounts=3 + nodes + watchers + accounts, log=folder / "chain.log"
            )
            async with opened as running, AsyncExitStack() as hurry:
                cast = Cast.of(known_accounts(3 + nodes + watchers), nodes + watchers)
                rules = rated(rules or DeploySettings.devnet(), audit_rate)
                if running.kind == "embedded" and block_time_s > 0:
                    await hurry.enter_async_context(controls.at_once(running.rpc_url))
                contracts = await found(running.rpc_url, cast, rules)
                settings = ChainSettings(
                    rpc_url=running.rpc_url,
                    contracts=contracts,
                    receipt_poll_s=POLL_S,
                    stuck_after_s=STUCK_S,
                    drand_urls=tuple(drand_urls),
                )
                async with cls(folder, running, settings, cast, transport) as net:
                    roles = [(number, cheats.get(number) if cheats else None) for number in range(nodes)]
                    await net._populate(roles, watchers, executor, faults or FakeFaults(), reconfigure)
                    await hurry.aclose()
                    try:
                        yield net
                    finally:
                        await net._wind_down()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.chain = await stack.enter_async_context(Chain.open(self.chain_settings))
            self.group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(self.group.cancel_scope.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def network(self) -> Network:
        """What a user's network file would say."""
        return Network(
            name="devnet",
            chain_id=self.running.chain_id,
            rpc_url=self.running.rpc_url,
            relay_url=self.relay.url,
            bootstrap=self._bootstrap,
            contracts=self.chain_settings.contracts,
            drand_urls=self.chain_settings.drand_urls,
        )

    def client(self, wallet: Wallet | None = None, *, peer: bool = True) -> AsyncClient:
        """A client of its own; entered by the caller. `peer=False` is a user that has only HTTP."""
        return _OwnedClient(self, wallet or self.cast.submitter, peer)

    def spare_wallet(self, number: int = 0) -> Wallet:
        """A wallet with gas money and no fee tokens."""
        return Wallet.from_key(self.running.accounts[3 + len(self.cast.nodes) + number].key)

    async def warp(self, seconds: int) -> None:
        """Move the chain's clock forward."""
        await controls.warp(self.running.rpc_url, seconds)

    async def fund(self, account: Address, tokens: int) -> None:
        """Fee tokens for an account, in base units."""
        await controls.fund(self.running.rpc_url, self.chain_settings.contracts, account, Wei(tokens))

    async def balanced(self) -> bool:
        """True when, with no task under way, nobody's money has appeared or vanished since the start."""
        after = await ledger.take(self.chain, self.cast.addresses)
        return ledger.conserved(self._before, after) and await ledger.backed(self.chain, after)

    async def earned(self, account: Address) -> int:
        """What an account has more than at the start, in base units; negative for what it paid."""
        now = (await ledger.take(self.chain, [account]))[account]
        return now.total - self._before[account].total

    @asynccontextmanager
    async def make_transport(self, key_file: Path, peer: PeerId | None = None) -> AsyncIterator[Transport]:
        """A new peer of this network, with the same id as before when `peer` or the key file says so."""
        if self._transport_kind == "memory":
            async with MemoryTransport(self.hub, peer_id=peer) as memory:
                yield memory
            return
        from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport

        key_file.parent.mkdir(parents=True, exist_ok=True)
        settings = Libp2pSettings(key_file=key_file, listen_host="127.0.0.1", bootstrap=self._bootstrap)
        async with Libp2pTransport(settings) as real:
            yield real

    async def join(self, transport: Transport) -> None:
        """Connect a peer to the relay's; libp2p does so by itself from its bootstrap addresses."""
        if self._transport_kind == "memory":
            for address in self._bootstrap:
                await transport.connect(address)

    async def _wind_down(self) -> None:
        await self._users.aclose()  # outside the scope below: scopes end in the reverse order of their beginning
        with anyio.move_on_after(STOP_S, shield=True):
            for node in (*self.nodes, *self.watchers):
                await node.stop()
            await self.relay.stop()

    async def _populate(
        self,
        workers: list[tuple[int, str | None]],
        watchers: int,
        executor: str,
        faults: FakeFaults,
        reconfigure: Reconfigure | None,
    ) -> None:
        transport = await self._stack.enter_async_context(self.make_transport(self.folder / "relay" / "peer.key"))
        self._bootstrap = transport.addresses
        (port,) = self._stack.enter_context(held(1))  # its own while it is stopped, too
        relay_settings = RelaySettings(
            data_dir=self.folder / "relay", chain=self.chain_settings, listen_port=port, index_poll_s=0.1
        )
        self.relay = RelayHandle(self, relay_settings, transport)
        await self.relay.start()
        async with Chain.open(self.chain_settings, self.cast.publisher) as chain, HttpBlobs(self.relay.url) as blobs:
            await publish(chain, self._model(executor), blobs)
        async with anyio.create_task_group() as starting:
            for number, cheat in workers:
                self.nodes.append(self._node(number, executor, faults, reconfigure, cheat=cheat))
            for number in range(len(workers), len(workers) + watchers):
                self.watchers.append(self._node(number, executor, faults, reconfigure, work=False))
            for handle in (*self.nodes, *self.watchers):
                starting.start_soon(handle.start)
        with anyio.fail_after(JOIN_S):
            while await self.chain.total_weight() < len(workers) + watchers:  # noqa: ASYNC110 - the chain tells only who asks
                await anyio.sleep(POLL_S)
        self._before = await ledger.take(self.chain, self.cast.addresses)
        self.submitter = await self._users.enter_async_context(self.client())

    def _model(self, executor: str) -> Any:
        from gesso_devnet.seed import base_model_folder, pack

        folder = base_model_folder() if executor == "diffusers" else None
        return stand_in(self.folder / "stand-in") if folder is None else pack(folder)

    def _node(
        self,
        number: int,
        executor: str,
        faults: FakeFaults,
        reconfigure: Reconfigure | None,
        *,
        cheat: str | None = None,
        work: bool = True,
    ) -> NodeHandle:
        document: dict[str, Any] = {
            "data_dir": str(self.folder / f"node-{number + 1}"),
            "name": f"node-{number + 1}",
            "blobs": {"relays": [self.relay.url]},
            "executor": executor_section(executor, len(self.cast.nodes), cheat),
            **({} if work else {"work": False}),
            "policy": {"min_fee": str(NODE_PRICE), "max_training_steps": 2000},
            "stake": str(NODE_STAKE),
            "tick_s": 0.1,
        }
        if reconfigure is not None:
            document = reconfigure(number, document)
        if cheat is not None:
            faults = faults.model_copy(update={"cheat": cheat})
        return NodeHandle(self, number, self.cast.nodes[number], NodeSettings.verified(document), faults)


class _OwnedClient(AsyncClient):
    """A client that brings its own chain connection, relay session and peer, and closes them."""

    def __init__(self, net: Devnet, wallet: Wallet, peer: bool) -> None:
        super().__init__()
        self._net = net
        self._wallet = wallet
        self._peer = peer
        self._parts = AsyncExitStack()

    async def __aenter__(self) -> Self:
        net = self._net
        async with AsyncExitStack() as parts:
            chain = await parts.enter_async_context(Chain.open(net.chain_settings, self._wallet))
            blobs = await parts.enter_async_context(HttpBlobs(net.relay.url))
            relay = await parts.enter_async_context(httpx.AsyncClient(base_url=net.relay.url, timeout=5))
            transport = None
            if self._peer:
                key_file = net.folder / f"user-{self._wallet.address}" / "peer.key"
                transport = await parts.enter_async_context(net.make_transport(key_file))
                await net.join(transport)
            self._given = make_ports(
                chain,
                chain_id=chain.chain_id,
                board=net.chain_settings.contracts.task_board,
                blobs=blobs,
                relay=relay,
                transport=transport,
                address=self._wallet.address,
                relay_url=net.relay.url,
                poll_s=0.1,
            )
            await super().__aenter__()
            self._parts = parts.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._parts.__aexit__(kind, error, trace)
