"""What people type, checked before anything is asked, paid or sent."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from gesso_protocol.errors import BlobCorrupt, EncodingInvalid, GessoError, UsageError

if TYPE_CHECKING:
    from cyclopts import Token

    from gesso.cli.output import Output
    from gesso.task import AsyncTask
    from gesso_protocol.ids import Address

MAX_PICTURE_BYTES = 256 * 2**20
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")


def whole(_kind: Any, tokens: Sequence[Token]) -> int:
    """A whole number. The parser's own reader would round 1.5 to 2, and people would pay for it."""
    text = tokens[0].value
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def count(kind: Any, tokens: Sequence[Token]) -> int:
    """A whole number of things, at least one."""
    number = whole(kind, tokens)
    if number < 1:
        raise ValueError(f"{number} is too few; at least 1")
    return number


Whole: TypeAlias = Annotated[int, Parameter(converter=whole)]
MaybeWhole: TypeAlias = Annotated[int | None, Parameter(converter=whole)]
Count: TypeAlias = Annotated[int, Parameter(converter=count)]


def task_named(text: str) -> str:
    """The task that an id, or a picture with its receipt inside, names. Raises UsageError."""
    if (path := _picture(text)) is None:
        if text.lower().endswith(".png"):
            raise UsageError(f"there is no picture {text[:200]}", hint="name a picture, or a task: gesso task ls")
        return text
    from gesso import png
    from gesso.receipt import Receipt

    try:
        told = png.read_text(_read(path)).get("gesso", "")
        return str(Receipt.model_validate_json(told).task)
    except (OSError, ValueError, BlobCorrupt):
        hint = "only pictures that gesso saved carry one; see your tasks: gesso task ls"
        raise UsageError(f"{path.name} carries no receipt", hint=hint) from None


async def doubt(task: AsyncTask, text: str, out: Output) -> None:
    """Say it where a picture that named the task is not the task's own: anybody can write a receipt into a file."""
    path = _picture(text)
    if path is None:
        return
    try:
        if not await task.gave(_read(path)):
            out.say(f"{path.name} is not what this task gave, though the receipt inside it says so")
    except GessoError as error:
        out.say(f"nobody can tell whether {path.name} is what this task gave: {error.message}")


async def expect_given(task: AsyncTask, text: str) -> None:
    """That the picture that named the task is the task's own. Raises UsageError."""
    path = _picture(text)
    if path is not None and not await task.gave(_read(path)):
        raise UsageError(
            f"{path.name} is not what the task gave that its receipt names",
            hint=f"it was changed, or is another picture; get the task's own: gesso task fetch {task.id} -o FILE",
        )


def _picture(text: str) -> Path | None:
    path = Path(text).expanduser()
    return path if path.suffix.lower() == ".png" and path.is_file() else None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PICTURE_BYTES)


def account(text: str) -> Address:
    """The address of an account. Raises UsageError."""
    from gesso_protocol.ids import Address

    try:
        return Address(text)
    except EncodingInvalid:
        raise UsageError(f"{text[:80]!r} is not an address", hint="an address is 0x and 40 hex digits") from None


def check_output(path: Path, example: str) -> None:
    """That a file can be written there once it is paid for; its folders may be missing. Raises UsageError."""
    wanted = path.expanduser()
    if wanted.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"name a file: -o {path / example}")
    there = wanted if wanted.exists() else next(folder for folder in wanted.absolute().parents if folder.exists())
    if (there != wanted and not there.is_dir()) or not os.access(there, os.W_OK):
        raise UsageError(f"{path} cannot be written: {there} does not allow it", hint="choose another place: -o FILE")
