"""The public surface: exports, import cost, the generated twin, the command table."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_results import image

import gesso
from gesso._sync import Market, Task, Training
from gesso.cli import app
from gesso.market.client import AsyncMarket
from gesso.outcome import Result
from gesso.task import AsyncTask
from gesso.training import AsyncTraining

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("web3", "torch", "libp2p", "trio", "eth_account", "diffusers", "httpx", "pydantic", "aiohttp", "numpy")


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_every_export_exists_and_nothing_else_is_promised() -> None:
    for name in gesso.__all__:
        assert getattr(gesso, name) is not None
    assert sorted(gesso.__all__) == dir(gesso)
    with pytest.raises(AttributeError):
        _ = gesso.nothing_of_the_kind  # type: ignore[attr-defined]


def test_what_is_shown_of_a_picture_or_a_task_has_no_bytes_in_it() -> None:
    drawn = image()
    assert "data=" not in repr(drawn)
    assert str(drawn.blob.short) in repr(Result((drawn,), drawn.receipt, {}))
    handle: Any = SimpleNamespace(id=drawn.receipt.task, task=SimpleNamespace(id=drawn.receipt.task))
    for kind, twin in ((AsyncTask, Task), (AsyncTraining, Training)):
        shown: Any = kind.__repr__(handle)
        assert shown == f"{kind.__name__}({handle.id})"
        other: Any = SimpleNamespace(_async=type("Twin", (), {"__repr__": lambda _, shown=shown: shown})())
        assert twin.__repr__(other) == f"{twin.__name__}({handle.id})"


def test_a_misspelt_name_is_one_to_a_type_checker_too() -> None:
    """A function that answers for any name would say that it is there."""
    tree = ast.parse((ROOT / "sdk" / "gesso" / "__init__.py").read_text())
    assert "__getattr__" not in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    imported = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gesso")
        for name in node.names
    }
    assert imported == set(gesso.__all__) - {"__version__"}


def test_import_gesso_is_light() -> None:
    assert loaded_by("import gesso") == set()


def test_settings_do_not_bring_the_chain_or_the_models() -> None:
    assert loaded_by("import gesso; gesso.Settings") <= {"pydantic"}


def test_help_imports_no_command() -> None:
    code = "from gesso.cli.app import main\nmain(['--help'])\nmain(['task', '--help'])"
    assert loaded_by(code) == set()


@pytest.mark.parametrize("noun", [*app._NOUNS, None])
def test_every_command_that_is_listed_exists(noun: str | None) -> None:
    if noun is None:
        targets = [(f"gesso.cli.{name}", name) for name in app._TOP]
    else:
        home = app._HOMES.get(noun, f"gesso.cli.{noun}")
        targets = [(home, app.function_of(verb)) for verb in app._NOUNS[noun][1]]
    for module, function in targets:
        command = getattr(importlib.import_module(module), function)
        assert inspect.getdoc(command), f"{module}:{function} has no help"


def test_every_command_s_document_is_written_down() -> None:
    page = (ROOT / "sdk" / "CLI.md").read_text(encoding="utf-8")
    commands = [*app._TOP, *(f"{noun} {verb}" for noun, (_, verbs) in app._NOUNS.items() for verb in verbs)]
    assert [command for command in commands if f"`{command}`" not in page] == []


def test_the_blocking_twin_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/sync_client"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_twins_have_the_same_methods_and_parameters() -> None:
    pairs = ((gesso.AsyncClient, gesso.Client), (gesso.AsyncTask, gesso.Task), (AsyncMarket, Market))
    for asynchronous, blocking in pairs:
        for name, member in inspect.getmembers(asynchronous, inspect.isfunction):
            if name.startswith("_"):
                continue
            twin = getattr(blocking, name)
            assert list(inspect.signature(twin).parameters) == list(inspect.signature(member).parameters)
            assert inspect.getdoc(twin) == inspect.getdoc(member)
            assert not inspect.iscoroutinefunction(twin)
