"""The work of open cases stays, with the files that prove it; that of cases which were left makes room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso_node.auditing import works
from gesso_node.auditing.case import Case
from gesso_node.auditing.works import Works
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import TaskId

from .traces import MODEL, SPEC

pytestmark = pytest.mark.anyio
VIEW = cast(Any, SimpleNamespace(challenge=bytes(32)))


class Doubles:
    """A store and a catalogue that know one spec."""

    async def get(self, *_: Any, **__: Any) -> bytes:
        return SPEC.encode()

    def models(self) -> Any:
        return {SPEC.model: MODEL}


class Forgetting(Works):
    """Notes what is forgotten."""

    def __init__(self) -> None:
        doubles = cast(Any, Doubles())
        super().__init__(doubles, doubles, doubles, doubles, doubles, doubles, doubles)
        self.gone: list[TaskId] = []

    async def _made(self, case: Case, *_: Any) -> Any:
        return SimpleNamespace(challenge=VIEW.challenge, forget=lambda: self.gone.append(case.task))


def case(number: int) -> Case:
    filing = SimpleNamespace(terms=SimpleNamespace(kind=1, spec=None))
    return Case(TaskId(keccak256(bytes([number]))), cast(Any, filing), 0, 0, 0, 0, 0, cast(Any, None))


async def test_only_cases_that_were_left_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MAX_WORKS", 2)
    monkeypatch.setattr(works, "resolve_model", lambda *_: MODEL)
    kept, cases = Forgetting(), [case(number) for number in range(5)]
    for one in cases[:3]:
        await kept.of(one, VIEW)
    assert kept.gone == []
    cases[0].left = cases[1].left = "over"
    cases[0].busy.add("judge")
    await kept.of(cases[3], VIEW)
    assert kept.gone == [cases[1].task]
    cases[0].busy.clear()
    await kept.of(cases[4], VIEW)
    assert kept.gone == [cases[1].task, cases[0].task]
