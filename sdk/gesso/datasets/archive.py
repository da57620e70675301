"""Files of a folder or a zip, by name, each read only up to a limit. No name may lead out of its folder."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gesso.datasets.report import Report
from gesso_protocol.errors import UsageError
from gesso_protocol.training.dataset import MAX_DATASET_BYTES

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILES = 20_000
MAX_PACKED_RATIO = 200
_SMALL = 1024 * 1024
_NOISE = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Files:
    """Plain files under one root. `names` use forward slashes and are sorted."""

    names: tuple[str, ...]
    fetch: Callable[[str, int], bytes]

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """The whole file; raises UsageError when it is larger than `limit` bytes or cannot be read."""
        data = self.fetch(name, limit + 1)
        if len(data) > limit:
            raise UsageError(f"the file is larger than {limit // 1024} KiB")
        return data


def folder_files(root: Path, report: Report) -> Files:
    """The files below a folder. Links and hidden files are passed over."""
    names: list[str] = []
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for file in sorted(files):
            path = Path(folder) / file
            name = path.relative_to(root).as_posix()
            if path.is_symlink() or not path.is_file():
                report.note("refused", "link", name, "links and special files are not followed")
            elif not _hidden(file):
                names.append(name)
        if len(names) > MAX_FILES:
            raise UsageError(f"the folder holds more than {MAX_FILES} files")

    def fetch(name: str, limit: int) -> bytes:
        try:
            with (root / name).open("rb") as file:
                return file.read(limit)
        except OSError as error:
            raise UsageError(f"the file cannot be read: {error.strerror}") from error

    return Files(tuple(sorted(names)), fetch)


def zip_files(path: Path, report: Report) -> Files:
    """The files of a zip, read from it one by one; nothing is unpacked to disk. Raises UsageError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UsageError(f"{path.name} is not a zip file that can be read: {error}") from error
    if len(entries) > MAX_FILES:
        raise UsageError(f"{path.name} holds {len(entries)} files; at most {MAX_FILES} are allowed")
    if sum(entry.file_size for entry in entries) > MAX_DATASET_BYTES:
        raise UsageError(f"{path.name} would unpack to more than 4 GiB")
    kept: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if not PurePosixPath(entry.filename).parts:
            continue  # it names nothing
        problem = _problem(entry, kept)
        if entry.is_dir() or (problem is None and _hidden(*PurePosixPath(entry.filename).parts)):
            continue
        if problem is None:
            kept[entry.filename] = entry
        else:
            report.note("refused", problem[0], entry.filename, problem[1])

    def fetch(name: str, limit: int) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(kept[name]) as file:
                return file.read(limit)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise UsageError(f"the file cannot be unpacked: {error}") from error

    return Files(tuple(sorted(kept)), fetch)


def _problem(entry: zipfile.ZipInfo, kept: dict[str, zipfile.ZipInfo]) -> tuple[str, str] | None:
    name = entry.filename
    parts = PurePosixPath(name).parts
    if name.startswith(("/", "\\")) or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        return "zip-path", "the name leads out of the archive"
    if (entry.external_attr >> 16) & 0o170000 == 0o120000:
        return "link", "links are not followed"
    if entry.flag_bits & 1:
        return "encrypted", "the file is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packing", "it is packed in a way that may take gigabytes of memory; use deflate"
    if name in kept:
        return "twice", "the archive holds two files of this name"
    if entry.file_size > _SMALL and entry.file_size > entry.compress_size * MAX_PACKED_RATIO:
        return "zip-bomb", f"it would grow more than {MAX_PACKED_RATIO}-fold"
    return None


def _hidden(*parts: str) -> bool:
    return any((part.startswith(".") and part not in (".", "..")) or part in _NOISE for part in parts)
