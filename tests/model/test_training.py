"""The training code: what is resumed is what was never stopped, and what a stage needs holds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'gpu'")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from base_model.muon import Muon, orthogonal, split  # noqa: E402
from base_model.run import Run, to_model, to_pictures  # noqa: E402
from base_model.text import SLOTS, meaning  # noqa: E402
from base_model.unet import new_unet, rate, scheduler  # noqa: E402
from gesso_devnet.world.scene import Scene, Thing  # noqa: E402


def tiny_run(folder: Path, steps: int) -> Run:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3))
    matrices, rest = split(model)
    return Run(folder, model, (Muon(matrices, 1e-2), torch.optim.AdamW(rest)), steps, seed=5)


def advance(run: Run, until: int) -> None:
    for step in run.steps(save_every=1000):
        pixels = torch.from_numpy(run.rng(step).standard_normal((2, 3, 8, 8))).float()
        run.descend(run.model(pixels).square().mean(), 1e-2)
        run.update_ema(0.9)
        if step + 1 == until:
            break
    # A break leaves the last step uncounted; the run itself counts it when it goes on.
    run.step = until
    run.save()


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole = tiny_run(tmp_path / "whole", 8)
    advance(whole, 8)
    advance(tiny_run(tmp_path / "parts", 8), 3)
    resumed = tiny_run(tmp_path / "parts", 8)
    assert resumed.resume()
    assert resumed.step == 3
    advance(resumed, 8)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert torch.equal(whole.ema[name], resumed.ema[name]), name


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, 2)
    run.save()
    before = run.file.read_bytes()
    run.file.with_suffix(".part").write_bytes(b"cut")
    assert tiny_run(tmp_path, 2).resume()
    assert run.file.read_bytes() == before


def test_every_weight_has_exactly_one_optimiser() -> None:
    unet = new_unet()
    matrices, rest = split(unet)
    assert len({id(w) for w in (*matrices, *rest)}) == len(list(unet.parameters()))
    assert all(w.ndim >= 2 for w in matrices)


def test_updates_are_orthogonalised() -> None:
    torch.manual_seed(1)
    for shape in ((2, 16, 40), (2, 40, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_the_rate_rises_stays_and_falls() -> None:
    peak = rate(1000, 4000)
    assert rate(0, 4000) < peak / 10
    assert rate(2900, 4000) == peak
    assert rate(3999, 4000) < peak / 50


def test_meaning_is_spatial_whatever_the_wording() -> None:
    red, blue = Thing("ring", "red", "big"), Thing("square", "blue", "small")
    assert meaning(Scene("white", (red, blue), "above")) == meaning(Scene("white", (blue, red), "below"))
    assert meaning(Scene("white", (red, blue), "left of")) != meaning(Scene("white", (blue, red), "left of"))
    assert len(meaning(Scene("white", (red,)))) == len(SLOTS)


def test_pictures_survive_the_range_of_the_autoencoder() -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_pictures(to_model(pictures)), pictures)


def test_the_schedule_starts_where_nothing_of_an_object_is_left() -> None:
    last = scheduler().alphas_cumprod[-1]
    assert last / (1 - last) < 0.005
