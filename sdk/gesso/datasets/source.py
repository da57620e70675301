"""Where pictures and captions come from: a folder, a zip or a list in memory, in the forms that trainers know.

* flat: `photo.jpg` with `photo.txt` (or `.caption`) beside it;
* repeats: folders called `<repeats>_<trigger>`, such as `10_zbx cat`;
* metadata: `metadata.jsonl` with `file_name` and `text` a line;
* single trigger: pictures without words; the trigger is their caption.

Only names and captions are looked at here; pictures are opened one by one when they are packed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import from_json

from gesso.datasets.archive import Files, folder_files, zip_files
from gesso.datasets.report import Report
from gesso_protocol.errors import UsageError
from gesso_protocol.fields import MAX_PROMPT_CHARS, plain_text
from gesso_protocol.training.dataset import MAX_PICTURES, MAX_REPEATS

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAPTION_SUFFIXES = (".txt", ".caption")
METADATA_FILE = "metadata.jsonl"
MAX_CAPTION_BYTES = 16 * 1024
MAX_METADATA_BYTES = 8 * 1024 * 1024
_REPEATS = re.compile(r"(\d{1,4})_(.{1,64})\Z")

Given: TypeAlias = "tuple[Any, str]"
"""A picture in memory (bytes, a path or a PIL image) and its caption."""
Source: TypeAlias = "str | Path | Sequence[Given]"


@dataclass(frozen=True, slots=True)
class Found:
    """One picture that was found. `read` gives its bytes (bounded) or the PIL image that was handed over."""

    name: str
    read: Callable[[], bytes | PilImage]
    caption: str | None
    repeats: int = 1


def read_source(source: Source, report: Report) -> list[Found]:
    """What there is, in a fixed order. Raises UsageError when it is no data set at all."""
    if not isinstance(source, str | Path):
        report.convention = "list in memory"
        found = [_given(number, item) for number, item in enumerate(source)]
    else:
        path = Path(source).expanduser()
        if path.is_dir():
            found = _recognise(folder_files(path, report), report)
        elif path.is_file():
            found = _recognise(zip_files(path, report), report)
        else:
            raise UsageError(f"{source} is neither a folder nor a zip file", hint="gesso train photos/ …")
    report.found = len(found)
    if not found:
        raise UsageError("no pictures were found", hint=f"supported are {', '.join(PICTURE_SUFFIXES)}")
    if len(found) > MAX_PICTURES:
        raise UsageError(f"{len(found)} pictures were found; at most {MAX_PICTURES} can be trained on at once")
    return found


def _given(number: int, item: Any) -> Found:
    if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[1], str):
        raise UsageError(f"item {number} of the list is not a pair of a picture and its caption")
    picture, caption = item
    if isinstance(picture, str | Path):
        files = folder_files(Path(picture).parent, Report())
        name = Path(picture).name
        if name not in files.names:
            raise UsageError(f"item {number} of the list: {name} is not a plain file")
        return Found(name, lambda: files.read(name), _caption(caption))
    return Found(f"item {number}", lambda: picture, _caption(caption))


def _recognise(files: Files, report: Report) -> list[Found]:
    pictures = [name for name in files.names if name.lower().endswith(PICTURE_SUFFIXES)]
    table = _metadata(files, report)
    words = {name for name in files.names if name.lower().endswith(CAPTION_SUFFIXES)}
    found = [_found(files, name, table, words, report) for name in pictures]
    kinds = {
        METADATA_FILE: bool(table),
        "<repeats>_<trigger> folders": any(_folder_of(name) for name in pictures),
        "captions beside pictures": any(_beside(name, words) for name in pictures),
    }
    report.convention = ", ".join(name for name, seen in kinds.items() if seen) or "pictures without captions"
    for name in sorted(set(table) - set(pictures)):
        report.note("refused", "missing-file", name, f"{METADATA_FILE} names it, but it is not here or not a picture")
    _note_others(files, pictures, words, report)
    return found


def _found(files: Files, name: str, table: Mapping[str, str], words: set[str], report: Report) -> Found:
    folder = _folder_of(name)
    repeats, trigger = folder or (1, None)
    beside = _beside(name, words)
    caption = table.get(name)
    if caption is None and beside is not None:
        caption = _caption_file(files, beside, report)
    return Found(name, lambda: files.read(name), caption or trigger, repeats)


def _folder_of(name: str) -> tuple[int, str] | None:
    for part in reversed(PurePosixPath(name).parts[:-1]):
        match = _REPEATS.match(part)
        if match:
            return max(1, min(int(match[1]), MAX_REPEATS)), match[2].replace("_", " ").strip()
    return None


def _beside(name: str, words: set[str]) -> str | None:
    stem = name.rpartition(".")[0]
    return next((f"{stem}{suffix}" for suffix in CAPTION_SUFFIXES if f"{stem}{suffix}" in words), None)


def _caption_file(files: Files, name: str, report: Report) -> str | None:
    try:
        return _caption(files.read(name, MAX_CAPTION_BYTES).decode("utf-8-sig"))
    except (UnicodeDecodeError, UsageError) as error:
        report.note("changed", "bad-caption", name, f"the caption is ignored: {_reason(error)}")
        return None


def _caption(text: str) -> str | None:
    text = " ".join(text.split())
    try:
        plain_text(text)
    except ValueError as error:
        raise UsageError("the caption holds control characters") from error
    if len(text) > MAX_PROMPT_CHARS:
        raise UsageError(f"the caption is longer than {MAX_PROMPT_CHARS} characters")
    return text or None


def _metadata(files: Files, report: Report) -> dict[str, str]:
    table: dict[str, str] = {}
    for name in (name for name in files.names if PurePosixPath(name).name == METADATA_FILE):
        folder = PurePosixPath(name).parent
        lines = files.read(name, MAX_METADATA_BYTES).decode("utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines[: MAX_PICTURES * 2], 1):
            if line.strip():
                entry = _metadata_line(line)
                if entry is None:
                    report.note("refused", "bad-metadata", name, f"line {number} names no file and text")
                else:
                    table[str(folder / entry[0])] = entry[1]
    return table


def _metadata_line(line: str) -> tuple[str, str] | None:
    try:
        value = from_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    file, text = value.get("file_name"), value.get("text", value.get("caption"))
    if not isinstance(file, str) or not isinstance(text, str) or ".." in PurePosixPath(file).parts:
        return None
    try:
        caption = _caption(text)
    except UsageError:
        return None
    return (file, caption) if caption else None


def _note_others(files: Files, pictures: Iterable[str], words: set[str], report: Report) -> None:
    stems = {name.rpartition(".")[0] for name in pictures}
    for name in sorted(words):
        if name.rpartition(".")[0] not in stems:
            report.note("advice", "lone-caption", name, "there is no picture of this name")
    known = (*PICTURE_SUFFIXES, *CAPTION_SUFFIXES)
    for name in files.names:
        if not name.lower().endswith(known) and PurePosixPath(name).name != METADATA_FILE:
            report.note("advice", "ignored", name, "this is not a picture or a caption")


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, UsageError) else "it is not UTF-8"
