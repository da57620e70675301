"""Links in the documents lead somewhere, and the commands that they name are there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {"node_modules", ".venv", "out", "cache", "dist", "build"} & set(path.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
SCRIPT = re.compile(r"(?<![\w/])(?:\./)?scripts/([a-z_]+(?:/[a-z_]+)?(?:\.(?:py|txt))?)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Names of the headings, as hosts of repositories make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_found() -> None:
    assert {"README.md", "SECURITY.md", "CONTRIBUTING.md", "PROTOCOL.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(page.read_text("utf-8")):
        where, _, anchor = link.partition("#")
        if "://" in where or where.startswith("mailto:"):
            continue
        target = (page.parent / where).resolve() if where else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_are_named_are_there(page: Path) -> None:
    named = set(
        re.findall(r"(?<![\w/])(?:\./)?scripts/([a-z_]+(?:/[a-z_]+)?(?:\.(?:py|txt))?)", page.read_text("utf-8"))
    )
    assert {name for name in named if not (ROOT / "scripts" / name).exists()} == set()


def test_every_script_says_what_it_is_for() -> None:
    programs = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    assert len(programs) > 20
    said = re.compile(r'#!.+\n(?:# |// |""")[A-Z]')
    assert [path.name for path in programs if not said.match(path.read_text("utf-8"))] == []
