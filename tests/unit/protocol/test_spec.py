"""Specs: bounded, canonical, and every field counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol.encoding import canonical
from gesso_protocol.errors import SpecInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import (
    MAX_SEED,
    TaskKind,
    TextToImage,
    UsedAdapter,
    make_spec,
    parse_spec,
    spec_bytes,
    spec_ref,
)

texts = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), max_size=50)
sides = st.integers(8, 256).map(lambda n: n * 8)


@st.composite
def specs(draw: st.DrawFn) -> TextToImage:
    return TextToImage(
        prompt=draw(texts),
        negative_prompt=draw(texts),
        model=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}(@[1-9][0-9]{0,4})?", fullmatch=True)),
        model_manifest=draw(st.none() | st.binary(min_size=32, max_size=32).map(BlobRef)),
        width=draw(sides),
        height=draw(sides),
        steps=draw(st.integers(1, 200)),
        guidance=draw(st.integers(0, 30_000)) / 1000,
        scheduler=draw(st.sampled_from(["ddim", "euler", "euler_a", "dpmpp_2m"])),
        seed=draw(st.integers(0, MAX_SEED)),
        count=draw(st.integers(1, 16)),
        dtype=draw(st.sampled_from(["fp32", "fp16", "bf16"])),
    )


@given(spec=specs())
def test_round_trip(spec: TextToImage) -> None:
    data = spec_bytes(spec)
    assert parse_spec(data) == spec
    assert spec_ref(spec) == BlobRef.of(data)
    assert b"." not in json.dumps(json.loads(data)["guidance_milli"]).encode()


@given(milli=st.integers(0, 30_000))
def test_guidance_survives_exactly(milli: int) -> None:
    spec = TextToImage(prompt="", model="m", guidance=milli / 1000)
    assert spec.guidance_milli == milli
    assert parse_spec(spec_bytes(spec)).guidance == spec.guidance


def test_every_field_changes_the_hash() -> None:
    base: dict[str, Any] = {"prompt": "a", "model": "m"}
    others: dict[str, Any] = {
        "prompt": "b", "negative_prompt": "b", "model": "n", "model_manifest": BlobRef(bytes(32)), "width": 64,
        "height": 64, "steps": 1, "guidance": 1.0, "scheduler": "euler", "seed": 1, "count": 2, "dtype": "fp16",
        "loras": (UsedAdapter(manifest=BlobRef(bytes(32))),),
    }  # fmt: skip
    assert set(others) | {"kind", "format"} == set(TextToImage.model_fields)
    refs = {spec_ref(make_spec({**base, name: value})) for name, value in others.items()}
    assert len(refs | {spec_ref(make_spec(base))}) == len(others) + 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "x" * 2001),
        ("prompt", "bell\a"),
        ("prompt", "null\0"),
        ("prompt", "\ud800"),
        ("prompt", None),
        ("negative_prompt", "x" * 2001),
        ("model", ""),
        ("model", "x" * 129),
        ("model", "../etc"),
        ("model", "m@0"),
        ("model", "m\n"),
        ("model_manifest", "b3:00"),
        ("width", 63),
        ("width", 65),
        ("width", 2056),
        ("height", 0),
        ("height", -8),
        ("height", "64"),
        ("steps", 0),
        ("steps", 201),
        ("steps", True),
        ("guidance", -0.1),
        ("guidance", 30.001),
        ("guidance", 1.00001),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("scheduler", "plms"),
        ("seed", -1),
        ("seed", 2**53),
        ("seed", 1.0),
        ("count", 0),
        ("count", 17),
        ("dtype", "int8"),
        ("kind", "train_lora"),
        ("format", "gesso/spec/2"),
        ("surprise", 1),
    ],
)
def test_out_of_bounds(field: str, value: object) -> None:
    with pytest.raises(SpecInvalid):
        make_spec({"prompt": "a", "model": "m", field: value})
    with pytest.raises(ValidationError):
        TextToImage.model_validate({"prompt": "a", "model": "m", field: value})


def test_limits_are_inclusive() -> None:
    make_spec({"prompt": "x" * 2000, "model": "m", "width": 2048, "height": 64, "steps": 200, "guidance": 30,
               "seed": 2**53 - 1, "count": 16})  # fmt: skip


def test_the_complaint_names_the_field_and_not_the_prompt() -> None:
    with pytest.raises(SpecInvalid) as caught:
        make_spec({"prompt": "secret \a", "model": "m", "width": 65})
    assert "width" in caught.value.message
    assert "prompt" in caught.value.message
    assert "secret" not in caught.value.message


def edited(**changes: Any) -> bytes:
    fields = json.loads(spec_bytes(TextToImage(prompt="a", model="m")))
    fields.update(changes)
    return canonical({name: value for name, value in fields.items() if value != "leave out"})


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance": 7},
        {"guidance_milli": "leave out"},
        {"guidance_milli": True},
        {"guidance_milli": "7500"},
        {"guidance_milli": 30_001},
        {"guidance_milli": -1},
        {"guidance_milli": None},
        {"seed": "leave out"},
        {"seed": "0"},
        {"model_manifest": "b3:" + "A" * 64},
        {"surprise": None},
        {"kind": "train_lora"},
    ],
)
def test_a_reader_takes_only_the_one_form(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid):
        parse_spec(edited(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"null", b"{}", b" " * 70_000, b"[" * 5000])
def test_hostile_documents(data: bytes) -> None:
    with pytest.raises(SpecInvalid):
        parse_spec(data)


def test_seeds_of_a_series_wrap_at_the_end() -> None:
    spec = TextToImage(prompt="", model="m", seed=MAX_SEED, count=2)
    assert [spec.image_seed(index) for index in range(2)] == [MAX_SEED, 0]


def test_the_kind_on_chain() -> None:
    assert TextToImage(prompt="", model="m").task_kind is TaskKind.TEXT_TO_IMAGE
    assert int(TaskKind.TEXT_TO_IMAGE) == 1
