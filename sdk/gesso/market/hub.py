"""A base model from a model hub, at a pinned revision: only what a diffusers folder needs, each file checked.

A branch can be moved under one's feet, so a revision is a full commit. Large files come with the hub's own SHA-256,
and what arrives must have it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gesso.market.folder import INDEX, MAX_JSON_BYTES, chosen
from gesso_protocol.errors import BlobCorrupt, GessoError, MissingExtra, ModelInvalid, Unreachable, UsageError
from gesso_protocol.manifest import MAX_FILES, MAX_MODEL_BYTES

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_READ_BYTES = 1 << 20
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int | None
    sha256: str | None


def is_repository(text: str) -> bool:
    """Whether this looks like ORGANISATION/NAME."""
    return _REPOSITORY.match(text) is not None


def fetch_repository(
    repository: str, revision: str | None, folder: Path, *, variant: str | None = None, endpoint: str | None = None
) -> Path:
    """Fetch what is needed into `folder`. Raises UsageError, MissingExtra, ModelInvalid, BlobCorrupt, Unreachable."""
    if not is_repository(repository):
        raise UsageError(f"{repository!r} is neither a folder nor a repository", hint="as in org/model")
    if revision is None or not _COMMIT.match(revision):
        raise UsageError(
            "a hub repository is imported at a pinned revision", hint="--revision and the 40 digits of its commit"
        )
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise MissingExtra("hub", message="importing from a hub needs huggingface_hub") from None
    with _errors_named(repository):
        info = HfApi(endpoint=endpoint).model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S
        )
        wanted = _wanted(info, repository, revision, variant)
        for entry in wanted:
            path = hf_hub_download(
                repository, entry.name, revision=revision, local_dir=folder, endpoint=endpoint, etag_timeout=TIMEOUT_S
            )
            _check_file(Path(path), entry)
    return folder


def _wanted(info: Any, repository: str, revision: str, variant: str | None) -> list[_Entry]:
    if info.sha != revision:
        raise ModelInvalid(f"the hub answers for {str(info.sha)[:40]} where {revision} was asked for")
    entries = {one.rfilename: _entry(one) for one in info.siblings or []}
    names = chosen(list(entries), variant)
    if INDEX not in names:
        raise ModelInvalid(f"{repository} has no {INDEX}", hint="only the folder layout of diffusers can be imported")
    if len(names) > MAX_FILES:
        raise ModelInvalid(f"{repository} has {len(names)} files of a model; at most {MAX_FILES} are taken")
    wanted = [entries[name] for name in names]
    for entry in wanted:
        if not entry.name.endswith(".safetensors") and (entry.size or 0) > MAX_JSON_BYTES:
            raise ModelInvalid(f"{entry.name} has {entry.size} bytes; at most {MAX_JSON_BYTES} are taken")
    if (total := sum(entry.size or 0 for entry in wanted)) > MAX_MODEL_BYTES:
        raise ModelInvalid(f"{repository} has {total} bytes; at most {MAX_MODEL_BYTES} are taken")
    return wanted


def _entry(sibling: Any) -> _Entry:
    lfs = sibling.lfs
    return _Entry(str(sibling.rfilename), sibling.size, None if lfs is None else str(lfs.sha256))


def _check_file(path: Path, entry: _Entry) -> None:
    if entry.size is not None and path.stat().st_size != entry.size:
        raise BlobCorrupt(f"{entry.name} has another size than the hub said")
    if entry.sha256 is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    if digest.hexdigest() != entry.sha256:
        raise BlobCorrupt(f"{entry.name} is not the file that the hub named")


@contextmanager
def _errors_named(repository: str) -> Iterator[None]:
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GessoError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UsageError(f"the hub has no {repository} at this revision, or does not show it to you") from error
    except OfflineModeIsEnabled as error:
        raise Unreachable("HF_HUB_OFFLINE forbids asking a hub", hint="unset it, or import a local folder") from error
    except Exception as error:  # whatever HTTP library the hub's client uses in this version
        raise Unreachable(
            f"the hub did not give {repository}: {type(error).__name__}", hint="try again later"
        ) from error
