"""Putting a LoRA on the marketplace: the file as blobs, its manifest, and the listing that names it for good."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from anyio import to_thread
from blake3 import blake3
from pydantic import ValidationError

from gesso.blobs.port import BlobStore
from gesso.chain.chain import Chain
from gesso.chain.records import Listing
from gesso.tensorfile import open_tensors
from gesso.training import MAX_ADAPTER_BYTES, adapter_manifest
from gesso_protocol.encoding import explain
from gesso_protocol.errors import ModelInvalid, UsageError
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import LISTING_KINDS, ModelManifest
from gesso_protocol.money import BPS


@dataclass(frozen=True, slots=True)
class Publication:
    """A LoRA that is ready to be listed: its checked file and the manifest that will be its identity."""

    path: Path
    manifest: ModelManifest
    base: Listing
    royalty_bps: int


def parse_royalty(text: str) -> int:
    """`5%`, `2.5%` or `0.05` as basis points. Raises UsageError."""
    plain = text.strip()
    try:
        value = Decimal(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
        bps = int((value * BPS).to_integral_exact())
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a share", hint="as in --royalty 5%") from error
    if value * BPS != bps or not 0 <= bps < BPS:
        raise UsageError(f"a royalty of {text} is not possible", hint="0% up to the market's cap, in steps of 0.01%")
    return bps


async def prepare(
    path: Path, name: str, *, base: Listing, version: int, licence: str, royalty_bps: int, cap_bps: int
) -> Publication:
    """Check everything that can be checked before anything is sent. Raises UsageError, ModelInvalid."""
    if royalty_bps > cap_bps:
        raise UsageError(f"a royalty of {royalty_bps / 100:g} % is over the market's cap of {cap_bps / 100:g} %")
    if base.kind != LISTING_KINDS.index("base"):
        raise UsageError(f"{base.name}@{base.version} is a {LISTING_KINDS[base.kind]}, not a base model")

    def look() -> tuple[int, BlobRef]:
        file = open_tensors(path, max_bytes=MAX_ADAPTER_BYTES)
        if not any("lora" in tensor for tensor in file.tensors):
            raise ModelInvalid(f"{path.name} holds no LoRA")
        return path.stat().st_size, BlobRef(blake3().update_mmap(path).digest())

    size, blob = await to_thread.run_sync(look)
    try:
        manifest = adapter_manifest(name, size, blob, parent=base.manifest, licence=licence, version=version)
    except ValidationError as error:
        raise UsageError(explain(error), hint="names are small letters, digits, '.', '_' and '-'") from None
    return Publication(path, manifest, base, royalty_bps)


async def publish(chain: Chain, blobs: BlobStore, ready: Publication) -> Listing:
    """Put the files, then the listing. Raises ChainReverted for a name or a manifest of somebody else."""
    manifest = ready.manifest
    await blobs.put(ready.path, expect=manifest.files[0].blob)
    await blobs.put(manifest.encode(), expect=manifest.ref)
    number = await chain.publish_listing(
        manifest.name,
        manifest.ref,
        kind=manifest.listing_kind,
        parent=ready.base.id,
        royalty_bps=ready.royalty_bps,
        licence=keccak256(manifest.licence.encode()),
    )
    return await chain.listing(number)
