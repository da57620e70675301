"""A package that lists its files lists all of them, and none that is gone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINE = re.compile(r"^(\w+)\.py  +\S", re.MULTILINE)


def listed(init: Path) -> list[str]:
    return LINE.findall(ast.get_docstring(ast.parse(init.read_text("utf-8"))) or "")


LISTS = sorted(
    init for top in ("sdk", "node", "relay") for init in (ROOT / top).rglob("__init__.py") if len(listed(init)) > 1
)


def test_the_lists_are_found() -> None:
    assert {"auditing", "tasks", "audits", "index"} <= {init.parent.name for init in LISTS}


@pytest.mark.parametrize("init", LISTS, ids=lambda init: str(init.parent.relative_to(ROOT)))
def test_a_list_of_files_is_complete(init: Path) -> None:
    named = listed(init)
    assert sorted(named) == sorted(file.stem for file in init.parent.glob("*.py") if file.stem != "__init__")
