"""What every bench prints: a table for people, or with ``--json`` one document for programs.

The document is ``{"bench", "machine", "rows", "figure", "goal", "ok"}``. ``figure`` and ``goal`` are the bench's
headline; each row may carry its own ``figure``, ``goal`` and ``ok``. The exit status is 0 whether or not a goal is met:
a bench reports, it does not judge.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def arguments(description: str, *extra: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Parses ``--json`` and the bench's own flags, given as (name, add_argument options)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    for name, options in extra:
        parser.add_argument(name, **options)
    return parser.parse_args()


def report(
    bench: str, rows: Sequence[Row], *, figure: str, goal: str, ok: bool, as_json: bool, limits: str = ""
) -> None:
    """Prints the result. ``limits`` says in a sentence what the numbers do not show."""
    document = {"bench": bench, "machine": machine(), "rows": list(rows), "figure": figure, "goal": goal, "ok": ok}
    if limits:
        document["limits"] = limits
    if as_json:
        json.dump(document, sys.stdout, indent=1)
        print()
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{bench}  ({document['machine']})", title_justify="left", caption=limits or None)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    console.print(f"[bold]{figure}[/]   goal: {goal}   {'[green]met[/]' if ok else '[red]not met[/]'}")


def machine() -> str:
    """Cores, architecture and Python: enough to compare like with like."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
