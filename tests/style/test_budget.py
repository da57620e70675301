"""The style budget: small files with one job. Generated files and vectors are not counted."""

from __future__ import annotations

import ast
import statistics
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / top for top in ("sdk", "node", "relay", "scripts")]
GENERATED = {ROOT / "sdk" / "gesso" / "_sync.py"}
FILE_CAP, FILE_P90, FILE_MEDIAN = 600, 400, 150
FUNCTION_P90, FUNCTION_MEDIAN = 35, 10


def _files() -> list[Path]:
    found = [f for top in SOURCES for f in top.rglob("*.py") if f not in GENERATED and "__pycache__" not in f.parts]
    return sorted(found)


def _lines(file: Path) -> int:
    return len(file.read_text("utf-8").splitlines())


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def _p90(values: list[int]) -> float:
    return statistics.quantiles(values, n=10)[-1]


def test_no_file_is_too_long() -> None:
    assert {str(f.relative_to(ROOT)): n for f in _files() if (n := _lines(f)) > FILE_CAP} == {}


def test_files_are_small() -> None:
    sizes = [_lines(f) for f in _files()]
    assert statistics.median(sizes) <= FILE_MEDIAN
    assert _p90(sizes) <= FILE_P90


def test_functions_are_small() -> None:
    sizes = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for file in _files()
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert statistics.median(sizes) <= FUNCTION_MEDIAN
    assert _p90(sizes) <= FUNCTION_P90


@pytest.mark.parametrize("word", ["Manager", "Helper", "Utils", "Impl"])
def test_no_empty_names(word: str) -> None:
    named = [
        f"{file.relative_to(ROOT)}: {node.name}"
        for file in _files()
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.ClassDef) and node.name.endswith(word)
    ]
    assert named == []


def test_files_have_one_line_of_purpose() -> None:
    silent = [str(f.relative_to(ROOT)) for f in _files() if f.stat().st_size and not ast.get_docstring(_tree(f))]
    assert silent == []
