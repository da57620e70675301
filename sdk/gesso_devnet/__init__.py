"""A whole gesso network on one machine, for people and for tests; carries the tiny base model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso_devnet.network import Devnet

__all__ = ["Devnet"]


def __getattr__(name: str) -> object:
    # Commands import this package too; a whole network is only brought in when somebody builds one.
    if name == "Devnet":
        from gesso_devnet.network import Devnet

        return Devnet
    raise AttributeError(f"module 'gesso_devnet' has no attribute {name!r}")
