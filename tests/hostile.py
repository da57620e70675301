"""What strangers send, drawn by hypothesis: noise, good bytes that were damaged, and JSON that is almost right."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

FUZZ = int(os.environ.get("GESSO_FUZZ", "1"))
"""How many times the usual examples are drawn; see scripts/fuzz."""

LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["0x", "0x0", "0x" + "f" * 64, "0x" + "F" * 40, "b3:", "b3:" + "0" * 64, "-1", "1e9", "∞", "\x00"]),
)
JSON: st.SearchStrategy[Any] = st.one_of(
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(st.text(max_size=8), LEAVES, max_size=3),
    st.lists(st.dictionaries(st.text(max_size=8), LEAVES, max_size=2), max_size=2),
)


def examples(usual: int) -> settings:
    """For tests of which a hundred examples would take too long, or find too little."""
    return settings(max_examples=usual * FUZZ)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes with a stretch of them taken out, and noise or a copy of another stretch put in."""
    at, cut = draw(st.integers(0, len(good))), draw(st.integers(0, 12))
    start = draw(st.integers(0, len(good)))
    put = draw(st.binary(max_size=12) | st.just(good[start : start + cut]))
    return good[:at] + put + good[at + cut :]


def almost(good: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A JSON object with one or two of its fields, at any depth of objects, missing or something else."""

    @st.composite
    def drawn(draw: st.DrawFn) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(good))
        for _ in range(draw(st.integers(1, 2))):
            inner = found
            while True:
                names = sorted(inner)
                if not names:
                    break
                name = draw(st.sampled_from(names))
                if isinstance(inner[name], dict) and inner[name] and draw(st.booleans()):
                    inner = inner[name]
                    continue
                if draw(st.integers(0, 4)) == 0:
                    del inner[name]
                else:
                    inner[name] = draw(JSON)
                break
        return found

    return drawn()
