"""The relay's composition root: every part is made here, given what it needs, and closed in order."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import anyio
import structlog
from aiohttp import web

from gesso.settings import Network
from gesso.transport.port import Transport
from gesso_protocol.messages import TOPIC_TASKS
from gesso_protocol.terms import BoardParams
from gesso_relay.audience import Audience
from gesso_relay.bases import Bases
from gesso_relay.blobs import BlobCache
from gesso_relay.cards import Cards
from gesso_relay.chain import ChainView, LiveChain
from gesso_relay.checkpoints import Checkpoints
from gesso_relay.doors import Doors
from gesso_relay.evidence import EvidenceKeeper
from gesso_relay.explorer.market import MarketPages
from gesso_relay.explorer.pages import Explorer
from gesso_relay.gate import gate
from gesso_relay.gossip import GossipBridge, network_topics
from gesso_relay.hub import Hub
from gesso_relay.index.database import Database, open_database
from gesso_relay.index.entries import Document, Entry
from gesso_relay.index.follow import Follower, News
from gesso_relay.index.market import MarketQueries
from gesso_relay.index.queries import Queries
from gesso_relay.index.writer import Writer
from gesso_relay.limits import Room
from gesso_relay.mirror import Mirror
from gesso_relay.openings import Openings
from gesso_relay.presence import Presence
from gesso_relay.proved import Proved
from gesso_relay.replies import end_streams_on_stop
from gesso_relay.results import Results
from gesso_relay.routes.blobs import BlobRoutes
from gesso_relay.routes.gossip import GossipRoutes
from gesso_relay.routes.hints import HintRoutes
from gesso_relay.routes.metrics import MetricsRoutes
from gesso_relay.routes.models import ModelRoutes
from gesso_relay.routes.network import NetworkRoutes
from gesso_relay.routes.openings import OpeningRoutes
from gesso_relay.routes.tasks import TaskRoutes
from gesso_relay.settings import RelaySettings
from gesso_relay.streams import ProgressHub, TaskHub

_OPENINGS_SHARE = 4
"""Openings may bring one part in so many of the blobs' quota at once, and their files another: those of openings are
bounded by the spec and come within seconds, of files only the node says how large they are."""
_NODE_BUNDLES = 2
_NODE_FILES = 4
"""Of each of these rooms one node has one part in so many."""
_TASK_SHARE = 16
"""And the files of one task's openings one part in so many."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Relay:
    """A running relay. Make it with `Relay.open`; it runs until that block ends."""

    def __init__(
        self,
        settings: RelaySettings,
        chain_id: int,
        params: BoardParams,
        database: Database,
        chain: ChainView,
        transport: Transport | None,
    ) -> None:
        self.settings = settings
        self._chain = chain
        self._chain_id = chain_id
        self._params = params
        self._started_s = time.monotonic()
        self._url: str | None = None
        self.doors = Doors(settings.limits, apart=not settings.trust_forwarded_for)
        self._news: TaskHub = Hub()
        self._progress: ProgressHub = Hub(queue=64, remembered=4, topics=2048)
        self._presence = Presence()
        self._cache = BlobCache.open(
            settings.data_dir / "blobs",
            quota_bytes=settings.blob_quota_bytes,
            max_blob_bytes=settings.max_blob_bytes,
        )
        self._queries = Queries(database)
        self._market = MarketQueries(database)
        self._cards = Cards(self._cache, database, transport)
        self._results = Results(self._cache, database)
        limits = settings.limits
        self._audience = Audience(limits.max_streams, limits.max_streams_a_client, limits.max_streams // 4)
        self._transport = transport
        board = settings.chain.contracts.task_board
        self._checkpoints = Checkpoints(chain_id, board)

        async def task_known(key: str) -> bool:
            return await self._queries.task(key) is not None

        async def node_known(key: str) -> bool:
            return await self._queries.node(key) is not None

        self._topics = network_topics(chain_id, board, self._presence, task_known, node_known)
        self._gossip = None if transport is None else GossipBridge(transport, self._topics)
        self._mirror: Mirror | None = None
        self._openings: Openings | None = None
        if transport is not None:
            share = settings.blob_quota_bytes // _OPENINGS_SHARE
            files, bundles = Room("files", share, share // _NODE_FILES), Room("openings", share, share // _NODE_BUNDLES)
            self._mirror = Mirror(self._cache, transport, files, settings.blob_quota_bytes // _TASK_SHARE)
            proved, bases = Proved(self._cache, database), Bases(self._market, self._cards)
            self._openings = Openings(self._cache, proved, transport, bundles, self._mirror, bases)
        self._evidence = None if transport is None else EvidenceKeeper(transport, self._cache)
        self._follower = Follower(
            chain,
            Writer(database, f"{chain_id}/{board}"),
            start_block=settings.start_block,
            poll_s=settings.index_poll_s,
            on_news=self._tell,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: RelaySettings, *, chain: ChainView | None = None, transport: Transport | None = None
    ) -> AsyncIterator[Relay]:
        """Start everything. A chain or a transport that is given stays the caller's; otherwise settings make them.

        Raises ConfigError before any socket opens when a setting is wrong, Unreachable when the chain does not answer.
        """
        settings.verify()
        async with AsyncExitStack() as stack:
            view: ChainView
            view = await stack.enter_async_context(LiveChain.open(settings.chain)) if chain is None else chain
            params = await view.params()
            database = await stack.enter_async_context(open_database(settings.database()))
            if transport is None and settings.gossip is not None:
                transport = await stack.enter_async_context(_libp2p(settings))
            relay = cls(settings, view.chain_id, params, database, view, transport)
            await stack.enter_async_context(relay._serving())
            failure: Exception | None = None
            async with anyio.create_task_group() as group:
                group.start_soon(relay._follower.run)
                group.start_soon(relay._cache.watch)
                if relay._gossip is not None:
                    group.start_soon(relay._gossip.run)
                group.start_soon(relay._cards.run)
                group.start_soon(relay._presence.run, relay._queries.peer_of)
                group.start_soon(relay._results.run, relay._queries.task)
                if relay._mirror is not None:
                    group.start_soon(relay._mirror.run)
                if relay._evidence is not None:
                    group.start_soon(relay._evidence.run)
                try:
                    yield relay
                except Exception as error:
                    # Kept out of the group, so that the caller gets its own error back and not one in a group.
                    failure = error
                group.cancel_scope.cancel()
            if failure is not None:
                raise failure

    @property
    def url(self) -> str:
        """Where this relay listens."""
        assert self._url is not None, "a relay has no address before it is open"
        return self._url

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """Addresses that peers may start from: our own first."""
        others = () if self.settings.gossip is None else self.settings.gossip.bootstrap
        return (*(() if self._gossip is None else self._gossip.addresses), *others)

    async def caught_up(self) -> None:
        """Wait until the index has once reached the chain's head."""
        await self._follower.state.caught_up.wait()

    def network(self) -> Document:
        """What a stranger needs to join; `network` is what the SDK keeps as a network file."""
        settings = self.settings
        rpc = settings.rpc_hint
        if rpc is None:
            # Our own endpoint may carry a key in its path, so only a local one is told to others unasked.
            rpc = settings.chain.rpc_url if urlsplit(settings.chain.rpc_url).hostname in _LOOPBACK else ""
        network = Network(
            name=settings.network_name,
            chain_id=self._chain_id,
            rpc_url=rpc,
            relay_url=settings.public_url or self.url,
            bootstrap=self.bootstrap[:32],
            contracts=settings.chain.contracts,
        )
        described: Document = network.model_dump(mode="json", exclude={"wallet"})
        params: Document = self._params.model_dump(mode="json")
        return {"network": described, "params": params, "start_block": settings.start_block}

    def health(self) -> Document:
        """How each part is; numbers, and the code of the last error, but nothing that is anyone's secret."""
        state = self._follower.state
        index: Document = {
            "block": state.block,
            "at_head": state.at_head,
            "failures": state.failures,
            "last_error": state.last_error,
            "rewinds": state.rewinds,
        }
        blobs: Document = {
            "count": self._cache.count,
            "bytes": self._cache.used_bytes,
            "quota_bytes": self.settings.blob_quota_bytes,
        }
        return {
            "status": "degraded" if state.failures else "ok",
            "uptime_s": int(time.monotonic() - self._started_s),
            "index": index,
            "blobs": blobs,
            "gossip": self._gossip_health(),
            "streams": self._audience.taken,
        }

    def _gossip_health(self) -> Document | None:
        if self._transport is None or self._gossip is None:
            return None
        health = self._transport.health()
        return {
            "running": health.running,
            "peer": health.peer,
            "peers": health.peers,
            "heard_tasks": self._gossip.counts[TOPIC_TASKS],
            "heard_nodes": len(self._presence),
        }

    def _tell(self, news: News) -> None:
        if news.subject in ("task", "audit"):
            self._news.publish(news.key, news)
        if isinstance(news, Entry):
            self._cards.note(news)
            self._results.committed(news)
            if self._evidence is not None:
                self._evidence.note(news)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        settings = self.settings
        async with self.doors.serving(self._app(), settings.listen_host, settings.listen_port) as self._url:
            structlog.get_logger("gesso.relay").info("relay.listening", url=self._url)
            yield

    def _app(self) -> web.Application:
        limits = self.settings.limits
        explorer = Explorer(
            self._queries, self._market, self._results, self._presence, network=self.network, health=self.health
        )
        trusting = self.settings.trust_forwarded_for
        app = web.Application(middlewares=[gate(limits, trust_forwarded_for=trusting, draw=explorer.problem)])
        end_streams_on_stop(app)
        tasks = TaskRoutes(self._queries, self._results, self._checkpoints, self._news, self._audience, limits)
        hints = HintRoutes(self._queries, self._results, self._checkpoints, self._progress, self._audience, limits)
        gossip = GossipRoutes(self._gossip, self._topics, self._audience, limits)
        network = NetworkRoutes(self._queries, self._presence, network=self.network, health=self.health)
        app.add_routes(BlobRoutes(self._cache, limits, self.settings.upload_token()).table())
        board = self.settings.chain.contracts.task_board
        openings = OpeningRoutes(self._queries, self._presence, self._chain, board, self._transport, self._openings)
        models = ModelRoutes(self._market, self._cards)
        shop = MarketPages(self._market, self._queries, self._cards, explorer.page)
        for routes in (tasks, hints, gossip, network, models, openings, MetricsRoutes(self.health), explorer, shop):
            app.add_routes(routes.table())
        return app


@asynccontextmanager
async def _libp2p(settings: RelaySettings) -> AsyncIterator[Transport]:
    # Here and not above: a relay without gossip runs where libp2p is not installed.
    from gesso.transport.libp2p import Libp2pSettings, Libp2pTransport

    assert settings.gossip is not None
    wanted = settings.gossip
    made = Libp2pSettings(
        key_file=wanted.key_file,
        listen_host=wanted.listen_host,
        listen_port=wanted.listen_port,
        bootstrap=wanted.bootstrap,
        announce=wanted.announce,
    )
    async with Libp2pTransport(made) as transport:
        yield transport
