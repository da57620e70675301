"""Manifests: which files make a model, and which chunks make a large blob."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from gesso_protocol.encoding import Document
from gesso_protocol.errors import BlobCorrupt, EncodingInvalid
from gesso_protocol.fields import ModelName
from gesso_protocol.ids import BlobRef

CHUNK_BYTES = 1024 * 1024
MAX_BLOB_BYTES = 32 * 1024**3
MAX_MODEL_BYTES = 64 * 1024**3
MAX_FILES = 256
MAX_PATH_CHARS = 200
MAX_PATH_PARTS = 8
FILE_SUFFIXES = (".safetensors", ".json", ".txt")

ModelKind: TypeAlias = Literal["base", "lora", "controlnet", "vae", "dataset"]
Pipeline: TypeAlias = Literal["stable-diffusion", "stable-diffusion-xl"]
LISTING_KINDS: tuple[ModelKind, ...] = ("base", "lora", "controlnet", "vae", "dataset")
"""A kind's place in here is its number on the marketplace."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?\Z", re.IGNORECASE)


def check_path(path: str) -> str:
    """A file's place inside a model folder: relative, forward slashes, plain ASCII names, a known harmless suffix.

    Raises `EncodingInvalid`. What passes is safe to join to a folder on any operating system.
    """
    parts = path.split("/")
    if len(path) > MAX_PATH_CHARS or len(parts) > MAX_PATH_PARTS:
        raise EncodingInvalid("the path is too long")
    if not all(_PART.match(part) and not part.endswith(".") and not _RESERVED.match(part) for part in parts):
        raise EncodingInvalid("a path is relative and made of letters, digits, '.', '_' and '-'")
    if not path.endswith(FILE_SUFFIXES):
        raise EncodingInvalid("only .safetensors, .json and .txt files are allowed")
    return path


Path = Annotated[str, AfterValidator(check_path)]
Licence = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$")]


class FileEntry(Document):
    """One file of a model. Size is bytes."""

    path: Path
    size: Annotated[int, Field(ge=0, le=MAX_BLOB_BYTES)]
    blob: BlobRef


class ModelManifest(Document):
    """A model, an adapter or a data set as a list of files. Its BLAKE3 is the model's identity everywhere."""

    MAX_BYTES: ClassVar[int] = 256 * 1024

    format: Literal["gesso/model/1"] = "gesso/model/1"
    name: ModelName
    version: Annotated[int, Field(ge=1, le=10**9 - 1)]
    kind: ModelKind
    pipeline: Pipeline = "stable-diffusion"
    """How a base is laid out; what is no base says nothing by it."""
    base_family: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    parent: BlobRef | None = None
    licence: Licence
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=MAX_FILES, strict=False)]

    @model_validator(mode="after")
    def _files_make_a_folder(self) -> Self:
        paths = [entry.path for entry in self.files]
        if paths != sorted(paths):
            raise ValueError("files are sorted by path")
        # two names that differ in case only are one file on many disks
        folded = {path.lower() for path in paths}
        if len(folded) != len(paths):
            raise ValueError("two files share a path")
        if any(parent in folded for path in folded for parent in _parents(path)):
            raise ValueError("a file cannot also be a folder")
        if self.size > MAX_MODEL_BYTES:
            raise ValueError("the model is larger than 64 GiB")
        return self

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(entry.size for entry in self.files)

    @property
    def ref(self) -> BlobRef:
        """The model's identity: BLAKE3 of the manifest's canonical bytes."""
        return BlobRef.of(self.encode())

    @property
    def listing_kind(self) -> int:
        """The kind's number on the marketplace."""
        return LISTING_KINDS.index(self.kind)

    @property
    def label(self) -> str:
        """What people type: `name@version`."""
        return f"{self.name}@{self.version}"


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


class BlobManifest(Document):
    """The chunks of a blob, so that a download is checked piece by piece.

    A list from a stranger is a hint: each chunk is checked against it, the whole against the blob's own name. A list
    that lies costs a download and names its sender; it can never put wrong bytes in place.
    """

    MAX_BYTES: ClassVar[int] = 4 * 1024 * 1024

    format: Literal["gesso/chunks/1"] = "gesso/chunks/1"
    blob: BlobRef
    size: Annotated[int, Field(ge=0, le=MAX_BLOB_BYTES)]
    chunk_size: Literal[1048576] = 1048576
    chunks: Annotated[tuple[BlobRef, ...], Field(max_length=MAX_BLOB_BYTES // CHUNK_BYTES, strict=False)]

    @model_validator(mode="after")
    def _chunks_cover_the_size(self) -> Self:
        if len(self.chunks) != chunk_count(self.size):
            raise ValueError("the number of chunks does not match the size")
        return self

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The chunk list of bytes in memory."""
        pieces = (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))
        return cls(blob=BlobRef.of(data), size=len(data), chunks=tuple(BlobRef.of(piece) for piece in pieces))

    def chunk_range(self, index: int) -> tuple[int, int]:
        """Offset and length in bytes of chunk `index`; raises `EncodingInvalid` when there is none."""
        if not 0 <= index < len(self.chunks):
            raise EncodingInvalid("there is no such chunk")
        offset = index * CHUNK_BYTES
        return offset, min(CHUNK_BYTES, self.size - offset)

    def check_chunk(self, index: int, data: bytes) -> None:
        """Raises `BlobCorrupt` unless `data` is chunk `index`."""
        _, length = self.chunk_range(index)
        if len(data) != length or BlobRef.of(data) != self.chunks[index]:
            raise BlobCorrupt(f"chunk {index} of {self.blob.short} does not match its hash")


def chunk_count(size: int) -> int:
    """How many 1 MiB chunks hold `size` bytes; 0 for an empty blob."""
    return -(-size // CHUNK_BYTES)
