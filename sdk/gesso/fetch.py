"""Getting a result: nothing is believed that does not hash to what the node put on chain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gesso import png
from gesso.blobs.port import BlobStore
from gesso_protocol.errors import BlobCorrupt, BlobTooLarge, EncodingInvalid, Unreachable
from gesso_protocol.fields import TaskKind
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.terms import Terms

MAX_IMAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Commitment:
    """What the chain says about a result."""

    node: Address
    result_root: Root
    trace_root: Root


@dataclass(frozen=True, slots=True)
class Delivery:
    """A verified result: its manifest and the pictures in order."""

    manifest: ResultManifest
    images: tuple[bytes, ...]


class OtherManifest(BlobCorrupt):
    """The bytes are not the manifest that the node committed to; whoever named them was wrong or lying."""


async def fetch_result(blobs: BlobStore, ref: BlobRef, task: TaskId, terms: Terms, commitment: Commitment) -> Delivery:
    """Manifest and pictures, checked against the commitment.

    Raises OtherManifest when `ref` is not the result on chain, BlobCorrupt when the result on chain is not one,
    Unreachable while no store gives the bytes.
    """
    raw = await _bytes(blobs, ref, ResultManifest.MAX_BYTES)
    manifest = _checked_manifest(raw, task, terms, commitment)
    images = []
    for entry in manifest.images:
        data = await _bytes(blobs, entry.blob, MAX_IMAGE_BYTES)
        if hashlib.sha256(data).hexdigest() != entry.sha256 or png.dimensions(data) != (entry.width, entry.height):
            raise BlobCorrupt(f"picture {entry.index} is not what the node's manifest says")
        images.append(data)
    return Delivery(manifest, tuple(images))


async def _bytes(blobs: BlobStore, ref: BlobRef, max_bytes: int) -> bytes:
    """A store that gives other bytes, or too many, says nothing about the node: the right ones may still come."""
    try:
        return await blobs.get(ref, max_bytes=max_bytes)
    except (BlobCorrupt, BlobTooLarge) as error:
        raise Unreachable(f"no store gave {ref} as it is: {error.message}") from error


def _checked_manifest(raw: bytes, task: TaskId, terms: Terms, commitment: Commitment) -> ResultManifest:
    try:
        manifest = ResultManifest.decode(raw)
    except EncodingInvalid as error:
        raise OtherManifest("the result's manifest cannot be read") from error
    if result_root(manifest) != commitment.result_root:
        raise OtherManifest("the result's manifest is not the one on chain")
    same = (
        manifest.task == task
        and manifest.spec == terms.spec
        and manifest.node == commitment.node
        and manifest.trace_root == commitment.trace_root
    )
    same = same and not (manifest.nothing and terms.kind != TaskKind.TRAIN_LORA)
    if not same:
        raise BlobCorrupt("the node committed to a manifest of another task", hint="do not pay this node again")
    return manifest
