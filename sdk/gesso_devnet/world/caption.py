"""Words a scene the way people do: free order, synonyms, parts left out, and the plain form.

What a caption leaves out, the scene leaves open (``None``), so a caption never hides what it could have said.
"""

from __future__ import annotations

import numpy as np

from gesso_devnet.world.scene import Scene, Thing

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "blue": ("blue", "blue", "navy"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "white": ("white", "white", "snowy"),
    "black": ("black", "black", "dark"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc", "ball", "dot"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "pyramid"),
    "cross": ("cross", "cross", "plus", "plus sign"),
    "ring": ("ring", "ring", "donut", "hoop"),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "big": ("big", "large", "huge", "giant"),
}
_EDGES = {
    "top": ("at the top", "on top", "top", "up", "in the upper part"),
    "bottom": ("at the bottom", "bottom", "down", "in the lower part"),
    "left": ("on the left", "at the left", "left", "to the left side"),
    "right": ("on the right", "at the right", "right", "to the right side"),
    "centre": ("in the centre", "in the center", "in the middle", "centre", "center", "middle"),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    **_EDGES,
    **{
        f"{v} {h}": (
            f"in the {v} {h}",
            f"in the {v} {h} corner",
            f"{v} {h}",
            f"at the {v} {h}",
            f"in the {'upper' if v == 'top' else 'lower'} {h} corner",
            f"on the {h} at the {v}",
        )
        for v in ("top", "bottom")
        for h in ("left", "right")
    },
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "next to": ("next to", "beside", "by", "and", "with"),
}
FILLERS = (
    "the",
    "very",
    "nice",
    "simple",
    "please",
    "one",
    "single",
    "just",
    "beautiful",
    "bright",
    "flat",
    "colored",
    "coloured",
    "that",
    "shows",
    "here",
    "plain",
    "clean",
    "shape",
    "solid",
    "some",
    "me",
    "of",
    "its",
    "photo",
    "minimalist",
    "art",
    "style",
    "vector",
    "icon",
)
OPENINGS = ("", "", "", "a picture of", "a drawing of", "an image of", "draw", "there is", "show me", "paint")
BACKGROUND_FORMS = (
    "{thing} on a {bg} background",
    "{thing} on {bg}",
    "{thing} with a {bg} background",
    "{thing}, {bg} background",
    "{thing} in front of a {bg} background",
    "{bg} background, {thing}",
    "on a {bg} background, {thing}",
    "a {bg} background with {thing}",
    "{thing} on a {bg} canvas",
    "{thing}, background {bg}",
    "{thing} against a {bg} backdrop",
)
THING_FORMS = (
    "{size} {colour} {shape}",
    "{size} {colour} {shape}",
    "{colour} {shape}, {size}",
    "{size} {shape}, {colour}",
    "{colour} {size} {shape}",
    "{size} {shape} in {colour}",
    "{shape} that is {size} and {colour}",
)


def plain_caption(scene: Scene) -> str:
    """The one canonical wording: "a small red circle on the left on a blue background"."""
    first = _article(" ".join(p for p in (scene.things[0].size, scene.things[0].colour, scene.things[0].shape) if p))
    if scene.relation is not None:
        other = scene.things[1]
        first += f" {scene.relation} " + _article(" ".join(p for p in (other.size, other.colour, other.shape) if p))
    elif scene.things[0].place is not None:
        first += f" {PLACE_WORDS[scene.things[0].place][0]}"
    return f"{first} on {_article(scene.background)} background"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many wordings of a scene."""
    if rng.random() < 0.2:
        return plain_caption(scene)
    body = _phrase(scene.things[0], rng)
    if scene.relation is not None:
        body = f"{body} {_pick(RELATION_WORDS[scene.relation], rng)} {_phrase(scene.things[1], rng)}"
    elif (place := scene.things[0].place) is not None:
        words = _pick(PLACE_WORDS[place], rng)
        body = f"{words}, {body}" if rng.random() < 0.2 else f"{body}{', ' if rng.random() < 0.3 else ' '}{words}"
    background = _pick(COLOUR_WORDS[scene.background], rng)
    text = _pick(BACKGROUND_FORMS, rng).format(thing=body, bg=background)
    return f"{_pick(OPENINGS, rng)} {text}".strip()


def with_fillers(text: str, rng: np.random.Generator) -> str:
    """The caption with a few words strewn in that mean nothing to the world, as people's prompts have them."""
    words = text.split(" ")
    for _ in range(int(rng.integers(0, 3))):
        words.insert(int(rng.integers(0, len(words) + 1)), _pick(FILLERS, rng))
    return " ".join(words)


def _phrase(thing: Thing, rng: np.random.Generator) -> str:
    form = (
        _pick(THING_FORMS, rng) if thing.size else "{colour} {shape}" if rng.random() < 0.8 else "{shape} in {colour}"
    )
    text = form.format(
        size=_pick(SIZE_WORDS[thing.size], rng) if thing.size else "",
        colour=_pick(COLOUR_WORDS[thing.colour], rng),
        shape=_pick(SHAPE_WORDS[thing.shape], rng),
    )
    return _article(text) if rng.random() < 0.8 else text


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
