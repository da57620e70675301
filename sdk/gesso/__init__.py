"""The gesso SDK: client, command line, and the ports to chain, blobs and peers.

Names are imported on first use, so `import gesso` stays cheap: no torch, no libp2p.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gesso._sync import Client, Task, Training
    from gesso.client import AsyncClient
    from gesso.image import Image
    from gesso.many import Drawn
    from gesso.outcome import Result
    from gesso.quote import Quote
    from gesso.receipt import Receipt
    from gesso.settings import Settings
    from gesso.task import AsyncTask
    from gesso.training import Adapter, AsyncTraining
    from gesso_protocol.errors import GessoError
    from gesso_protocol.events import Event
    from gesso_protocol.spec import TextToImage, TrainLora

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "AsyncClient",
    "AsyncTask",
    "AsyncTraining",
    "Client",
    "Drawn",
    "Event",
    "GessoError",
    "Image",
    "Quote",
    "Receipt",
    "Result",
    "Settings",
    "Task",
    "TextToImage",
    "TrainLora",
    "Training",
    "__version__",
]

_HOMES = {
    "Adapter": "gesso.training",
    "AsyncClient": "gesso.client",
    "AsyncTask": "gesso.task",
    "AsyncTraining": "gesso.training",
    "Client": "gesso._sync",
    "Drawn": "gesso.many",
    "Event": "gesso_protocol.events",
    "GessoError": "gesso_protocol.errors",
    "Image": "gesso.image",
    "Quote": "gesso.quote",
    "Receipt": "gesso.receipt",
    "Result": "gesso.outcome",
    "Settings": "gesso.settings",
    "Task": "gesso._sync",
    "TextToImage": "gesso_protocol.spec",
    "TrainLora": "gesso_protocol.spec",
    "Training": "gesso._sync",
}


if not TYPE_CHECKING:  # or every misspelt name would be one to a type checker

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'gesso' has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
