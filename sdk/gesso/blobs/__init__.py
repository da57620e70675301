"""Bytes named by their hash: the port, and its adapters for a directory, a relay, and several stores in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.blobs.local import LocalBlobs
from gesso.blobs.port import CHUNK_BYTES, DEFAULT_MAX_BYTES, BlobSource, BlobStore, OnProgress

if TYPE_CHECKING:
    from gesso.blobs.http import HttpBlobs
    from gesso.blobs.layered import LayeredBlobs

__all__ = [
    "CHUNK_BYTES",
    "DEFAULT_MAX_BYTES",
    "BlobSource",
    "BlobStore",
    "HttpBlobs",
    "LayeredBlobs",
    "LocalBlobs",
    "OnProgress",
]


def __getattr__(name: str) -> object:
    # An HTTP client costs start-up time that a node with a local store need not pay.
    if name == "HttpBlobs":
        from gesso.blobs.http import HttpBlobs

        return HttpBlobs
    if name == "LayeredBlobs":
        from gesso.blobs.layered import LayeredBlobs

        return LayeredBlobs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
