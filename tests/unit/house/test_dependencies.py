"""What a package of ours imports is declared for it, and what is declared is imported by somebody."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gesso.cli.app import _EXTRA_OF_MODULE

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# What each package may import: the light install, and the extras that somebody who runs it is told to install.
# The SDK's are for its optional parts, each of which says what it lacks.
ROOMS = {
    "sdk/gesso_protocol": (),
    "contracts/gesso_contracts": (),
    "sdk/gesso": ("p2p", "hub"),
    "node/gesso_node": ("node", "gpu"),
    "relay/gesso_relay": ("relay",),
    "sdk/gesso_devnet": ("devnet",),
}
ELSEWHERE = {"sdk/gesso": {"structlog"}}
"""gesso.logs is for nodes and relays, which bring it."""
OWNERS = {
    "p2p": "sdk/gesso",
    "hub": "sdk/gesso",
    "node": "node/gesso_node",
    "gpu": "node/gesso_node",
    "relay": "relay/gesso_relay",
    "devnet": "sdk/gesso_devnet",
}
DISTRIBUTIONS = {"PIL": "pillow", "Crypto": "pycryptodome", "eth": "py-evm"}
PARTS = {
    "pydantic_core": "pydantic",
    "multiaddr": "libp2p",
    "markupsafe": "jinja2",
    "tokenizers": "transformers",
    "eth_bloom": "py-evm",
    "eth_utils": "py-evm",
}
"""Libraries that are the vocabulary of another."""
DRIVERS = {"aiosqlite", "asyncpg", "accelerate"}
"""Found by name by SQLAlchemy and diffusers."""


def named(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement)[0].lower().replace("_", "-")


def brought_by(extra: str) -> Iterator[str]:
    for requirement in EXTRAS[extra]:
        if named(requirement) == "gesso":
            for other in re.findall(r"[a-z0-9]+", requirement.partition("[")[2]):
                yield from brought_by(other)
        else:
            yield named(requirement)


LIGHT = {named(requirement) for requirement in PROJECT["dependencies"]}


def imported(room: str) -> dict[str, str]:
    """Distributions, each with a file that imports it."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            else:
                continue
            for top in {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names):
                if not top.startswith("gesso"):
                    name = DISTRIBUTIONS.get(top) or PARTS.get(top, top)
                    found[name.replace("_", "-")] = file.name
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_imported_is_declared(room: str) -> None:
    declared = LIGHT.union(ELSEWHERE.get(room, ()), *(brought_by(extra) for extra in ROOMS[room]))
    assert {name: file for name, file in imported(room).items() if name not in declared} == {}


@pytest.mark.parametrize("extra", [None, *OWNERS])
def test_what_is_declared_is_imported(extra: str | None) -> None:
    declared = LIGHT if extra is None else {named(requirement) for requirement in EXTRAS[extra]} - {"gesso"}
    used = set().union(*(imported(room) for room in ([*ROOMS] if extra is None else [OWNERS[extra]])))
    assert declared - used - DRIVERS == set()


def test_whoever_lacks_something_is_told_the_extra_that_brings_it() -> None:
    told = {DISTRIBUTIONS.get(module, module).replace("_", "-"): extra for module, extra in _EXTRA_OF_MODULE.items()}
    assert {name: extra for name, extra in told.items() if name not in set(map(named, EXTRAS[extra]))} == {}
    heavy = set().union(*(brought_by(extra) for extra in EXTRAS if extra != "dev")) - LIGHT
    assert heavy - DRIVERS == set(told) - DRIVERS


def test_every_extra_has_somebody_who_wants_it() -> None:
    assert set(OWNERS) | {"postgres", "dev"} == set(EXTRAS)
