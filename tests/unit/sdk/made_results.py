"""A true result, to be delivered whole, broken or lied about."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from gesso.blobs import LocalBlobs
from gesso.fetch import Commitment
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.result import ImageEntry, ResultManifest, result_root
from gesso_protocol.terms import Terms

TASK = TaskId(b"\x01" * 32)
NODE = Address("0x" + "22" * 20)
TRACE = Root(b"\x03" * 32)
TERMS = Terms(
    requester=Address("0x" + "11" * 20),
    fee=Wei(5),
    spec=BlobRef(b"\x04" * 32),
    claim_window_s=60,
    commit_window_s=60,
    nonce=1,
)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 8, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def manifest(**changes: object) -> ResultManifest:
    data = picture()
    entry = ImageEntry(
        index=0, blob=BlobRef.of(data), sha256=hashlib.sha256(data).hexdigest(), width=64, height=64, seed=7
    )
    fields: dict[str, object] = {
        "task": TASK,
        "node": NODE,
        "executor": "fake",
        "spec": TERMS.spec,
        "model_manifest": BlobRef(b"\x05" * 32),
        "images": (entry,),
        "trace_root": TRACE,
    }
    return ResultManifest(**{**fields, **changes})  # type: ignore[arg-type]


async def put(tmp_path: Path, result: ResultManifest, *, with_picture: bool = True) -> LocalBlobs:
    blobs = LocalBlobs(tmp_path)
    await blobs.put(result.encode())
    if with_picture:
        await blobs.put(picture())
    return blobs


def committed(result: ResultManifest) -> Commitment:
    return Commitment(NODE, result_root(result), TRACE)
