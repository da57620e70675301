"""A true result, to be delivered whole, broken or lied about."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

import gesso
from gesso.blobs import LocalBlobs
from gesso.fetch import Commitment
from gesso.receipt import Receipt
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.result import ImageEntry, ResultManifest, result_root
from gesso_protocol.spec import TextToImage
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


def image(**changes: object) -> gesso.Image:
    """A picture in a requester's hands, with its receipt."""
    data = picture()
    fields: dict[str, object] = {
        "task": TASK,
        "chain_id": 31337,
        "requester": TERMS.requester,
        "node": NODE,
        "model": "tiny@1",
        "listing": TERMS.model,
        "model_manifest": None,
        "spec": TERMS.spec,
        "result": BlobRef(b"\x06" * 32),
        "result_root": Root(b"\x07" * 32),
        "trace_root": TRACE,
        "executor": "fake",
        "fee": TERMS.fee,
    }
    receipt = Receipt.model_validate({**fields, **changes})
    return gesso.Image(data, BlobRef.of(data), 7, 64, 64, TextToImage(prompt="a circle", model="tiny@1"), receipt)
