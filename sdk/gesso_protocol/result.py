"""What a node hands over: a manifest of pictures, bound to the chain by one root."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from gesso_protocol import merkle
from gesso_protocol.encoding import Document
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.spec import MAX_COUNT, MAX_SEED

MAX_PROFILE_ENTRIES = 32
ExecutorName: TypeAlias = Literal["diffusers", "fake"]
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_SHA256 = r"^[0-9a-f]{64}$"


def _check_profile(profile: dict[str, str]) -> dict[str, str]:
    if len(profile) > MAX_PROFILE_ENTRIES:
        raise EncodingInvalid(f"a profile has at most {MAX_PROFILE_ENTRIES} entries")
    if not all(_WORD.match(key) and len(value) <= 200 for key, value in profile.items()):
        raise EncodingInvalid("a profile maps short lower-case names to at most 200 characters")
    return profile


class ImageEntry(Document):
    """One picture. `sha256` is of the file's bytes, as `sha256sum` prints it; sides are pixels."""

    MAX_BYTES: ClassVar[int] = 1024

    index: Annotated[int, Field(ge=0, lt=MAX_COUNT)]
    blob: BlobRef
    sha256: Annotated[str, Field(pattern=_SHA256)]
    width: Annotated[int, Field(ge=1, le=16384)]
    height: Annotated[int, Field(ge=1, le=16384)]
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]


class ResultManifest(Document):
    """Everything a requester gets, by hash. `profile` names the software and hardware that ran (versions, device)."""

    MAX_BYTES: ClassVar[int] = 64 * 1024

    format: Literal["gesso/result/1"] = "gesso/result/1"
    task: TaskId
    node: Address
    executor: ExecutorName
    spec: BlobRef
    model_manifest: BlobRef
    images: Annotated[tuple[ImageEntry, ...], Field(max_length=MAX_COUNT, strict=False)]
    profile: Annotated[dict[str, str], AfterValidator(_check_profile)] = Field(default_factory=dict)
    trace_root: Root
    trace_backup: BlobRef | None = None
    """Blob of the node's encrypted copy of its trace, so that a lost disk is no lost dispute."""
    adapter: BlobRef | None = None
    """Manifest of the LoRA that a training task gave; its pictures are the last samples."""

    @model_validator(mode="after")
    def _images_are_counted(self) -> Self:
        if [image.index for image in self.images] != list(range(len(self.images))):
            raise ValueError("images are numbered 0, 1, 2, ... in order")
        if not self.images and (self.adapter is not None or not self.profile.get("stopped")):
            raise ValueError("a result without images says why nothing came of the task")
        return self

    @property
    def nothing(self) -> bool:
        """Whether nothing came of the task, a training; `profile["stopped"]` says why."""
        return not self.images

    @property
    def ref(self) -> BlobRef:
        """Name of the manifest's own blob."""
        return BlobRef.of(self.encode())


def result_leaves(manifest: ResultManifest) -> list[bytes]:
    """Leaf 0: keccak256 of the manifest's canonical bytes. Leaf 1+i: the blob name of picture i; last, an adapter's."""
    adapter = [] if manifest.adapter is None else [manifest.adapter.value]
    return [keccak256(manifest.encode()), *(image.blob.value for image in manifest.images), *adapter]


def result_root(manifest: ResultManifest) -> Root:
    """What `commit` puts on chain."""
    return merkle.root(result_leaves(manifest))
