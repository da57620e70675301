"""The node that a command is about: its settings by name or file, and what it answers while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import Parameter

from gesso.cli.output import Format, Printing  # noqa: F401 - the parser reads inherited fields' types from here
from gesso.settings import home_folder
from gesso_node.settings import NodeSettings
from gesso_protocol.errors import ConfigError, Unreachable

DEFAULT_NAME = "node"
ASK_TIMEOUT_S = 20.0

NodeName = Annotated[str, Parameter(help="A node made by `gesso node init`.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where the settings are, if not where `gesso node init` writes them."""

    config: Annotated[Path | None, Parameter(help="A settings file elsewhere.")] = None

    def file_of(self, name: str) -> Path:
        """The settings file of a node. Raises ConfigError where there is none."""
        path = self.config or home_folder() / "nodes" / name / "config.json"
        if not path.is_file():
            made = f"make one with: gesso node init {name}"
            raise ConfigError(
                f"there is no node at {path}", hint="check the path of its settings file" if self.config else made
            )
        return path

    def settings_of(self, name: str) -> NodeSettings:
        """The verified settings of a node. Raises ConfigError."""
        return NodeSettings.load(self.file_of(name))

    def said(self, name: str) -> str:
        """How commands name this node: by the file where it was named so."""
        return name if self.config is None else f"--config {self.config}"

    async def ask(self, name: str, path: str) -> dict[str, Any]:
        """What the running node answers. Raises ConfigError, Unreachable."""
        settings = self.settings_of(name)
        if not settings.status_port:
            raise Unreachable("this node has no fixed status port", hint="set status_port in its settings")
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=ASK_TIMEOUT_S) as client:
                reply = await client.get(f"http://127.0.0.1:{settings.status_port}{path}")
                document: dict[str, Any] = reply.raise_for_status().json()
                return document
        except (httpx.HTTPError, ValueError) as error:
            hint = f"start it with: gesso node run {self.said(name)}"
            raise Unreachable(f"node {settings.name!r} does not answer", hint=hint) from error


@Parameter(name="*")
@dataclass(frozen=True)
class OfNode(Printing, Place):
    """What every command takes that is about one node and prints something of it."""
