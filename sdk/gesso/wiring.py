"""The SDK's composition root: settings become adapters here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import httpx
from anyio import to_thread

from gesso.announce import Announcer, GossipAnnouncer
from gesso.asking import ask_secret
from gesso.audits.openings import OpeningSource, PeerOpenings, RelayOpenings
from gesso.blobs import BlobStore, LocalBlobs
from gesso.blobs.peer import PeerBlobs, PeersFirst
from gesso.chain.chain import Chain
from gesso.chain.settings import ChainSettings
from gesso.chain.wallet import Wallet
from gesso.directory import Directory
from gesso.progress import OnProgress, PeerProgress, ProgressSource, RelayProgress
from gesso.settings import Settings, WalletSource, read_bounded
from gesso.transport.binding import PeerBinding
from gesso.transport.bridge import BridgedGossip
from gesso.transport.port import Transport
from gesso_protocol.errors import WalletError
from gesso_protocol.ids import Address, TaskId

POLL_S = 0.2
RELAY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Ports:
    """What a client needs from the outside world. Tests build it from in-memory parts."""

    chain: Chain
    chain_id: int
    board: Address
    blobs: BlobStore
    directory: Directory
    progress: ProgressSource
    announcers: tuple[Announcer, ...] = ()
    address: Address | None = None
    spec_from: str | None = None
    """A URL where nodes find the spec's blob."""
    max_fee: str | None = None
    poll_s: float = POLL_S
    openings: tuple[OpeningSource, ...] = ()
    """Who is asked for a task's openings, in this order, where no auditor has published them."""

    @property
    def can_send(self) -> bool:
        """True when there is a wallet to sign with; a locked one has an address and signs nothing."""
        return self.chain.wallet is not None


class AllProgress:
    """Several sources at once; the same event twice does no harm."""

    def __init__(self, sources: tuple[ProgressSource, ...]) -> None:
        self._sources = sources

    async def follow(self, task: TaskId, on_progress: OnProgress) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as group:
            for source in self._sources:
                group.start_soon(source.follow, task, on_progress)
            await anyio.sleep_forever()


@asynccontextmanager
async def open_ports(settings: Settings) -> AsyncIterator[Ports]:
    """Connect to a network. Raises ConfigError, WalletError, Unreachable."""
    network = settings.network
    wallet, address = await _opened(settings.wallet)
    async with AsyncExitStack() as stack:
        chain_settings = ChainSettings(
            rpc_url=network.rpc_url,
            contracts=network.contracts,
            chain_id=network.chain_id,
            drand_urls=network.drand_urls,
        )
        chain = await stack.enter_async_context(Chain.open(chain_settings, wallet))
        relay = None
        blobs: BlobStore = LocalBlobs(settings.home / "blobs")
        if network.relay_url is not None:
            relay = await stack.enter_async_context(_relay_client(network.relay_url))
            blobs = await stack.enter_async_context(_relay_blobs(network.relay_url))
        transport = await stack.enter_async_context(_peer(settings)) if settings.transport == "libp2p" else None
        yield make_ports(
            chain,
            chain_id=network.chain_id,
            board=network.contracts.task_board,
            blobs=blobs,
            relay=relay,
            transport=transport,
            address=address,
            relay_url=network.relay_url,
            max_fee=settings.max_fee,
        )


def make_ports(
    chain: Chain,
    *,
    chain_id: int,
    board: Address,
    blobs: BlobStore,
    relay: httpx.AsyncClient | None,
    transport: Transport | None,
    address: Address | None,
    relay_url: str | None = None,
    max_fee: str | None = None,
    poll_s: float = POLL_S,
) -> Ports:
    """The ports from their parts; used for real networks and for the one in a test's process."""
    announcers: list[Announcer] = []
    sources: list[ProgressSource] = []
    openings: list[OpeningSource] = []
    if transport is not None:
        blobs = PeersFirst(blobs, PeerBlobs(transport))
        announcers.append(GossipAnnouncer(transport))
        openings.append(PeerOpenings(transport, chain, relay))
        sources.append(PeerProgress(transport, PeerBinding(chain.node_of_peer)))
    if relay is not None:
        announcers.append(GossipAnnouncer(BridgedGossip(relay)))
        openings.append(RelayOpenings(relay, blobs))
        sources.append(RelayProgress(relay))
    return Ports(
        chain=chain,
        chain_id=chain_id,
        board=board,
        blobs=blobs,
        directory=Directory(chain, chain_id, board, relay),
        progress=AllProgress(tuple(sources)),
        announcers=tuple(announcers),
        address=address,
        spec_from=relay_url,
        max_fee=max_fee,
        poll_s=poll_s,
        openings=tuple(openings),
    )


async def _opened(source: WalletSource | None) -> tuple[Wallet | None, Address | None]:
    """Who pays, and what signs for it: nothing where the wallet stays locked."""
    if source is None:
        return None, None
    address = await to_thread.run_sync(Wallet.address_in, source.keystore) if source.locked else None
    if address is not None:
        return None, address
    wallet = await unlock(source)
    return wallet, wallet.address


async def unlock(source: WalletSource) -> Wallet:
    """Read the keystore with the password from file, environment or terminal. Raises WalletError."""
    password = _password(source)
    return await to_thread.run_sync(Wallet.unlock, source.keystore, password)


def _password(source: WalletSource) -> str:
    given = os.environ.get("GESSO_PASSWORD")
    if source.password_file is not None:
        return read_bounded(source.password_file).strip()
    if given is not None:
        return given
    import sys

    if not sys.stdin.isatty():
        raise WalletError(
            f"the wallet {source.keystore.stem} is locked", hint="set GESSO_PASSWORD_FILE to a file with its password"
        )
    return ask_secret(f"password of wallet {source.keystore.stem}: ")


def _relay_client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=20)
    headers = {"Accept-Encoding": "identity", "User-Agent": "gesso"}
    return httpx.AsyncClient(base_url=url, timeout=RELAY_TIMEOUT_S, headers=headers, limits=limits)


@asynccontextmanager
async def _relay_blobs(url: str) -> AsyncIterator[BlobStore]:
    from gesso.blobs import HttpBlobs

    async with HttpBlobs(url) as blobs:
        yield blobs


@asynccontextmanager
async def _peer(settings: Settings) -> AsyncIterator[Transport]:
    from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport

    chosen = Libp2pSettings(key_file=settings.home / "peer.key", bootstrap=settings.network.bootstrap)
    async with Libp2pTransport(chosen) as transport:
        yield transport
