"""The parts of a node that reach outside it, made from its settings. Used by the composition root only."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack
from functools import partial

import anyio
import anyio.to_thread
import httpx
import structlog
from anyio.abc import TaskGroup

from gesso.blobs import BlobStore, LocalBlobs
from gesso.chain import Chain, Wallet
from gesso.transport.port import Transport
from gesso_node.executors.cheats import CHEATS, ENGINE_CHEATS, TRAINING_CHEATS, check_cheat
from gesso_node.executors.cheats.roots import with_cheat
from gesso_node.executors.lora.host import TrainingChildExecutor
from gesso_node.executors.port import Executor
from gesso_node.models.cache import ModelCache
from gesso_node.models.catalogue import Catalogue
from gesso_node.models.demand import Demand, Prefetcher
from gesso_node.network.progress import ProgressSender
from gesso_node.settings import ModelSection, NodeSettings, WalletSection
from gesso_node.state.journal import Journal
from gesso_node.tasks.policy import Policy
from gesso_node.traces.backup import TraceSecrets
from gesso_node.work.checkpoints import CheckpointSharer
from gesso_node.work.results import signed_checkpoint
from gesso_protocol.errors import ConfigError, GessoError, WalletError

log = structlog.get_logger("gesso.node")

MAX_PASSWORD_BYTES = 4096


async def open_chain(stack: AsyncExitStack, settings: NodeSettings) -> Chain:
    if settings.chain is None or settings.wallet is None:
        raise ConfigError("a node needs the settings `chain` and `wallet`", hint="make them with: gesso node init")
    wallet = await anyio.to_thread.run_sync(unlock, settings.wallet)
    return await stack.enter_async_context(Chain.open(settings.chain.for_node(), wallet))


async def open_transport(stack: AsyncExitStack, settings: NodeSettings) -> Transport | None:
    if not settings.transport.enabled:
        return None
    from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport

    section = settings.transport
    made = Libp2pTransport(
        Libp2pSettings(
            key_file=section.key_file or settings.data_dir / "peer.key",
            listen_host=section.listen_host,
            listen_port=section.listen_port,
            bootstrap=section.bootstrap,
            announce=section.announce,
        )
    )
    return await stack.enter_async_context(made)


async def open_blobs(
    stack: AsyncExitStack, settings: NodeSettings, given: BlobStore | None
) -> tuple[LocalBlobs | None, list[BlobStore], BlobStore]:
    if given is not None:
        return (given if isinstance(given, LocalBlobs) else None), [], given
    local = LocalBlobs(settings.data_dir / "blobs")
    if not settings.blobs.relays:
        return local, [], local
    from gesso.blobs import HttpBlobs, LayeredBlobs

    token = os.environ.get(settings.blobs.token_env) if settings.blobs.token_env else None
    remotes: list[BlobStore] = [await stack.enter_async_context(HttpBlobs(url, token)) for url in settings.blobs.relays]
    return local, remotes, LayeredBlobs([local, *remotes], on_skip=_log_skip)


async def open_executor(stack: AsyncExitStack, settings: NodeSettings) -> Executor:
    section = settings.executor
    child = section.child
    check_cheat(section.cheat, section.allow_cheats)
    if child.options.get("cheat") is not None and not section.allow_cheats:
        raise ConfigError(
            "the setting executor.child.options.cheat is set; a node that cheats loses its stake",
            hint="executor.allow_cheats exists for tests and devnets; remove the option",
        )
    if section.cheat in (*ENGINE_CHEATS, *TRAINING_CHEATS):
        child = child.model_copy(update={"options": {**child.options, "cheat": section.cheat}})
    return await stack.enter_async_context(
        TrainingChildExecutor(section.engine, settings.data_dir.absolute() / "executor", child)
    )


def dishonest(settings: NodeSettings, executor: Executor) -> Executor:
    """`executor`, or what a cheat makes of it; that is said out loud. Raises ConfigError where none is allowed."""
    section = settings.executor
    check_cheat(section.cheat, section.allow_cheats)
    if section.cheat is not None:
        log.warning("node.THIS-NODE-CHEATS", cheat=section.cheat, what={**CHEATS, **TRAINING_CHEATS}[section.cheat])
    return with_cheat(executor, section.cheat)


async def open_relays(stack: AsyncExitStack, settings: NodeSettings) -> list[httpx.AsyncClient]:
    return [
        await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
        for url in settings.blobs.relays
    ]


async def open_sharer(
    settings: NodeSettings,
    chain: Chain,
    blobs: BlobStore,
    local: LocalBlobs | None,
    progress: ProgressSender,
    journal: Journal,
    tasks: TaskGroup,
) -> CheckpointSharer:
    """What keeps checkpoints in public; it lives as long as `tasks`."""
    every_s = settings.executor.share_checkpoints_s
    sharer = CheckpointSharer(
        blobs, local, progress, partial(signed_checkpoint, chain), every_s=every_s, journal=journal
    )
    await sharer.restore([entry.task for entry in await journal.open_entries()])
    tasks.start_soon(sharer.run)
    return sharer


def prefetcher_of(
    section: ModelSection, demand: Demand, catalogue: Catalogue, models: ModelCache, policy: Policy
) -> Prefetcher:
    """Fetches ahead what the chain's tasks are for."""
    return Prefetcher(
        demand,
        catalogue,
        models,
        count=section.prefetch_popular,
        chain_now=demand.latest,
        clock=time.time,
        wanted=policy.model_allowed,
        pins=section.pin,
    )


def trace_secrets(chain: Chain) -> TraceSecrets:
    """The secrets of this wallet's traces. Raises WalletError when the chain was opened to read."""
    if chain.wallet is None:
        raise WalletError("a node needs its wallet")
    return TraceSecrets(chain.wallet.derive("traces"))


def unlock(section: WalletSection) -> Wallet:
    """The wallet of the settings. Raises WalletError."""
    if section.password_file is not None:
        try:
            with section.password_file.open("rb") as file:
                password = file.read(MAX_PASSWORD_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise WalletError(f"the password file {section.password_file} cannot be read") from error
    else:
        password = os.environ.get(section.password_env, "")
    return Wallet.unlock(section.keystore, password)


def _log_skip(store: BlobStore, error: GessoError) -> None:
    log.debug("node.blob-store-passed-over", store=type(store).__name__, code=error.code)
