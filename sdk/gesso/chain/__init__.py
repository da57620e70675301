"""The chain, seen through gesso's own types: one adapter over any Ethereum JSON-RPC endpoint.

Names are imported on first use: settings and records are light, `Chain` brings the codecs. The deployer is
`gesso.chain.deploy.deploy`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso.chain.chain import Chain
    from gesso.chain.cursor import Cursor, Page
    from gesso.chain.deploy import DeploySettings
    from gesso.chain.records import Done, Listing, NodeRecord, NodeState, TxReceipt
    from gesso.chain.reverts import revert_name
    from gesso.chain.settings import ChainSettings, ContractAddresses
    from gesso.chain.wallet import Wallet

__all__ = [
    "Chain",
    "ChainSettings",
    "ContractAddresses",
    "Cursor",
    "DeploySettings",
    "Done",
    "Listing",
    "NodeRecord",
    "NodeState",
    "Page",
    "TxReceipt",
    "Wallet",
    "revert_name",
]

_HOMES = {
    "Chain": "chain",
    "Cursor": "cursor",
    "DeploySettings": "deploy",
    "Done": "records",
    "Listing": "records",
    "NodeRecord": "records",
    "NodeState": "records",
    "Page": "cursor",
    "TxReceipt": "records",
    "ChainSettings": "settings",
    "ContractAddresses": "settings",
    "Wallet": "wallet",
    "revert_name": "reverts",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gesso.chain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gesso.chain.{home}"), name)
