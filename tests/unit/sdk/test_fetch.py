"""Results: only what hashes to the chain's root comes through; every lie has its own error."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from gesso.blobs import LocalBlobs
from gesso.fetch import Commitment, OtherManifest, fetch_result
from gesso_protocol.errors import BlobCorrupt, BlobMissing
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.result import ImageEntry, ResultManifest, result_root
from gesso_protocol.terms import Terms

pytestmark = pytest.mark.anyio

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


async def test_a_true_result_comes_through(tmp_path: Path) -> None:
    result = manifest()
    delivery = await fetch_result(await put(tmp_path, result), result.ref, TASK, TERMS, committed(result))
    assert delivery.images == (picture(),)
    assert delivery.manifest == result


async def test_another_manifest_is_told_apart_from_a_bad_result(tmp_path: Path) -> None:
    told, true = manifest(executor="diffusers"), manifest()
    with pytest.raises(OtherManifest):
        await fetch_result(await put(tmp_path, told), told.ref, TASK, TERMS, committed(true))


async def test_noise_in_place_of_a_manifest(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    ref = await blobs.put(b"\x00not a manifest")
    with pytest.raises(OtherManifest):
        await fetch_result(blobs, ref, TASK, TERMS, committed(manifest()))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": TaskId(b"\x09" * 32)},
        {"spec": BlobRef(b"\x09" * 32)},
        {"node": Address("0x" + "99" * 20)},
        {"trace_root": Root(b"\x09" * 32)},
    ],
)
async def test_a_committed_manifest_of_another_task_is_the_nodes_fault(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    result = manifest(**changes)
    with pytest.raises(BlobCorrupt) as caught:
        await fetch_result(await put(tmp_path, result), result.ref, TASK, TERMS, committed(result))
    assert not isinstance(caught.value, OtherManifest)


async def test_a_picture_that_is_not_what_the_manifest_says(tmp_path: Path) -> None:
    entry = manifest().images[0]
    for lie in ({"width": 128}, {"sha256": "0" * 64}):
        result = manifest(images=(entry.model_copy(update=lie),))
        with pytest.raises(BlobCorrupt, match="picture 0"):
            await fetch_result(await put(tmp_path, result), result.ref, TASK, TERMS, committed(result))


async def test_a_withheld_picture_is_missing(tmp_path: Path) -> None:
    result = manifest()
    blobs = await put(tmp_path, result, with_picture=False)
    with pytest.raises(BlobMissing):
        await fetch_result(blobs, result.ref, TASK, TERMS, committed(result))
