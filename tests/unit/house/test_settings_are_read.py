"""A setting that nothing reads is a promise that nobody keeps: the name of each is used where it is at home."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gesso_node.settings import NodeSettings
from gesso_relay.settings import RelaySettings

ROOT = Path(__file__).parents[3]
HOMES = {"gesso_node": "node/gesso_node", "gesso_relay": "relay/gesso_relay", "gesso": "sdk/gesso"}


def fields_of(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The package of each setting, and its name."""
    for name, field in model.model_fields.items():
        yield model.__module__.split(".")[0], name
        annotation: Any = field.annotation
        for kind in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields_of(kind)


@pytest.mark.parametrize("settings", [NodeSettings, RelaySettings])
def test_every_setting_is_read(settings: type[BaseModel]) -> None:
    read = {
        (package, name)
        for package, folder in HOMES.items()
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\.([a-z_0-9]+)\b", path.read_text())
    }
    assert set(fields_of(settings)) - read == set()
