"""The world's vocabulary, what is held out of training, and its wordings."""

from __future__ import annotations

import numpy as np
import pytest

from gesso_devnet.world.caption import COLOUR_WORDS, SHAPE_WORDS, caption, plain_caption, with_fillers
from gesso_devnet.world.prompts import held_out_prompts
from gesso_devnet.world.scene import (
    COLOURS,
    HELD_OUT_COLOUR,
    HELD_OUT_SHAPE,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    training_scene,
)

RING = Thing("ring", "red")


def _training_scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(1)
    return [training_scene(rng) for _ in range(count)]


def test_the_vocabulary_is_as_large_as_promised() -> None:
    assert len(COLOURS) >= 8
    assert len(SHAPES) >= 5
    assert len(SIZES) == 2
    assert set(RELATIONS) == {"above", "below", "left of", "right of", "next to"}


def test_training_never_sees_the_held_out_shape_colour_or_descriptions() -> None:
    for scene in _training_scenes(3000):
        assert not scene.is_held_out
        assert HELD_OUT_COLOUR not in {scene.background, *(t.colour for t in scene.things)}
        assert HELD_OUT_SHAPE not in {t.shape for t in scene.things}


def test_captions_never_name_what_is_held_out() -> None:
    rng = np.random.default_rng(2)
    words = {w for s in _training_scenes(3000) for w in with_fillers(caption(s, rng), rng).replace(",", "").split()}
    assert not words & {HELD_OUT_COLOUR, HELD_OUT_SHAPE, "turquoise", "teal", "stars"}


def test_about_a_tenth_of_descriptions_is_held_out() -> None:
    rng = np.random.default_rng(3)
    from gesso_devnet.world.scene import random_scene

    share = np.mean([random_scene(rng).is_held_out for _ in range(4000)])
    assert 0.08 < share < 0.12


def test_synonyms_belong_to_one_word_only() -> None:
    for table in (COLOUR_WORDS, SHAPE_WORDS):
        spoken = [word for words in table.values() for word in set(words)]
        assert len(spoken) == len(set(spoken))


def test_a_caption_names_every_thing_and_the_background() -> None:
    rng = np.random.default_rng(4)
    for scene in _training_scenes(500):
        text = caption(scene, rng)
        assert any(word in text for word in COLOUR_WORDS[scene.background])
        for thing in scene.things:
            assert any(word in text for word in SHAPE_WORDS[thing.shape])
            assert any(word in text for word in COLOUR_WORDS[thing.colour])


def test_the_plain_wording_reads_like_a_sentence() -> None:
    one = Scene("blue", (Thing("circle", "orange", "small", "top left"),))
    two = Scene("white", (Thing("ring", "red", "big"), Thing("square", "black")), "above")
    assert plain_caption(one) == "a small orange circle in the top left on a blue background"
    assert plain_caption(two) == "a big red ring above a black square on a white background"


def test_prompts_are_held_out_and_the_same_every_time() -> None:
    prompts = held_out_prompts(50, pairs=True)
    assert all(p.scene.is_held_out for p in prompts)
    assert prompts == held_out_prompts(50, pairs=True)
    assert len({p.seed for p in prompts}) == 50


@pytest.mark.parametrize(
    ("things", "relation"),
    [
        ((), None),
        ((Thing("ring", "red"),) * 3, "above"),
        ((Thing("ring", "red"),), "above"),
        ((Thing("ring", "red"),) * 2, None),
    ],
)
def test_an_impossible_scene_is_refused(things: tuple[Thing, ...], relation: str | None) -> None:
    with pytest.raises(ValueError, match="thing"):
        Scene("white", things, relation)  # type: ignore[arg-type]
