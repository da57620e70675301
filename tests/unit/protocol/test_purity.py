"""The rules do nothing but compute: no I/O, no clock, no randomness, nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gesso_protocol

PACKAGE = Path(gesso_protocol.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Rules about tensors compute with numpy; nothing else loads them along.
WITH_NUMPY = (PACKAGE / "audit", PACKAGE / "training")
LIGHT_PARTS = {
    PACKAGE / "training" / "spec.py",
    *(PACKAGE / "audit" / f"{name}.py" for name in (
        "outcomes", "rules", "challenge", "lifecycle", "disputes", "bundle", "limits",
    )),
}  # fmt: skip
LIGHT = [path for path in SOURCES if path.parent not in WITH_NUMPY or path in LIGHT_PARTS]
MODULES = [
    ".".join(("gesso_protocol", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in LIGHT
    if path.stem != "__init__"
]

ALLOWED = {
    "__future__",
    "base64",
    "binascii",
    "blake3",
    "collections",
    "Crypto",
    "dataclasses",
    "enum",
    "functools",
    "gesso_protocol",
    "hashlib",
    "json",
    "math",
    "pydantic",
    "pydantic_core",
    "re",
    "struct",
    "typing",
}
HEAVY = {
    "web3",
    "eth_account",
    "eth_abi",
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "libp2p",
    "trio",
    "anyio",
    "aiohttp",
    "httpx",
    "requests",
    "sqlalchemy",
    "PIL",
    "gesso",
    "gesso_node",
    "gesso_relay",
    "gesso_devnet",
    "gesso_contracts",
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_harmless_imports(path: Path) -> None:
    extra = {"numpy", "math", "itertools", "importlib"} if path.parent in WITH_NUMPY else set()
    assert imported(path) <= ALLOWED | extra


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_is_opened_printed_or_evaluated(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "eval", "exec", "compile", "__import__", "id", "hash"}


def test_importing_everything_loads_nothing_heavy() -> None:
    script = f"import sys, {', '.join(MODULES)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "gesso_protocol" in loaded.stdout.split()
    assert not set(loaded.stdout.split()) & HEAVY


def test_files_are_small() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_there_is_no_state() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Global | ast.Nonlocal), path.name
