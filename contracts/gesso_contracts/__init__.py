"""The contracts as Python sees them: ABI and bytecode of the committed build, without web3."""

from __future__ import annotations

from gesso_contracts.binding import Contract

TASK_BOARD = Contract("TaskBoard")
NODE_REGISTRY = Contract("NodeRegistry")
MARKETPLACE = Contract("Marketplace")
ARBITER = Contract("Arbiter")
BLOCK_BEACON = Contract("BlockBeacon")
DRAND_BEACON = Contract("DrandBeacon")
DEV_TOKEN = Contract("DevToken")

__all__ = [
    "ARBITER",
    "BLOCK_BEACON",
    "DEV_TOKEN",
    "DRAND_BEACON",
    "MARKETPLACE",
    "NODE_REGISTRY",
    "TASK_BOARD",
    "Contract",
]
