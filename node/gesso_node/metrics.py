"""Prometheus metrics of one node, in a registry of its own so that several nodes fit into one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """What happens is counted when it happens; what is, is set when somebody looks."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._ended = Counter("gesso_node_tasks", "Tasks let go of, by how they ended", ["outcome"], registry=registry)
        self._refused = Counter("gesso_node_refusals", "Tasks not taken, by reason", ["reason"], registry=registry)
        self._failed = Counter("gesso_node_failures", "Failed executions, by kind", ["kind"], registry=registry)
        self._sent = Counter("gesso_node_transactions", "Transactions sent", ["verb", "outcome"], registry=registry)
        self._stage = Histogram(
            "gesso_node_stage_seconds", "Time in a stage of a task", ["stage"], buckets=SECONDS, registry=registry
        )
        self._earned = Gauge("gesso_node_earned_tokens", "Fees earned, in whole tokens", registry=registry)
        self._tasks = Gauge("gesso_node_tasks_held", "Claimed and not yet committed", registry=registry)
        self._cache = Gauge("gesso_node_model_cache_bytes", "Models on disk", registry=registry)
        self._peers = Gauge("gesso_node_peers", "Connected peers", registry=registry)
        self._block = Gauge("gesso_node_chain_block", "Last block that was read", registry=registry)

    def ended(self, outcome: str) -> None:
        self._ended.labels(outcome).inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def failed(self, kind: str) -> None:
        self._failed.labels(kind).inc()

    def sent(self, verb: str, outcome: str) -> None:
        self._sent.labels(verb, outcome).inc()

    def stage_seconds(self, stage: str, seconds: float) -> None:
        self._stage.labels(stage).observe(seconds)

    def observe(self, *, earned_tokens: float, held: int, cache_bytes: int, peers: int, block: int) -> None:
        """Set the gauges."""
        self._earned.set(earned_tokens)
        self._tasks.set(held)
        self._cache.set(cache_bytes)
        self._peers.set(peers)
        self._block.set(block)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
