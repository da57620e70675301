"""Results: the root binds the manifest and every picture."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gesso_protocol import merkle
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.result import ImageEntry, ResultManifest, result_leaves, result_root


def image(index: int, **changes: Any) -> ImageEntry:
    fields: dict[str, Any] = {
        "index": index,
        "blob": BlobRef(bytes([index % 256]) * 32),
        "sha256": "ab" * 32,
        "width": 64,
        "height": 64,
        "seed": index,
    }
    return ImageEntry(**{**fields, **changes})


def manifest(**changes: Any) -> ResultManifest:
    fields: dict[str, Any] = {
        "task": TaskId(bytes(32)),
        "node": Address("0x" + "11" * 20),
        "executor": "diffusers",
        "spec": BlobRef(bytes(32)),
        "model_manifest": BlobRef(bytes(32)),
        "images": (image(0), image(1)),
        "profile": {"torch": "2.13.0"},
        "trace_root": Root(bytes(32)),
    }
    return ResultManifest(**{**fields, **changes})


def test_round_trip_and_leaves() -> None:
    result = manifest()
    assert ResultManifest.decode(result.encode()) == result
    assert result_leaves(result) == [keccak256(result.encode()), bytes(32), b"\x01" * 32]
    assert result_root(result) == merkle.root(result_leaves(result))
    assert result.ref == BlobRef.of(result.encode())


def test_each_part_changes_the_root() -> None:
    others: dict[str, Any] = {
        "task": TaskId(b"\x01" * 32),
        "node": Address("0x" + "22" * 20),
        "executor": "fake",
        "spec": BlobRef(b"\x01" * 32),
        "model_manifest": BlobRef(b"\x01" * 32),
        "images": (image(0),),
        "profile": {},
        "trace_root": Root(b"\x01" * 32),
        "trace_backup": BlobRef(b"\x01" * 32),
        "adapter": BlobRef(b"\x01" * 32),
    }
    assert set(others) | {"format"} == set(ResultManifest.model_fields)
    roots = {result_root(manifest(**{name: value})) for name, value in others.items()}
    assert len(roots | {result_root(manifest())}) == len(others) + 1


def test_a_picture_can_be_proved_alone() -> None:
    result = manifest()
    leaves = result_leaves(result)
    assert merkle.verify(result_root(result), result.images[1].blob.value, 2, merkle.proof(leaves, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"images": ()},
        {"images": (), "profile": {"stopped": ""}},
        {"images": (), "profile": {"stopped": "no number"}, "adapter": BlobRef(bytes(32))},
        {"images": (image(1),)},
        {"images": (image(1), image(0))},
        {"images": (image(0), image(0))},
        {"executor": "magic"},
        {"profile": {f"k{i}": "v" for i in range(33)}},
        {"profile": {"Upper": "v"}},
        {"profile": {"k": "v" * 201}},
        {"profile": {"k": 1}},
        {"surprise": 1},
    ],
)
def test_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**changes)


@pytest.mark.parametrize(
    "changes", [{"index": 16}, {"index": -1}, {"sha256": "AB" * 32}, {"sha256": "ab"}, {"width": 0}, {"seed": 2**53}]
)
def test_malformed_images(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        image(**{"index": 0, **changes})


def test_a_fake_cannot_pose_under_the_same_root() -> None:
    honest = manifest()
    forged = honest.encode().replace(b'"diffusers"', b'"fake"')
    assert result_root(ResultManifest.decode(forged)) != result_root(honest)
    with pytest.raises(EncodingInvalid):
        ResultManifest.decode(honest.encode().replace(b'"diffusers"', b'"DIFFUSERS"'))


def test_a_result_of_which_nothing_came_says_why() -> None:
    nothing = manifest(images=(), profile={"stopped": "the data set is none"})
    assert nothing.nothing
    assert not manifest().nothing
    assert ResultManifest.decode(nothing.encode()) == nothing
    assert result_leaves(nothing) == [keccak256(nothing.encode())]
