"""The gesso worker: claims tasks, runs them, proves them, gets paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso_node.peer import Node
    from gesso_node.settings import NodeSettings

__all__ = ["Node", "NodeSettings"]


def __getattr__(name: str) -> object:
    # An executor's child imports this package too; it must not pay for web3 and HTTP.
    if name == "Node":
        from gesso_node.peer import Node

        return Node
    if name == "NodeSettings":
        from gesso_node.settings import NodeSettings

        return NodeSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
