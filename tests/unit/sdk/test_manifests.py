"""A base that no node can run is refused by its first file, before anything is charged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gesso.blobs import LocalBlobs
from gesso.manifests import Manifests
from gesso_devnet import model
from gesso_protocol.errors import BlobMissing, ModelInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import FileEntry, ModelManifest

pytestmark = pytest.mark.anyio
OURS = json.loads((model.path() / "model_index.json").read_text())


async def listed(blobs: LocalBlobs, index: bytes, name: str = "model_index.json") -> BlobRef:
    ref = await blobs.put(index)
    entry = FileEntry(path=name, size=len(index), blob=ref)
    manifest = ModelManifest(name="a", version=1, kind="base", licence="MIT", files=(entry,))
    return await blobs.put(manifest.encode())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"_class_name": "StableDiffusionXLPipeline"}, "says stable-diffusion, and its files are stable-diffusion-xl"),
        ({"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "more or other than draw from words"),
        ({"_class_name": "FluxPipeline"}, "FluxPipeline"),
    ],
)
async def test_other_layouts_are_refused_with_a_sentence(changes: dict[str, object], word: str, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    with pytest.raises(ModelInvalid, match=word):
        await Manifests(blobs).check_base(await listed(blobs, json.dumps({**OURS, **changes}).encode()), "a@1")


async def test_ours_and_those_that_do_not_say_pass(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await Manifests(blobs).check_base(await listed(blobs, json.dumps(OURS).encode()), "a@1")
    await Manifests(blobs).check_base(await listed(blobs, b"{}", "unet/config.json"), "a@1")
    with pytest.raises(BlobMissing, match="nobody serves"):
        await Manifests(blobs).check_base(BlobRef.of(b"nobody's"), "a@1")
