"""Results: only what hashes to the chain's root comes through; every lie has its own error."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_results import TASK, TERMS, committed, manifest, picture, put

from gesso.blobs import LocalBlobs
from gesso.fetch import OtherManifest, fetch_result
from gesso_protocol.errors import BlobCorrupt, BlobMissing
from gesso_protocol.ids import Address, BlobRef, Root, TaskId

pytestmark = pytest.mark.anyio


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


async def test_nothing_may_come_of_trainings_only(tmp_path: Path) -> None:
    result = manifest(images=(), profile={"stopped": "the data set is none"})
    blobs = await put(tmp_path, result)
    with pytest.raises(BlobCorrupt):
        await fetch_result(blobs, result.ref, TASK, TERMS, committed(result))
    training = TERMS.model_copy(update={"kind": 2})
    assert (await fetch_result(blobs, result.ref, TASK, training, committed(result))).images == ()
