"""One task among all that were ever submitted: by its id, by the beginning of it, by its requester's number.

The chain's log has the last word and is long. So what is asked first is what an endpoint answers at once: the log about
this task alone, newest blocks first, and where it is older than that, in the block of the second that a relay names.
Only what neither finds is looked for in the whole log.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gesso.chain import events as on_chain
from gesso.chain.chain import Chain
from gesso.chain.cursor import Cursor
from gesso_protocol.errors import UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import MAX_FEE, Wei
from gesso_protocol.terms import Terms, task_id

MAX_ROWS = 200
"""Of a relay's newest tasks, for the beginning of an id."""
MAX_FEES = 8
"""Of one number, that the board is asked about."""
_FEE = re.compile(r"[0-9]{1,29}")
_WHOLE = len("0x") + 64
_ID = re.compile(r"0x[0-9a-f]{64}")
_HINT = "see yours: gesso task ls"

Ask = Callable[[str, dict[str, str]], Awaitable[Any]]
"""A relay's answer to a path and its query; None where there is none."""


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task's terms and the block at or before the one that it was submitted in."""

    task: TaskId
    terms: Terms
    block: int


class Submitted:
    """Looking for submitted tasks. What a relay says is where to look, never what is there."""

    def __init__(self, chain: Chain, chain_id: int, board: Address, ask: Ask) -> None:
        self._chain = chain
        self._chain_id = chain_id
        self._board = board
        self._ask = ask

    async def find(self, prefix: str, mine: Address | None = None) -> FoundTask:
        """The one task whose id begins so, those that `mine` pays for first. Raises UsageError when there is none or
        more than one, Unreachable, ChainError."""
        wanted = prefix.lower() if prefix.lower().startswith("0x") else f"0x{prefix.lower()}"
        if not re.fullmatch(r"0x[0-9a-f]{2,64}", wanted):
            raise UsageError(f"{prefix!r} is not a task id", hint=_HINT)
        found = await self._whole(TaskId.parse(wanted)) if len(wanted) == _WHOLE else await self._begun(wanted, mine)
        if len(found) != 1:
            problem = "no task begins" if not found else f"{len(found)} tasks begin"
            raise UsageError(f"{problem} with {prefix}", hint=_HINT)
        return found[0]

    async def of_nonce(self, requester: Address, nonce: int, after: TaskId | None = None) -> FoundTask | None:
        """The first task that a wallet has submitted with this nonce, not before `after`. A relay is not asked: were it
        to hide one, the order would be paid twice. Raises Unreachable, ChainError."""
        earliest = None if after is None else await self._one(after)
        async for entry in self.all(0 if earliest is None else earliest.block):
            if (entry.terms.requester, entry.terms.nonce) == (requester, nonce):
                return entry
        return None

    async def fees_of(self, requester: Address, nonce: int) -> list[Wei]:
        """What a relay says that a wallet's newest tasks with this number were to cost: a hint, since of any fee the
        board can be asked."""
        rows = await self._rows({"requester": str(requester)})
        said = [row["terms"] for row in rows if isinstance(row.get("terms"), dict)]
        fees = [one.get("fee") for one in said if one.get("nonce") == str(nonce)]
        read = [int(fee) for fee in fees if isinstance(fee, str) and _FEE.fullmatch(fee)]
        return [Wei(fee) for fee in read if fee <= MAX_FEE][:MAX_FEES]

    async def all(self, first: int = 0) -> AsyncIterator[FoundTask]:
        """Every task from a block on, oldest first."""
        async for event in history(self._chain, first):
            if (found := self._read(event)) is not None:
                yield found

    async def _whole(self, task: TaskId) -> list[FoundTask]:
        found = await self._one(task)
        if found is None and (await self._chain.task(task)).state is not TaskState.UNKNOWN:
            return [entry async for entry in self.all() if entry.task == task]
        return [] if found is None else [found]

    async def _begun(self, prefix: str, mine: Address | None) -> list[FoundTask]:
        told = await self._told(prefix, mine)
        found = [await self._one(task) for task in told[:2]]  # two are too many already
        known = [entry for entry in found if entry is not None]
        return known or [entry async for entry in self.all() if str(entry.task).startswith(prefix)]

    async def _one(self, task: TaskId) -> FoundTask | None:
        """By what the log says of this task alone; None where it is too old for that, and nobody says when it was."""
        for event in await self._chain.course_of(task):
            if (found := self._read(event)) is not None:
                return found
        reply = await self._ask(f"/v1/tasks/{task}", {})
        at = reply.get("submitted_at") if isinstance(reply, dict) else None
        if not isinstance(at, int) or not 0 <= at < 2**37:
            return None
        return self._read(await self._chain.submission_of(task, at=at))

    async def _told(self, prefix: str, mine: Address | None) -> list[TaskId]:
        """Ids that begin so among a relay's newest, those of one requester first."""
        for query in [{"requester": str(mine)}, {}] if mine is not None else [{}]:
            ids = {str(row.get("id")) for row in await self._rows(query)}
            told = [one for one in sorted(ids) if one.startswith(prefix) and _ID.fullmatch(one)]
            if told:
                return [TaskId.parse(one) for one in told]
        return []

    async def _rows(self, query: dict[str, str]) -> list[dict[str, Any]]:
        reply = await self._ask("/v1/tasks", query | {"limit": str(MAX_ROWS)})
        rows = reply.get("tasks") if isinstance(reply, dict) else None
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def _read(self, event: object) -> FoundTask | None:
        if not isinstance(event, on_chain.TaskSubmitted):
            return None
        whose = task_id(self._chain_id, self._board, event.terms)
        return FoundTask(event.task, event.terms, event.block) if whose == event.task else None


async def history(chain: Chain, first: int = 0) -> AsyncIterator[on_chain.ContractEvent]:
    """Every event of the network's contracts from a block on."""
    cursor = Cursor.before(first)
    while (page := await chain.read_page(cursor)) is not None:
        for event in page.events:
            yield event
        cursor = page.cursor
