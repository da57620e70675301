"""One lost task has one rest, however often it is ordered: found by its nonce, adopted where the board has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gesso.rests import RestsOf, nonce_of_rest
from gesso.submitted import FoundTask
from gesso_protocol.errors import ChainReverted
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.terms import AuditMode
from gesso_protocol.training.presets import make_training

pytestmark = pytest.mark.anyio
ME, OTHER = Address("0x" + "11" * 20), Address("0x" + "12" * 20)
LOST, FIRST, SECOND = (TaskId(bytes([number]) * 32) for number in (1, 2, 3))
SPEC = make_training("gesso-tiny@1", dataset=BlobRef(bytes(32)))


class Network:
    """A board that has taken some orders, and a client of it."""

    def __init__(self) -> None:
        self.taken: dict[tuple[Address, int], TaskId] = {}
        self.states: dict[TaskId, TaskState] = {}
        self.sent: list[dict[str, Any]] = []
        self.refusal: ChainReverted | None = None

    @property
    def rests(self) -> RestsOf:
        terms = SimpleNamespace(fee=Wei(9 * 10**18), audit=AuditMode.NONE, commit_window_s=77)
        client: Any = SimpleNamespace(address=ME, task=self.task, quote=self.quote, params=None, submit=self.submit)
        return RestsOf(client, SimpleNamespace(of_nonce=self.of_nonce), SimpleNamespace(terms=terms), None)  # type: ignore[arg-type]

    async def of_nonce(self, requester: Address, nonce: int, *, after: TaskId) -> Any:
        assert nonce == nonce_of_rest(after)
        task = self.taken.get((requester, nonce))
        return task and FoundTask(task, None, 1)  # type: ignore[arg-type]

    async def task(self, found: FoundTask | str) -> Any:
        task = found.task if isinstance(found, FoundTask) else TaskId.parse(found)

        async def status() -> Any:
            return SimpleNamespace(state=self.states.get(task, TaskState.SUBMITTED))

        return SimpleNamespace(id=task, status=status)

    async def quote(self, _: object, *, audit: str) -> Any:
        return SimpleNamespace(fee=Wei(2 * 10**18))

    async def submit(self, _: object, **order: Any) -> Any:
        self.sent.append(order)
        if self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(id=SECOND)


def test_the_nonce_is_the_lost_tasks() -> None:
    assert 0 <= nonce_of_rest(LOST) < 2**64
    assert nonce_of_rest(LOST) != nonce_of_rest(FIRST)


async def test_the_first_order_is_made_under_the_lost_tasks_nonce() -> None:
    net = Network()
    net.taken[OTHER, nonce_of_rest(LOST)] = FIRST  # anybody may use the same number
    assert await net.rests.ordered(LOST) is None
    assert (await net.rests.order(SPEC, lost=LOST, share=Wei(3 * 10**18))).id == SECOND
    assert net.sent == [{"fee": "3", "max_fee": "9", "audit": "none", "commit_window_s": 77,
                         "nonce": nonce_of_rest(LOST)}]  # fmt: skip


async def test_an_order_that_stands_is_found_and_one_that_was_taken_back_is_made_again() -> None:
    net = Network()
    net.taken[ME, nonce_of_rest(LOST)] = FIRST
    found = await net.rests.ordered(LOST)
    assert found is not None
    assert found.id == FIRST
    net.states[FIRST] = TaskState.CANCELLED
    assert await net.rests.ordered(LOST) is None
    await net.rests.order(SPEC, lost=LOST, share=Wei(1))
    assert net.sent[0]["nonce"] == nonce_of_rest(FIRST)


async def test_what_the_board_has_already_is_adopted() -> None:
    net = Network()
    net.refusal = ChainReverted("TaskExists", (str(FIRST),))
    assert (await net.rests.order(SPEC, lost=LOST, share=Wei(1))).id == FIRST
    net.refusal = ChainReverted("WindowOutOfRange", (1, 2, 3))
    with pytest.raises(ChainReverted, match="WindowOutOfRange"):
        await net.rests.order(SPEC, lost=LOST, share=Wei(1))
