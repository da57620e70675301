"""What the client fills in where the caller leaves a choice open."""

from __future__ import annotations

import pytest

from gesso.families import family_of
from gesso_devnet import model


@pytest.mark.parametrize(("name", "side_px"), [("sd-1.5-fine", 512), ("sdxl-turbo", 1024), ("somebody-s-model", 512)])
def test_a_name_s_beginning_tells_the_family(name: str, side_px: int) -> None:
    assert family_of(name).side_px == side_px


def test_the_shipped_model_is_asked_for_at_the_guidance_it_was_scored_at() -> None:
    assert family_of(model.NAME).guidance == model.GUIDANCE
