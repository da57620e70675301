"""What a training step draws is a function of seed and place: known values, right distributions, no freedom."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import BlobRef
from gesso_protocol.training.buckets import bucket_of, bucket_sizes
from gesso_protocol.training.dataset import Sample
from gesso_protocol.training.draws import Draws, below, normals, run_seed, uniforms
from gesso_protocol.training.order import DataOrder
from gesso_protocol.training.presets import make_training
from gesso_protocol.training.rates import loss_weight, rate_factor

SEED = bytes(range(32))
DRAWS = Draws(SEED)


def test_the_bits_are_fixed() -> None:
    """Two machines must draw the same; a change of these is a change of the protocol."""
    draw = DRAWS.sample(3, 1, (4, 8, 8), timesteps=1000, dropout_milli=500, offset_milli=100)
    assert hashlib.sha256(draw.noise.tobytes() + draw.offset.tobytes()).hexdigest() == FIXED_NOISE
    assert (draw.timestep, draw.dropped) == FIXED_DRAW
    assert hashlib.sha256(DRAWS.initial("a.lora_A", 64, 16).tobytes()).hexdigest() == FIXED_START


FIXED_NOISE = "dcdb53e953330cd12c72b7a064e3ae9a59e38575b4be500297e9144439673847"
FIXED_DRAW = (310, True)
FIXED_START = "be59b243b76bb0df7cfde962a6086fc742aca67907f093def3c406a4d8187ee1"


def test_noise_is_normal() -> None:
    values = np.concatenate(
        [DRAWS.sample(0, slot, (4, 64, 64), timesteps=9, dropout_milli=0, offset_milli=0).noise.ravel()
         for slot in range(12)]
    ).astype(np.float64)  # fmt: skip
    assert values.dtype == np.float64
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.005
    assert abs((values**4).mean() - 3) < 0.06
    for limit, share in ((1, 0.31731), (2, 0.0455), (3, 0.0027)):
        assert abs((np.abs(values) > limit).mean() - share) < 4 * (share / values.size) ** 0.5


def test_normals_at_the_edges_are_finite_and_symmetric() -> None:
    ends = normals(bytes(8) + b"\xff" * 8)
    assert np.isfinite(ends).all()
    assert ends[0] == -ends[1]
    assert -9 < ends[0] < -7
    steps = normals(b"".join((at << 54).to_bytes(8, "little") for at in range(1024)))
    assert (np.diff(steps) > 0).all(), "a quantile grows, across the seams too"


@given(st.binary(min_size=8, max_size=80).filter(lambda raw: len(raw) % 8 == 0))
def test_uniforms_stay_inside(raw: bytes) -> None:
    values = uniforms(raw)
    assert ((values > 0) & (values < 1)).all()


@given(raw=st.binary(min_size=8, max_size=8), limit=st.integers(1, 10**6))
def test_below_stays_below(raw: bytes, limit: int) -> None:
    assert 0 <= below(raw, limit) < limit


def test_places_and_seeds_do_not_share_draws() -> None:
    def bits(draws: Draws, step: int, slot: int) -> bytes:
        return draws.sample(step, slot, (1, 2, 2), timesteps=1000, dropout_milli=0, offset_milli=0).noise.tobytes()

    seen = {bits(draws, step, slot) for draws in (DRAWS, Draws(bytes(32))) for step in range(5) for slot in range(5)}
    assert len(seen) == 50
    assert run_seed(SEED, SEED, 0) != run_seed(SEED, SEED, 1)
    assert run_seed(SEED, SEED, 0) != run_seed(bytes(32), SEED, 0)
    for wrong in (lambda: Draws(b""), lambda: run_seed(b"", SEED, 0), lambda: run_seed(SEED, b"", 0)):
        with pytest.raises(EncodingInvalid):
            wrong()


def test_dropout_and_timesteps_come_in_their_share() -> None:
    draws = [DRAWS.sample(step, 0, (1, 1, 1), timesteps=10, dropout_milli=200, offset_milli=0) for step in range(3000)]
    assert 500 < sum(draw.dropped for draw in draws) < 700
    counts = Counter(draw.timestep for draw in draws)
    assert set(counts) == set(range(10))
    assert min(counts.values()) > 220
    prior = [DRAWS.prior(step, 0, (1, 1, 1), timesteps=10, prompts=3, pictures=2) for step in range(500)]
    assert {draw.timestep for draw in prior} == set(range(3, 10))
    assert {draw.prompt for draw in prior} == {0, 1, 2}
    assert {draw.picture for draw in prior} == {0, 1}


samples = st.lists(
    st.builds(Sample, caption=st.just("a"), repeats=st.integers(1, 4), width=st.sampled_from([64, 48]),
              height=st.sampled_from([64, 48])), min_size=1, max_size=12,
)  # fmt: skip


@given(data=samples, batch=st.integers(1, 6), accumulation=st.integers(1, 3))
def test_an_epoch_shows_everything_in_batches_of_one_size(data: list[Sample], batch: int, accumulation: int) -> None:
    order = DataOrder(DRAWS, tuple(data), batch, accumulation)
    groups = Counter[tuple[int, int]]()
    for sample in data:
        groups[sample.width, sample.height] += sample.repeats
    epoch = sum(-(-count // batch) for count in groups.values())
    steps = -(-epoch // accumulation)
    flat = [one for step in range(steps) for one in order.batches(step)][:epoch]
    shown = Counter(number for one in flat for number in one)
    for number, sample in enumerate(data):
        assert shown[number] >= sample.repeats
    for one in flat:
        assert len(one) == batch
        assert len({(data[number].width, data[number].height) for number in one}) == 1


def test_epochs_differ_and_access_is_random() -> None:
    order = DataOrder(DRAWS, tuple(Sample(caption=str(at), width=64, height=64) for at in range(40)), 4, 1)
    late = order.batches(25)
    epochs = [tuple(order.batches(step)[0] for step in range(at * 10, at * 10 + 10)) for at in range(3)]
    assert len(set(epochs)) == 3
    assert all(sorted(number for one in epoch for number in one) == list(range(40)) for epoch in epochs)
    assert DataOrder(Draws(SEED), order.samples, 4, 1).batches(25) == late


@given(width=st.integers(8, 4000), height=st.integers(8, 4000), res=st.sampled_from([64, 512, 1024]))
def test_buckets(width: int, height: int, res: int) -> None:
    step = res // 8
    size = bucket_of(width, height, res, step)
    assert size in bucket_sizes(res, step)
    assert size[0] * size[1] <= res * res
    assert size[0] % step == 0 == size[1] % step
    turned = bucket_of(height, width, res, step)
    assert turned == size[::-1] or width == height
    assert bucket_of(width, height, res, step, buckets=False) == (res, res)


def test_squares_stay_square() -> None:
    assert bucket_of(3000, 3000, 512, 64) == (512, 512)
    assert bucket_of(1920, 1080, 1024, 64)[0] > 1024


def test_rates() -> None:
    spec = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)), steps=100, warmup_steps=9)
    factors = [rate_factor(spec, step) for step in range(100)]
    assert factors[0] == 0.1
    assert max(factors) > 0.97
    assert factors[-1] == 0.02
    linear = spec.changed(schedule="linear", warmup_steps=0)
    assert [rate_factor(linear, step) for step in (0, 50)] == [1.0, 0.5]
    assert rate_factor(spec.changed(schedule="constant"), 99) == 1.0


def test_loss_weights() -> None:
    spec = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)))
    assert loss_weight(spec, 0.5, "epsilon") == 1.0
    capped = spec.changed(min_snr_milli=5000)
    assert loss_weight(capped, 0.99, "epsilon") == pytest.approx(5 / 99)
    assert loss_weight(capped, 0.5, "epsilon") == 1.0
    assert loss_weight(capped, 0.5, "v_prediction") == 0.5
