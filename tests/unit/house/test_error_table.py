"""The table of errors is what the classes say, all of them, and each says what to do."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from gesso_protocol.errors import GessoError, error_tree

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "error_table"))


def test_the_page_is_up_to_date(script: dict[str, Any]) -> None:
    assert script["page"]() == script["TARGET"].read_text("utf-8"), "run scripts/error_table, and say what changed"


def test_every_code_stands_there_once_and_means_one_thing(script: dict[str, Any]) -> None:
    codes = re.findall(r"^\| `([a-z-]+)` \| [1-7] \|", script["page"](), re.MULTILINE)
    assert len(set(codes)) == len(codes)
    assert {"error", "rpc-refused", "answer-too-long", "journal-failed", "index-away"} < set(codes)
    assert len(codes) == len(list(error_tree())) + len(script["parts"]())


def test_only_a_bug_speaks_like_one(script: dict[str, Any]) -> None:
    """Whatever else has a code says what is wrong and what to do in words of its own, and is no bug to a shell."""
    root = GessoError()
    for kind in [*error_tree(), *script["parts"]()]:
        if kind is not GessoError:
            error = script["example"](kind)
            assert error.message != root.message, kind
            assert error.hint != root.hint, kind
            assert error.exit_code in range(2, 8), kind
