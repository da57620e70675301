"""One sink for everything a command prints: data on stdout, talk on stderr.

Commands hand over documents; whether people or programs read them is decided here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TextIO

from cyclopts import Parameter

from gesso.cli.harmless import escaped, harmless

Format = Literal["human", "json"]

_BOLD, _DIM, _GREEN, _RED, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Printing:
    """What every command takes."""

    format: Annotated[Format, Parameter(help="How data is printed on stdout.")] = "human"

    @property
    def out(self) -> Output:
        """Where this command prints."""
        return Output(self.format)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common(Printing):
    """What every command takes that speaks to a network of the user's choice."""

    network: Annotated[str | None, Parameter(help="Network name or file; else GESSO_NETWORK, else devnet.")] = None


class Output:
    """Prints results and talk in the chosen format."""

    def __init__(self, form: Format, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.form = form
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr

    def result(self, document: Mapping[str, Any], human: str | None = None) -> None:
        """One document: JSON, or the given text, or aligned `key value` lines."""
        if self.form == "json":
            self._stdout.write(json_text(document) + "\n")
        else:
            self._stdout.write(harmless(pairs(document) if human is None else human) + "\n")
        self._stdout.flush()

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
        """Rows as a JSON list, or as aligned columns; `empty` is said when there are none."""
        if self.form == "json":
            self._stdout.write(json_text(list(rows)) + "\n")
        elif rows:
            self._stdout.write(harmless(columns_text(rows, columns)) + "\n")
        else:
            self.say(empty)
        self._stdout.flush()

    def say(self, text: str) -> None:
        """A sentence for the person; never data."""
        self._stderr.write(harmless(text) + "\n")
        self._stderr.flush()

    def ask(self, question: str) -> None:
        """A question, with the cursor behind it."""
        self._stderr.write(harmless(question))
        self._stderr.flush()

    def hint(self, command: str, why: str = "") -> None:
        """The one command most likely wanted next. Silent for programs, and with GESSO_NO_HINTS."""
        if self.form == "human" and not os.environ.get("GESSO_NO_HINTS"):
            self.say(self.dim(f"next: {command}" + (f"   ({why})" if why else "")))

    @property
    def live(self) -> bool:
        """True when talk goes to a terminal that can redraw a line."""
        return self.form == "human" and self._stderr.isatty() and os.environ.get("TERM") != "dumb"

    def redraw(self, line: str) -> None:
        """Replace the current line on a terminal."""
        self._stderr.write("\r\x1b[2K" + harmless(line))
        self._stderr.flush()

    def bold(self, text: str) -> str:
        """Emphasis on a terminal, plain text elsewhere."""
        return self._style(_BOLD, text)

    def dim(self, text: str) -> str:
        """Quiet text on a terminal, plain text elsewhere."""
        return self._style(_DIM, text)

    def alarm(self, text: str) -> str:
        """What speaks against somebody: red on a terminal."""
        return self._style(_RED, text)

    def mark(self, fine: bool) -> str:
        """A tick or a cross."""
        return self._style(_GREEN, "✓") if fine else self._style(_RED, "✗")

    def _style(self, code: str, text: str) -> str:
        plain = os.environ.get("NO_COLOR") or not self._stderr.isatty()
        return text if plain else f"{code}{text}{_RESET}"


def json_text(document: Any) -> str:
    """JSON as it is printed."""
    return escaped(json.dumps(document, default=str, ensure_ascii=False))


def pairs(document: Mapping[str, Any]) -> str:
    """Aligned `key  value` lines; nested documents are indented."""
    width = max((len(key) for key in document), default=0)
    lines = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines.append(key)
            lines.extend("  " + line for line in pairs(value).splitlines())
        else:
            lines.append(f"{key:<{width}}  {_plain(value)}".rstrip())
    return "\n".join(lines)


def columns_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table with a header, as wide as its widest cells."""
    cells = [[column.upper() for column in columns]]
    cells += [[_plain(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)
