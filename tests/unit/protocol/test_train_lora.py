"""Training specs: bounded, canonical, told apart from picture specs, priced by their work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol.encoding import canonical
from gesso_protocol.errors import SpecInvalid
from gesso_protocol.fields import Adapter
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.policy import Capabilities, Offer, Price, Refusal, judge, misfit, pays
from gesso_protocol.spec import TaskKind, TextToImage, UsedAdapter, make_spec, parse_any_spec, parse_spec, spec_bytes
from gesso_protocol.terms import Terms
from gesso_protocol.training.checkpoint import Resume
from gesso_protocol.training.disk import checkpoint_pixel_steps, needed_bytes
from gesso_protocol.training.presets import make_training, preset
from gesso_protocol.training.spec import TrainLora
from gesso_protocol.training.trace import TrainingLayout, segments

DATA = BlobRef(b"\x07" * 32)
BASE = BlobRef(b"\x08" * 32)
RESUME = Resume(task=TaskId(b"\x01" * 32), seed="ab" * 32, step=20, state=DATA, size=9)


def training(**changes: Any) -> TrainLora:
    return make_training(**{"model": "gesso-tiny@1", "dataset": DATA, **changes})


@given(
    rank=st.integers(1, 128),
    rate=st.integers(1, 10**8),
    steps=st.integers(1, 1000),
    targets=st.sets(st.sampled_from(["attention", "convolution", "feed_forward", "projection"]), min_size=1),
    start=st.booleans(),
)
def test_round_trip(rank: int, rate: int, steps: int, targets: set[str], start: bool) -> None:
    spec = training(
        rank=rank, learning_rate_nano=rate, steps=steps, targets=tuple(sorted(targets)),
        continue_from=Adapter(ref="zbx@1", manifest=BASE) if start else None,
    )  # fmt: skip
    data = spec_bytes(spec)
    assert parse_any_spec(data) == spec
    assert b"." not in data.replace(b"zbx@1", b"").replace(b"gesso-tiny@1", b"")
    with pytest.raises(SpecInvalid):
        parse_spec(data)


def test_a_reader_of_any_kind_reads_pictures_too() -> None:
    picture = TextToImage(prompt="a", model="m")
    assert parse_any_spec(spec_bytes(picture)) == picture
    assert training().task_kind is TaskKind.TRAIN_LORA
    assert int(TaskKind.TRAIN_LORA) == 2


def test_every_field_changes_the_bytes() -> None:
    others: dict[str, Any] = {
        "model": "gesso-tiny@2", "model_manifest": BASE, "dataset": BASE, "continue_from": Adapter(manifest=BASE),
        "trigger": "zbx", "rank": 3, "alpha": 3, "targets": ("attention",), "text_encoder": False,
        "learning_rate_nano": 7, "text_learning_rate_nano": 7, "schedule": "linear", "warmup_steps": 7,
        "weight_decay_milli": 7, "max_grad_norm_milli": 7, "steps": 7, "batch": 7, "accumulation": 7,
        "resolution": 128, "buckets": False, "bucket_step_px": 32, "caption_dropout_milli": 7,
        "noise_offset_milli": 7, "min_snr_milli": 7, "seed": 7, "checkpoint_every": 7, "sample_prompts": ("a",),
        "sample_every": 7, "sample_steps": 7, "sample_guidance_milli": 7, "dtype": "bf16",
        "resume": RESUME,
    }  # fmt: skip
    together: dict[str, dict[str, Any]] = {
        "text_encoder": {"text_learning_rate_nano": 0},
        "prior": {"prior_milli": 7, "prior_prompts": ("a",)},
    }
    assert set(others) | {"kind", "format", "prior_milli", "prior_prompts"} == set(TrainLora.model_fields)
    made = [training(**{name: value}, **together.get(name, {})) for name, value in others.items()]
    made += [training(**together["prior"]), training(**{**together["prior"], "prior_prompts": ("b",)}), training()]
    assert len({spec_bytes(spec) for spec in made}) == len(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 0}, {"rank": 129}, {"alpha": 0}, {"alpha": 257}, {"learning_rate_nano": 0},
        {"learning_rate_nano": 10**8 + 1}, {"learning_rate_nano": 1e-4}, {"steps": 0}, {"steps": 20_001},
        {"steps": 20_000, "checkpoint_every": 10}, {"batch": 0}, {"batch": 65}, {"accumulation": 65},
        {"resolution": 63}, {"resolution": 2056}, {"resolution": 72}, {"targets": ()},
        {"targets": ("projection", "attention")}, {"targets": ("attention", "attention")}, {"targets": ("bias",)},
        {"caption_dropout_milli": 1001}, {"noise_offset_milli": -1}, {"min_snr_milli": 100_001},
        {"prior_prompts": ()}, {"prior_milli": 0, "prior_prompts": ("a",)},
        {"sample_prompts": ("a",) * 5}, {"sample_prompts": ("\a",)},
        {"sample_prompts": ("a",), "sample_every": 1}, {"trigger": "x" * 65}, {"trigger": "\0"},
        {"text_encoder": False}, {"dtype": "fp16"}, {"seed": -1}, {"checkpoint_every": 0}, {"schedule": "step"},
        {"dataset": None}, {"continue_from": {"ref": "../x", "manifest": BASE}}, {"surprise": 1},
        {"prior_prompts": ("a",) * 257, "prior_milli": 1}, {"kind": "text_to_image"},
    ],
)  # fmt: skip
def test_out_of_bounds(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid):
        training(**changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", canonical({"kind": 1}), canonical({"kind": ["a"]}), b"[" * 99])
def test_hostile_documents(data: bytes) -> None:
    with pytest.raises(SpecInvalid):
        parse_any_spec(data)


@pytest.mark.parametrize("model", ["gesso-tiny@1", "sd-1.5@2", "sd-2.1@1", "sdxl@1", "unheard-of@1"])
def test_presets_are_valid_and_audited(model: str) -> None:
    spec = make_training(model, dataset=DATA)
    assert spec.audited
    assert spec.checkpoints == spec.steps // 20
    assert not spec.changed(dtype="bf16").audited
    assert not spec.changed(checkpoint_every=25).audited
    assert preset(model) is not preset(model)


def test_the_prior_of_a_preset_is_switched_off_by_its_weight_and_keeps_it_for_other_prompts() -> None:
    usual = training()
    assert usual.prior_milli > 0
    assert usual.prior_prompts
    off = training(prior_milli=0)
    assert (off.prior_milli, off.prior_prompts) == (0, ())
    own = training(prior_prompts=("a small dog",))
    assert (own.prior_milli, own.prior_prompts) == (usual.prior_milli, ("a small dog",))


def test_work_counts_updates_samples_and_the_prior() -> None:
    spec = training(steps=10, batch=4, accumulation=2, prior_milli=0)
    assert spec.pixel_steps == 64 * 64 * 10 * 8 * 3 // 2
    assert spec.changed(prior_milli=1, prior_prompts=("a",)).pixel_steps == 2 * spec.pixel_steps
    sampled = spec.changed(sample_prompts=("a", "b"), sample_every=5)
    assert sampled.samples == 4
    assert sampled.pixel_steps - spec.pixel_steps == 64 * 64 * 4 * spec.sample_steps


def test_the_rest_of_a_run_is_the_run_from_a_checkpoint_on() -> None:
    whole = training(steps=50, sample_prompts=("a",), sample_every=10)
    rest = whole.rest(RESUME)
    assert parse_any_spec(spec_bytes(rest)) == rest
    assert rest.run == whole
    assert whole.run is whole
    assert [(one.number, one.first, one.last) for one in segments(rest)] == [(0, 20, 40), (1, 40, 50)]
    assert segments(rest, 40) == segments(rest)[:1]
    assert segments(rest, 20) == ()
    assert (rest.checkpoints, TrainingLayout.for_run(rest).count) == (2, 8)
    assert (whole.samples, rest.samples) == (5, 3), "those after updates 30 and 40, and the last one"
    trained = [spec.pixel_steps - spec.samples * 64 * 64 * spec.sample_steps for spec in (whole, rest)]
    assert trained[1] * 50 == trained[0] * 30


@pytest.mark.parametrize("step", [7, 60, 80, 0, 20_020])
def test_a_run_goes_on_from_one_of_its_own_checkpoints(step: int) -> None:
    whole = training(steps=60)
    with pytest.raises((SpecInvalid, ValidationError)):
        whole.rest(Resume(**{**RESUME.model_dump(), "step": step}))


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"steps": 20_000, "checkpoint_every": 19}, "checkpoints"),
     ({"sample_prompts": ("a", "b", "c", "d"), "sample_every": 1}, "sample pictures")],
)  # fmt: skip
def test_the_rest_of_a_run_that_nobody_may_order_is_refused(changes: dict[str, Any], word: str) -> None:
    whole = training(steps=60, checkpoint_every=19)
    near_the_end = RESUME.model_copy(update={"step": 57 if "sample_every" in changes else 19 * 53})
    with pytest.raises(ValidationError, match=word):
        TrainLora.model_validate({**whole.model_dump(), **changes, "resume": near_the_end.model_dump()})


def test_adapters_in_pictures_are_bounded() -> None:
    one = UsedAdapter(ref="zbx@1", manifest=DATA, strength_milli=800)
    assert one.strength == 0.8
    spec = make_spec({"prompt": "a", "model": "m", "loras": (one,)})
    assert parse_spec(spec_bytes(spec)) == spec
    many = tuple(UsedAdapter(manifest=BlobRef(bytes([at]) * 32)) for at in range(6))
    for wrong in (many, (one, one), ({"manifest": DATA, "strength_milli": 0},), ({"manifest": DATA, "ref": "a b"},)):
        with pytest.raises(SpecInvalid):
            make_spec({"prompt": "a", "model": "m", "loras": wrong})


ROOM = 10**9
OFFER = Offer(
    kinds=("text_to_image", "train_lora"),
    models=(BASE,),
    max_training_steps=500,
    max_training_disk_bytes=ROOM,
    price=Price(base=Wei(9)),
)


@pytest.mark.parametrize(
    ("changes", "offer", "kind", "refusal"),
    [
        ({}, OFFER, 2, None),
        ({}, OFFER, 1, Refusal.KIND_UNSUPPORTED),
        ({}, OFFER.model_copy(update={"kinds": ("text_to_image",)}), 2, Refusal.KIND_UNSUPPORTED),
        ({"steps": 501}, OFFER, 2, Refusal.TOO_LARGE),
        ({"resolution": 1040}, OFFER, 2, Refusal.TOO_LARGE),
        ({"dtype": "bf16"}, OFFER, 2, Refusal.DTYPE_UNSUPPORTED),
        ({"model_manifest": DATA}, OFFER, 2, Refusal.MODEL_UNKNOWN),
    ],
)
def test_nodes_judge_training(changes: dict[str, Any], offer: Offer, kind: int, refusal: Refusal | None) -> None:
    spec = training(**{"steps": 500, **changes})
    terms = Terms(requester=Address("0x" + "11" * 20), fee=Wei(10), spec=DATA, claim_window_s=60, commit_window_s=60,
                  nonce=1, kind=kind)  # fmt: skip
    assert judge(spec, terms, Capabilities(offer=offer, models={"gesso-tiny@1": BASE})) is refusal
    assert (misfit(spec, offer) is None) is (refusal in (None, Refusal.MODEL_UNKNOWN) or kind == 1)


def test_a_trainings_checkpoints_are_in_its_price_and_the_exact_one_is_enough() -> None:
    spec, base = training(steps=100), 20_000_000
    price = Price(base=Wei(100), per_megapixel_step=Wei(10**12))
    exact = 100 + (spec.pixel_steps + checkpoint_pixel_steps(spec, base)) * 10**6
    assert price.quote(spec, base) == exact > price.quote(spec)
    assert price.quote(spec.changed(checkpoint_every=1), base) > price.quote(spec, base)
    able = Capabilities(offer=OFFER.model_copy(update={"price": price}))
    for fee, enough in ((exact, True), (exact - 1, False)):
        terms = Terms(requester=Address("0x" + "11" * 20), fee=Wei(fee), spec=DATA, claim_window_s=60,
                      commit_window_s=60, nonce=1, kind=2)  # fmt: skip
        assert pays(spec, terms, able, base) is enough


def test_an_offer_has_room_for_a_trainings_checkpoints_or_has_not() -> None:
    spec = training(steps=500, checkpoint_every=5)
    most = next(base for base in range(10**5, 10**9, 10**5) if needed_bytes(spec, base) > ROOM)
    assert misfit(spec, OFFER, most) is Refusal.DISK
    assert misfit(spec, OFFER, most - 10**5) is None
    assert misfit(spec.changed(checkpoint_every=20), OFFER, most) is None
    assert misfit(spec.changed(resolution=1040), OFFER, most) is Refusal.TOO_LARGE
    assert misfit(training(steps=1), Offer(kinds=("train_lora",), max_training_steps=1), 1) is Refusal.DISK
