"""Reveals of several audits go in one transaction, none later than it may, and none lost for another's fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import anyio
import pytest

from gesso.chain.arbiter import Arbiter, Reveal
from gesso_node.auditing.reveals import MOST, Reveals, spare_s
from gesso_protocol.audit.outcomes import AuditVerdict
from gesso_protocol.errors import ChainReverted, GessoError, Unreachable
from gesso_protocol.ids import TaskId

pytestmark = pytest.mark.anyio
LONG = 3600.0
"""Longer than any test: what waits so long would hang."""


def reveal(number: int) -> Reveal:
    return Reveal(TaskId(bytes([number]) * 32), AuditVerdict.PASS, bytes(32), bytes(32), None, bytes(32))


class Chain:
    """Notes what is sent; `refuse` says what the chain says of a batch."""

    def __init__(self, refuse: Callable[[Sequence[Reveal]], GessoError | None] = lambda _: None) -> None:
        self.sent: list[tuple[int, ...]] = []
        self._refuse = refuse

    async def reveal_audits(self, reveals: Sequence[Reveal]) -> None:
        self.sent.append(tuple(one.task.value[0] for one in reveals))
        error = self._refuse(reveals)
        if error is not None:
            raise error


async def all_sent(chain: Chain, spares: Sequence[float]) -> dict[int, GessoError | None]:
    """Reveals one after the other, each with so much time to spare, and what became of each."""
    reveals, ends = Reveals(cast(Arbiter, chain)), dict[int, GessoError | None]()

    async def one(number: int, spare: float) -> None:
        try:
            await reveals.send(reveal(number), spare)
        except GessoError as error:
            ends[number] = error
        else:
            ends[number] = None

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number, spare in enumerate(spares):
                group.start_soon(one, number, spare)
                await anyio.wait_all_tasks_blocked()
    return ends


async def test_who_has_time_goes_with_the_next_that_has_none() -> None:
    chain = Chain()
    assert await all_sent(chain, [LONG, LONG, 0, 0]) == dict.fromkeys(range(4))
    assert chain.sent == [(0, 1, 2), (3,)]


async def test_a_batch_is_bounded() -> None:
    chain = Chain()
    await all_sent(chain, [LONG] * MOST + [0])
    assert [len(batch) for batch in chain.sent] == [MOST, 1]


async def test_one_that_is_refused_leaves_the_others_unharmed() -> None:
    closed = ChainReverted("closed")
    chain = Chain(lambda batch: closed if any(one.task.value[0] == 1 for one in batch) else None)
    assert await all_sent(chain, [LONG, LONG, 0]) == {0: None, 1: closed, 2: None}
    assert chain.sent == [(0, 1, 2), (0,), (1,), (2,)]


async def test_what_may_have_been_sent_is_not_sent_again() -> None:
    away = Unreachable("the chain does not answer")
    chain = Chain(lambda _: away)
    assert await all_sent(chain, [LONG, 0]) == {0: away, 1: away}
    assert chain.sent == [(0, 1)]


@pytest.mark.parametrize("given_up", [0, 1, 2], ids=["who would send", "one between", "the last"])
async def test_who_gives_up_leaves_nobody_waiting(given_up: int) -> None:
    chain = Chain()
    reveals, scopes = Reveals(cast(Arbiter, chain)), [anyio.CancelScope() for _ in range(3)]

    async def one(number: int) -> None:
        with scopes[number]:
            await reveals.send(reveal(number), LONG)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(one, number)
                await anyio.wait_all_tasks_blocked()
            scopes[given_up].cancel()
            await anyio.wait_all_tasks_blocked()
            await reveals.send(reveal(7), 0)
    assert chain.sent == [(*(number for number in range(3) if number != given_up), 7)]


async def test_who_gives_up_alone_hurries_nobody_after_it() -> None:
    chain = Chain()
    reveals = Reveals(cast(Arbiter, chain))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await reveals.send(reveal(9), 0)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(reveals.send, reveal(0), LONG)
            await anyio.wait_all_tasks_blocked()
            assert chain.sent == []
            await reveals.send(reveal(1), 0)
    assert chain.sent == [(0, 1)]


@pytest.mark.parametrize(
    ("window", "left", "spare"),
    [(3600, 3600, 60), (3600, 1801, 60), (3600, 1800, 0), (3600, -5, 0), (10**6, 10**6, 120), (10, 10, 0)],
)
def test_only_the_first_half_of_a_long_window_has_time(window: int, left: int, spare: int) -> None:
    assert spare_s(window, left) == spare
