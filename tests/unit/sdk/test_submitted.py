"""A task is found by what an endpoint answers at once, on a chain of any length; the whole log is the last resort."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso.chain.cursor import Cursor, Page
from gesso.chain.events import TaskSubmitted
from gesso.submitted import MAX_ROWS, Submitted
from gesso_protocol.errors import UsageError
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import MAX_FEE, Wei
from gesso_protocol.terms import Terms, task_id

pytestmark = pytest.mark.anyio
CHAIN, BOARD = 31337, Address("0x" + "22" * 20)
ME, OTHER = Address("0x" + "11" * 20), Address("0x" + "33" * 20)
LONG = 20_000_000
RECENT = 64 * 2_000
"""How many blocks back the log is looked through for one task."""


def submission(nonce: int, block: int, requester: Address = ME) -> TaskSubmitted:
    terms = Terms(
        requester=requester, fee=Wei(5), spec=BlobRef(bytes(32)), claim_window_s=9, commit_window_s=9, nonce=nonce
    )
    task = task_id(CHAIN, BOARD, terms)
    return TaskSubmitted.model_construct(task=task, requester=requester, terms=terms, block=block, at=block)


class LongChain:
    """Twenty million blocks, a second each, and some submissions. Counts what it is asked."""

    def __init__(self, *events: TaskSubmitted) -> None:
        self.events = events
        self.pages: list[int] = []
        self.asked = 0

    async def course_of(self, task: TaskId) -> tuple[TaskSubmitted, ...]:
        self.asked += 1
        return tuple(event for event in self.events if event.task == task and event.block > LONG - RECENT)

    async def submission_of(self, task: TaskId, *, at: int) -> TaskSubmitted | None:
        self.asked += 1
        return next((event for event in self.events if event.task == task and event.at == at), None)

    async def task(self, task: TaskId) -> Any:
        known = any(event.task == task for event in self.events)
        return SimpleNamespace(state=TaskState.SETTLED if known else TaskState.UNKNOWN)

    async def read_page(self, cursor: Cursor) -> Page | None:
        if cursor.block >= LONG:
            return None
        self.pages.append(cursor.block)
        events = tuple(event for event in self.events if event.block > cursor.block)
        return Page(events=cast(Any, events), cursor=cursor.advanced(LONG, "0x" + "00" * 32))


class Relay:
    """Answers as a relay, or as a liar: `rows` are what it lists, `times` what it says of single tasks."""

    def __init__(self, *rows: TaskSubmitted, times: dict[str, object] | None = None) -> None:
        self.rows, self.times = rows, times or {}

    async def __call__(self, path: str, query: dict[str, str]) -> Any:
        if path != "/v1/tasks":
            return {"submitted_at": self.times.get(path.removeprefix("/v1/tasks/"))}
        assert query["limit"] == str(MAX_ROWS)
        wanted = query.get("requester")
        return {"tasks": [{"id": str(row.task)} for row in self.rows if wanted in (None, str(row.requester))]}


async def nobody(path: str, query: dict[str, str]) -> Any:
    return None


def looking(chain: LongChain, relay: Any = nobody) -> Submitted:
    return Submitted(cast(Any, chain), CHAIN, BOARD, relay)


NEW, OLD = submission(1, LONG - 50), submission(2, 3_000)


async def test_a_new_task_is_found_without_a_relay_and_without_the_log() -> None:
    chain = LongChain(OLD, NEW)
    found = await looking(chain).find(str(NEW.task))
    assert (found.task, found.terms, found.block) == (NEW.task, NEW.terms, NEW.block)
    assert (chain.asked, chain.pages) == (1, [])


async def test_an_old_one_is_found_by_the_second_that_a_relay_names() -> None:
    chain = LongChain(OLD, NEW)
    found = await looking(chain, Relay(times={str(OLD.task): OLD.at})).find(str(OLD.task))
    assert (found.task, found.block, chain.pages) == (OLD.task, OLD.block, [])


@pytest.mark.parametrize("lie", [None, -1, "3000", 2**60, 4_000, [], True], ids=str)
async def test_without_that_second_the_whole_log_has_it(lie: object) -> None:
    chain = LongChain(OLD, NEW)
    found = await looking(chain, Relay(times={str(OLD.task): lie})).find(str(OLD.task))
    assert (found.block, chain.pages) == (OLD.block, [-1])


async def test_what_the_board_never_took_is_not_looked_for_in_the_log() -> None:
    chain = LongChain(OLD, NEW)
    for relay in (nobody, Relay(times={"0x" + "ab" * 32: 3_000})):
        with pytest.raises(UsageError, match="no task begins with 0xabab"):
            await looking(chain, relay).find("0x" + "ab" * 32)
    assert chain.pages == []


async def test_the_beginning_of_an_id_is_ones_own_first() -> None:
    theirs = submission(3, LONG - 9, OTHER)
    chain = LongChain(OLD, NEW, theirs)
    look = looking(chain, Relay(NEW, theirs))
    for one, mine in ((NEW, ME), (theirs, OTHER), (theirs, ME), (theirs, None)):
        assert (await look.find(str(one.task)[:12], mine)).task == one.task
        assert (await look.find(str(one.task)[2:12].upper(), mine)).task == one.task
    assert chain.pages == []


async def test_a_relay_that_invents_ids_or_lists_none_is_passed_over() -> None:
    invented = SimpleNamespace(task=str(NEW.task)[:20] + "0" * 46, requester=ME)
    for relay in (Relay(), Relay(cast(Any, invented)), Relay(cast(Any, SimpleNamespace(task="0x", requester=ME)))):
        chain = LongChain(OLD, NEW)
        assert (await looking(chain, relay).find(str(NEW.task)[:12], ME)).block == NEW.block
        assert chain.pages == [-1]


async def test_the_beginning_of_two_is_refused() -> None:
    many = [submission(nonce, LONG - nonce) for nonce in range(1, 300)]
    first = str(many[0].task)[:4]
    assert sum(str(one.task).startswith(first) for one in many) > 1
    for relay in (nobody, Relay(*many)):
        with pytest.raises(UsageError, match="tasks begin with"):
            await looking(LongChain(*many), relay).find(first, ME)
    for wrong in ("", "0x", "zz", "0x" + "a" * 65):
        with pytest.raises(UsageError, match="not a task id"):
            await looking(LongChain()).find(wrong)


async def test_the_order_of_a_number_is_looked_for_after_the_task_that_it_follows() -> None:
    rest = submission(77, LONG - 10)
    chain = LongChain(OLD, NEW, rest)
    look = looking(chain)
    assert (await look.of_nonce(ME, 77, NEW.task)) == await look.find(str(rest.task))
    assert await look.of_nonce(OTHER, 77, NEW.task) is None
    assert chain.pages == [NEW.block - 1] * 2
    assert await look.of_nonce(ME, OLD.terms.nonce) == await look.of_nonce(ME, OLD.terms.nonce, OLD.task)
    assert chain.pages[2:] == [-1, -1], "of a task too old to be found at once all is read"


@pytest.mark.parametrize(
    ("row", "fees"),
    [
        ({"terms": {"nonce": "7", "fee": "12"}}, [12]),
        ({"terms": {"nonce": "8", "fee": "12"}}, []),
        ({"terms": {"nonce": 7, "fee": "12"}}, []),
        ({"terms": {"nonce": "7", "fee": 12}}, []),
        ({"terms": {"nonce": "7", "fee": "-1"}}, []),
        ({"terms": {"nonce": "7", "fee": str(MAX_FEE)}}, [MAX_FEE]),
        ({"terms": {"nonce": "7", "fee": str(MAX_FEE + 1)}}, []),
        ({"terms": {"nonce": "7", "fee": "9" * 5_000}}, []),
        ({"terms": []}, []),
        ({}, []),
        ([], []),
    ],
)
async def test_fees_that_a_relay_remembers(row: object, fees: list[int]) -> None:
    async def relay(path: str, query: dict[str, str]) -> Any:
        assert query["requester"] == str(ME)
        return {"tasks": [row]}

    assert await looking(LongChain(), relay).fees_of(ME, 7) == fees
    assert await looking(LongChain()).fees_of(ME, 7) == []
