"""`pip install gesso` brings no torch, libp2p or database: the SDK works without, and the rest says what it needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_MODULES = {"py-evm": "eth", "prometheus-client": "prometheus_client"}
_TOOLS = {"gesso", "hypothesis", "import-linter", "mypy", "pytest", "pytest-timeout", "pytest-xdist", "ruff"}

BLOCK = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""

LIGHT = """
import importlib, pkgutil
import gesso, gesso_protocol, gesso_contracts

for package in (gesso, gesso_protocol, gesso_contracts):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("gesso.transport._libp2p", "gesso.logs", "gesso.cli.__main__")):
            importlib.import_module(module.name)
print("whole")
"""


def extras() -> set[str]:
    """The modules that only extras bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def named(requirements: list[str]) -> set[str]:
        names = {requirement.partition(";")[0] for requirement in requirements}
        return {name for text in names for name in [_name(text)] if name not in _TOOLS}

    light = named(project["dependencies"])
    heavy = set().union(*(named(listed) for listed in project["optional-dependencies"].values()))
    return {_MODULES.get(name, name) for name in heavy - light}


def _name(requirement: str) -> str:
    for sign in "[<>=~! ":
        requirement = requirement.partition(sign)[0]
    return requirement.lower()


def lightly(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code as if nothing but the light install were there."""
    whole = BLOCK.format(blocked=sorted(extras())) + code
    return subprocess.run([sys.executable, "-c", whole, *arguments], capture_output=True, text=True, timeout=100)


def test_the_extras_are_known() -> None:
    assert {"torch", "libp2p", "trio", "structlog", "sqlalchemy", "diffusers", "eth"} <= extras()
    assert not {"httpx", "aiohttp", "pydantic", "numpy", "coincurve"} & extras()


def test_everything_of_the_sdk_can_be_imported_without_extras() -> None:
    shown = lightly(LIGHT)
    assert shown.stdout == "whole\n", shown.stderr[-2000:]


@pytest.mark.parametrize(
    ("words", "extra"),
    [("node run x", "node"), ("devnet up", "devnet"), ("devnet status", "devnet")],
)
def test_a_command_that_needs_more_says_how_to_get_it(words: str, extra: str, tmp_path: Path) -> None:
    run = f"import os; os.environ['GESSO_HOME'] = {str(tmp_path)!r}\nfrom gesso.cli.app import main\nsys.exit(main())"
    shown = lightly(run, *words.split())
    assert shown.returncode == 3, shown.stderr
    assert "Traceback" not in shown.stderr
    assert f"pip install 'gesso[{extra}]'" in shown.stderr


def test_a_relay_that_lacks_its_extra_says_so() -> None:
    shown = lightly("import runpy; runpy.run_module('gesso_relay', run_name='__main__')", "--config", "relay.json")
    assert shown.returncode == 3, shown.stderr
    assert "Traceback" not in shown.stderr
    assert "pip install 'gesso[relay]'" in shown.stderr


def test_a_shell_completes_what_can_be_used() -> None:
    shown = lightly("from gesso.cli.app import main\nsys.exit(main(['completion', 'bash']))")
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "--max-fee" in shown.stdout
    assert "--block-time" not in shown.stdout  # of gesso devnet up
