"""Prometheus metrics of one relay: what health tells as numbers, in the text form that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from gesso_relay.index.entries import Document
from gesso_relay.routes import params

_GAUGES = {
    ("index", "block"): ("gesso_relay_index_block", "Last block that the index has finished"),
    ("index", "at_head"): ("gesso_relay_index_at_head", "1 when the last read found nothing more"),
    ("index", "failures"): ("gesso_relay_index_failures", "Failed reads of the chain in a row"),
    ("index", "rewinds"): ("gesso_relay_index_rewinds", "Reorganisations seen since the start"),
    ("blobs", "count"): ("gesso_relay_blobs", "Blobs in the cache"),
    ("blobs", "bytes"): ("gesso_relay_blob_bytes", "Bytes in the cache"),
    ("blobs", "quota_bytes"): ("gesso_relay_blob_quota_bytes", "Bytes that the cache may hold"),
    ("gossip", "peers"): ("gesso_relay_peers", "Connected peers"),
    ("gossip", "heard_tasks"): ("gesso_relay_heard_tasks", "Announcements heard since the start"),
    ("gossip", "heard_nodes"): ("gesso_relay_heard_nodes", "Nodes remembered from gossip"),
    ("", "streams"): ("gesso_relay_streams", "Event streams open now"),
    ("", "uptime_s"): ("gesso_relay_uptime_seconds", "Seconds since the start"),
}


class MetricsRoutes:
    """`GET /metrics`. A registry of its own, so that several relays fit into one process."""

    def __init__(self, health: Callable[[], Document]) -> None:
        self._health = health
        self._registry = CollectorRegistry()
        self._gauges = {place: Gauge(name, text, registry=self._registry) for place, (name, text) in _GAUGES.items()}

    def table(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self.show)]

    async def show(self, request: web.Request) -> web.StreamResponse:
        params.known(request)
        health = self._health()
        for (part, name), gauge in self._gauges.items():
            section = health.get(part) if part else health
            value = section.get(name) if isinstance(section, dict) else 0
            gauge.set(value if isinstance(value, int) else 0)
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
