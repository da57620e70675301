"""A receipt inside a picture is anybody's text: a task vouches for the bytes that its node committed, for no others."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_results import TASK, committed, image, manifest, picture, put
from PIL import Image

from gesso import png
from gesso.blobs import LocalBlobs
from gesso.likeness import is_of
from gesso_protocol.errors import BlobMissing, TaskFailed
from gesso_protocol.events import Committed, Event
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.result import ResultManifest

pytestmark = pytest.mark.anyio


def ports(blobs: LocalBlobs, result: ResultManifest) -> Any:
    async def result_of(_: TaskId) -> BlobRef:
        return result.ref

    return SimpleNamespace(blobs=blobs, directory=SimpleNamespace(result_of=result_of))


def past(result: ResultManifest) -> list[Event]:
    done = committed(result)
    roots = {"result_root": done.result_root, "trace_root": done.trace_root}
    return [Committed(task=TASK, at_ms=1, node=done.node, settle_after=9, **roots)]


def another(colour: tuple[int, int, int] = (9, 8, 6)) -> bytes:
    """One level of one channel beside the true one, with the true one's texts."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return png.with_text(buffer.getvalue(), png.read_text(image().png()))


async def test_a_saved_picture_is_its_task_s_and_a_swapped_one_is_not(tmp_path: Path) -> None:
    result = manifest()
    there = ports(await put(tmp_path, result, with_picture=False), result)
    for own in (image().png(), picture(), png.with_text(image().png(), {"parameters": "said otherwise"})):
        assert await is_of(there, TASK, past(result), own)
    shown = image().png()
    end = shown.rindex(b"IEND") - 4
    animated = shown[:end] + png._chunk(b"acTL", bytes(8)) + shown[end:]
    for other in (another(), animated, png.with_text(shown, {"Comment": "mine"}), b"noise", shown[:-20]):
        assert not await is_of(there, TASK, past(result), other)


async def test_texts_of_the_node_s_own_make_no_other_picture(tmp_path: Path) -> None:
    data = png.with_text(picture(), {"gesso": "{}"})
    entry = manifest().images[0].model_copy(update={"blob": BlobRef.of(data)})
    result = manifest(images=(entry,))
    blobs = await put(tmp_path, result, with_picture=False)
    await blobs.put(data)
    assert await is_of(ports(blobs, result), TASK, past(result), png.with_text(data, {"gesso": "a receipt"}))
    assert not await is_of(ports(blobs, result), TASK, past(result), another())


async def test_what_cannot_be_compared_is_not_vouched_for(tmp_path: Path) -> None:
    result, lie = manifest(), manifest(model_manifest=BlobRef(b"\x09" * 32))
    with pytest.raises(TaskFailed):
        await is_of(ports(await put(tmp_path, result), result), TASK, [], image().png())
    with pytest.raises(BlobMissing):
        await is_of(ports(await put(tmp_path, lie), lie), TASK, past(result), image().png())
