"""Calibration: the vectors prove what they are, errors are measured and not assumed, rows follow from them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_devnet import model
from gesso_node.executors.fake import FakeEngine, FakeExecutor
from gesso_node.executors.port import ReplayCheck, ReplayJob
from gesso_node.executors.profiles import device_family, profile_key
from gesso_node.operator.calibration import (
    MOST_GUIDANCE,
    Calibration,
    Picture,
    Quantiles,
    Vector,
    VectorSet,
    calibrate,
    limit_row,
)
from gesso_protocol.audit.limits import STRICT, shipped_limits
from gesso_protocol.errors import EncodingInvalid, ExecutorCrashed
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import TextToImage, make_spec

pytestmark = pytest.mark.anyio
MANIFEST = BlobRef.of(b"calibration")
SIZE = 4 * 8 * 8
H100 = Path(__file__).resolve().parents[4] / "scripts" / "gpu" / "measured" / "nvidia-h100.json"


def spec(guidance: float = 3.0, prompt: str = "a ring") -> TextToImage:
    fields = {"prompt": prompt, "model": "toy@1", "width": 64, "height": 64, "steps": 4, "guidance": guidance}
    return make_spec(fields)


def vectors_of_the_fake_engine(off: float = 0.0) -> VectorSet:
    """Three steps as the fake engine computes them; the second one moved by `off` of its size."""
    made, rng = [], np.random.default_rng(3)
    for step, guidance in enumerate((3.0, 1.0, 5.0)):
        latent = rng.standard_normal(SIZE).astype(np.float16).astype("<f4")
        job = ReplayJob(spec(guidance), None, MANIFEST, (ReplayCheck(0, step, latent.tobytes()),))
        cond, uncond = FakeEngine().replay(job).outputs[0, step]
        wanted = np.frombuffer(cond, "<f4") * np.float32(1 + off * (step == 1))
        made.append(Vector(spec(guidance), step, latent, wanted, uncond and np.frombuffer(uncond, "<f4")))
    last = rng.standard_normal(SIZE).astype(np.float16).astype("<f4")
    drawn = FakeEngine().replay(ReplayJob(spec(), None, MANIFEST, decode=((0, last.tobytes()),)))
    data = VectorSet.encode(made, [Picture(spec(), last, drawn.rgb[0])])
    return VectorSet.decode(data)


async def test_a_machine_that_is_the_reference_has_no_error() -> None:
    seen: list[tuple[int, int]] = []
    vectors = vectors_of_the_fake_engine()
    done = await calibrate(FakeExecutor(), None, MANIFEST, vectors, on_progress=lambda *at: seen.append(at))
    assert (done.branch.worst, done.guided.worst, done.rgb_levels) == (0, 0, 0)
    assert (done.profile, done.samples, done.vectors) == ("fp32/fake", 3, str(vectors.ref))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_an_error_of_one_vector_is_measured() -> None:
    done = await calibrate(FakeExecutor(), None, MANIFEST, vectors_of_the_fake_engine(off=0.01))
    assert done.branch.worst == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert done.branch.p50 == 0
    row = limit_row([done], "a test")
    assert row.tau_hard == pytest.approx(10 * done.branch.p999, rel=1e-6)
    assert done.within(row) == pytest.approx(1 / 6, rel=0.01), "the guided sum has the smaller margin"


async def test_a_model_that_is_another_one_is_far_outside() -> None:
    other = await calibrate(FakeExecutor(), None, BlobRef.of(b"another"), vectors_of_the_fake_engine())
    assert other.branch.worst > 0.1


async def test_a_run_that_fails_is_a_typed_error() -> None:
    strange = vectors_of_the_fake_engine()
    broken = Vector(spec(), 0, strange.vectors[0].latent[:-4], strange.vectors[0].cond, None)
    with pytest.raises(ExecutorCrashed, match="vector"):
        await calibrate(FakeExecutor(), None, MANIFEST, VectorSet((broken,), (), strange.ref))


def measured(worst: float, profile: str = "fp32/cpu-x86_64", vectors: str = "00" * 32) -> Calibration:
    quantiles = Quantiles(p50=worst / 4, p99=worst / 2, p999=worst, worst=worst)
    return Calibration(
        profile=profile, vectors=vectors, samples=64, branch=quantiles, guided=quantiles, rgb_levels=1,
        seconds_a_step=0.1, machine={},
    )  # fmt: skip


@given(st.lists(st.floats(min_value=1e-9, max_value=1e-2), min_size=1, max_size=8))
def test_a_row_holds_for_every_machine_that_it_was_made_from(errors: list[float]) -> None:
    machines = [measured(error) for error in errors]
    row = limit_row(machines, "a test")
    assert all(machine.within(row) < 1 for machine in machines)
    assert row.tau_soft < row.tau_hard
    assert row.tau_hard >= 1e-4
    assert row.samples == 64 * len(errors)
    assert row.rgb_levels >= 2


def test_a_row_is_of_one_profile_and_one_set() -> None:
    for other in (measured(1e-6, "fp16/cpu-x86_64"), measured(1e-6, vectors="11" * 32)):
        with pytest.raises(EncodingInvalid, match="one profile"):
            limit_row([measured(1e-6), other], "a test")


def test_what_is_published_can_be_read_back_and_gives_the_same_row() -> None:
    machines = [measured(1e-6), measured(2e-6)]
    read = [Calibration.decode(machine.encode()) for machine in machines]
    assert read == machines
    assert limit_row(read, "a test") == limit_row(machines, "a test")


@pytest.mark.parametrize(
    ("old", "new"),
    [("fp32/", "int8/"), ("1e-6", "NaN"), ("1e-6", "-1.0"), ('"samples"', '"of"'), ("64", '"64 "'), ("{", "[")],
)  # fmt: skip
def test_what_strangers_publish_is_checked(old: str, new: str) -> None:
    text = measured(1e-6).encode().decode()
    assert old in text
    with pytest.raises(EncodingInvalid):
        Calibration.decode(text.replace(old, new).encode())


def test_what_strangers_publish_is_bounded() -> None:
    padded = measured(1e-6).model_copy(update={"machine": {"note": "x" * 20_000}})
    with pytest.raises(EncodingInvalid, match="at most"):
        Calibration.decode(padded.encode())


def test_the_shipped_vectors_are_whole() -> None:
    vectors = VectorSet.read(model.calibration_path())
    assert len(vectors.vectors) == 64
    assert len({vector.step for vector in vectors.vectors}) == 8
    assert {vector.spec.scheduler for vector in vectors.vectors} == {"ddim", "euler_a"}
    assert all(np.array_equal(one.latent, one.latent.astype(np.float16)) for one in vectors.vectors)
    assert all(len(picture.rgb) == 64 * 64 * 3 for picture in vectors.pictures)
    assert vectors.ref == BlobRef.of(model.calibration_path().read_bytes())


def test_bytes_that_are_no_set_are_a_typed_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, specs=np.frombuffer(b"[]", np.uint8), steps=np.zeros(0))
    pickled = io.BytesIO()
    np.savez(pickled, specs=np.array([{"a": 1}], dtype=object))
    whole = vectors_bytes()
    for data in (b"", b"PK\x03\x04", buffer.getvalue(), pickled.getvalue(), whole[:-30], whole[: len(whole) // 2]):
        with pytest.raises(EncodingInvalid):
            VectorSet.decode(data)


def vectors_bytes() -> bytes:
    return model.calibration_path().read_bytes()


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=400))
def test_damaged_bytes_are_a_typed_error_or_a_whole_set(noise: bytes, at: int) -> None:
    data = vectors_bytes()
    damaged = data[:at] + noise + data[at + len(noise) :]
    try:
        VectorSet.decode(damaged)
    except EncodingInvalid:
        return


def test_every_engine_of_ours_has_a_calibrated_row_for_fp32() -> None:
    table = shipped_limits()
    for profile in ("fp32/fake", profile_key("fp32", device_family("cpu")), STRICT):
        assert table.row(profile, profile).calibrated, profile
    assert not table.row("fp32/cuda-sm100", "fp32/cuda-sm100").calibrated, "nobody measured one yet"


def of_gpu(dtype: str) -> list[dict[str, Any]]:
    """What was measured on an H100, row by row."""
    found: list[dict[str, Any]] = json.loads(H100.read_text())["sections"][f"rows-{dtype}"]
    return found


@pytest.mark.parametrize(("dtype", "may_slash"), [("fp32", True), ("fp16", False), ("bf16", False)])
def test_the_rows_of_a_gpu_hold_what_was_measured_on_it(dtype: str, *, may_slash: bool) -> None:
    rows, key = of_gpu(dtype), f"{dtype}/cuda-sm90"
    limit = shipped_limits().row(key, key)
    mine = [row for row in rows if row.get("profile") == key]
    apart = next(row for row in rows if row["what"] == "furthest apart")
    embedded = next(row for row in rows if row["what"] == "embeddings")
    assert limit.samples == sum(row["samples"] for row in mine)
    assert limit.rgb_levels >= 2 * max(row["rgb_levels"] for row in mine)
    assert limit.tau_hard > 3 * max(apart["branch"], embedded["worst"], *(row["branch_worst"] for row in mine))
    assert limit.guided > 3 * max(apart["guided"], *(row["guided_worst"] for row in mine))
    assert limit.calibrated is may_slash
    if may_slash:
        assert (2 * MOST_GUIDANCE - 1) * max(row["branch_worst"] for row in mine) < limit.guided


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_gross_cheats_lie_above_the_limits_of_a_gpu_at_every_vector(dtype: str) -> None:
    limit = shipped_limits().row(f"{dtype}/cuda-sm90", f"{dtype}/cuda-sm90")
    forged = {row["what"]: row for row in of_gpu(dtype) if row.get("of") == "not honest"}
    assert all(forged[what]["branch_least"] > limit.tau_hard for what in ("wrong-model", "int4"))
    if dtype == "fp32":
        assert all(forged[what]["branch_least"] > 3 * limit.tau_hard for what in ("int8", "fp8", "fp16 posing as fp32"))
        assert forged["TF32 in both"]["branch_least"] > limit.tau_hard


def test_a_row_slashes_only_where_rounding_and_cheats_lie_far_apart() -> None:
    assert limit_row([measured(1e-6)], "a test").calibrated
    assert limit_row([measured(1e-6)], "a test", cheat=3.1e-4).calibrated
    assert not limit_row([measured(1e-6)], "a test", cheat=2.9e-4).calibrated, "a cheat that is told by luck"
    assert not limit_row([measured(2e-3, "fp16/cpu-x86_64")], "a test", cheat=0.1).calibrated, "guidance of thirty"


def test_no_spec_orders_a_higher_guidance_than_rows_allow_for() -> None:
    with pytest.raises(ValidationError):
        spec().model_validate({**spec().model_dump(), "guidance": MOST_GUIDANCE + 0.1})


@pytest.mark.parametrize(
    ("kind", "capability", "name", "family"),
    [
        ("cuda", (9, 0), "NVIDIA H200", "cuda-sm90"),
        ("cuda", None, "NVIDIA H200 (SXM)", "cuda-nvidia-h200-sxm"),
        ("mps", None, "", "mps-unknown"),
    ],
)
def test_a_family_is_an_architecture_and_fits_a_manifest(
    kind: str, capability: tuple[int, int] | None, name: str, family: str
) -> None:
    assert device_family(kind, capability, name) == family
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,47}", device_family(kind, None, "x" * 500))
