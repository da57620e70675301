"""Names of models: with and without a publisher, everywhere the same rule, and never a way out of a folder."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gesso_protocol.errors import SpecInvalid
from gesso_protocol.fields import AdapterLabel, ModelName, ModelRef
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.spec import make_spec
from gesso_protocol.training.presets import preset

GOOD = ["zbx", "alice/zbx", "a/b", "0/0", "gesso-tiny", "a.b_c-d/e.f_g-h", "x" * 64, f"alice/{'z' * 58}"]
BAD = [
    "", "/", "/zbx", "alice/", "alice//zbx", "a/b/c", "../zbx", "alice/..", "alice/../zbx", ".a/b", "a/.b", "-a/b",
    "a/-b", "_a", "Alice/zbx", "alice\\zbx", "alice/zb x", "alice/zbx\n", "alicе/zbx", "x" * 65, f"alice/{'z' * 59}",
]  # fmt: skip


def fits(kind: Any, value: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", GOOD)
def test_names(name: str) -> None:
    assert fits(ModelName, name)
    assert fits(ModelRef, name)
    assert fits(ModelRef, f"{name}@1")
    assert fits(AdapterLabel, f"{name}@999999999")
    assert make_spec({"prompt": "a", "model": f"{name}@2"}).model == f"{name}@2"


@pytest.mark.parametrize("name", BAD)
def test_no_names(name: str) -> None:
    assert not fits(ModelName, name)
    assert not fits(ModelRef, name)
    assert not fits(ModelRef, f"{name}@1")
    assert not fits(AdapterLabel, f"{name}@1")
    with pytest.raises(SpecInvalid):
        make_spec({"prompt": "a", "model": f"{name}@1"})


@pytest.mark.parametrize("label", ["alice/zbx@0", "alice/zbx@", "alice/zbx@1@1", "alice/zbx@-1", "alice/zbx@1/2", "@1"])
def test_no_versions(label: str) -> None:
    assert not fits(ModelRef, label)
    assert not fits(AdapterLabel, label)


def test_a_manifest_carries_its_publisher() -> None:
    files = (FileEntry(path="adapter.safetensors", size=1, blob=BlobRef.of(b"x")),)
    manifest = ModelManifest(name="alice/zbx", version=2, kind="lora", licence="openrail++", files=files)
    assert ModelManifest.decode(manifest.encode()) == manifest
    assert manifest.label == "alice/zbx@2"


def test_a_publisher_changes_no_preset() -> None:
    assert preset("alice/gesso-tiny@1") == preset("gesso-tiny@1")
    assert preset("sdxl/gesso-tiny-fine") == preset("gesso-tiny")
