"""The node that a command is about: its settings by name or file, and what it answers while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from gesso.settings import home_folder
from gesso_node.settings import NodeSettings
from gesso_protocol.errors import ConfigError, Unreachable

DEFAULT_NAME = "node"
ASK_TIMEOUT_S = 20.0


def config_of(name: str, given: Path | None) -> Path:
    """The settings file of a node. Raises ConfigError where there is none."""
    path = given or home_folder() / "nodes" / name / "config.json"
    if not path.is_file():
        hint = f"make one with: gesso node init {name}" if given is None else "check the path of its settings file"
        raise ConfigError(f"there is no node at {path}", hint=hint)
    return path


def settings_of(name: str, given: Path | None) -> NodeSettings:
    """The verified settings of a node. Raises ConfigError."""
    return NodeSettings.load(config_of(name, given))


async def ask(settings: NodeSettings, path: str) -> dict[str, Any]:
    """What the running node answers. Raises Unreachable."""
    if not settings.status_port:
        raise Unreachable("this node has no fixed status port", hint="set status_port in its settings")
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ASK_TIMEOUT_S) as client:
            reply = await client.get(f"http://127.0.0.1:{settings.status_port}{path}")
            document: dict[str, Any] = reply.raise_for_status().json()
            return document
    except (httpx.HTTPError, ValueError) as error:
        hint = f"start it with: gesso node run {settings.name}"
        raise Unreachable(f"node {settings.name!r} does not answer", hint=hint) from error
