"""The staged fraud: a cheat that runs most steps as it should is caught sooner or later, and the demo waits for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gesso_devnet import fraud
from gesso_protocol.spec import MAX_SEED, make_spec

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("statuses", "seeds"),
    [
        (["guilty"], [MAX_SEED - 1]),
        (["passed", "passed", "guilty", "passed"], [MAX_SEED - 1, 0, 1]),
        (["undecided", "guilty"], [MAX_SEED - 1]),
        (["passed"] * 20, [MAX_SEED - 1, *range(fraud.TRIES - 1)]),
    ],
    ids=["at once", "the third time", "no pass", "never"],
)
async def test_a_cheat_that_the_lot_did_not_catch_is_ordered_from_again(
    statuses: list[str], seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered: list[int] = []
    said: list[str] = []

    async def fee(*_: object) -> str:
        return "0.005"

    async def once(_chain: Any, _client: Any, _state: Any, spec: Any, *_: object) -> Any:
        ordered.append(spec.seed)
        facts = SimpleNamespace(
            status=statuses[len(ordered) - 1], steps=((0, 1), (0, 17)), auditors=(), error_of_limit=0
        )
        return SimpleNamespace(facts=facts)

    monkeypatch.setattr(fraud, "_cheap_fee", fee)
    monkeypatch.setattr(fraud, "_commit_once", once)
    state: Any = SimpleNamespace(settings=SimpleNamespace(cheat="skip-steps"))
    spec = make_spec({"prompt": "a", "model": "m@1", "seed": MAX_SEED - 1, "width": 64, "height": 64, "steps": 25})
    nothing: Any = None
    verdict = await fraud.commit_fraud(nothing, nothing, state, spec, note=nothing, say=said.append)
    assert ordered == seeds
    assert verdict.facts.status == statuses[len(seeds) - 1]
    assert len(said) == len(seeds) - 1
