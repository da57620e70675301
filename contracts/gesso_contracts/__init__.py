"""The contracts as Python sees them: ABI and bytecode of the committed build, without web3."""

from __future__ import annotations

from gesso_contracts.binding import Contract

TASK_BOARD = Contract("TaskBoard")
NODE_REGISTRY = Contract("NodeRegistry")
MARKETPLACE = Contract("Marketplace")
DEV_TOKEN = Contract("DevToken")

__all__ = ["DEV_TOKEN", "MARKETPLACE", "NODE_REGISTRY", "TASK_BOARD", "Contract"]
