"""What a re-check's steps or segments are drawn from: the log's challenge, else whatever the beacon says anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from gesso.audits.draw import challenge_of
from gesso.chain.arbiter import Filing
from gesso_protocol.audit.challenge import challenge
from gesso_protocol.events import AuditOpened
from gesso_protocol.ids import Address, Root, TaskId

pytestmark = pytest.mark.anyio

TASK = TaskId(b"\x07" * 32)
SEED = bytes(range(32))
COMMITTED_AT = 1_000
NOWHERE: Any = None
FILING = Filing(NOWHERE, Address("0x" + "0e" * 20), Root(b"\x01" * 32), Root(b"\x02" * 32))
OPENED = AuditOpened(task=TASK, at_ms=1, auditor=FILING.node, challenge="0x" + "05" * 32, round=4, commit_by=9)


class Heard:
    """A beacon that drand's servers have spoken for, and that no transaction has told the chain of."""

    def __init__(self, seed: bytes | None = SEED) -> None:
        self.seed = seed

    async def round_at(self, second: int) -> int:
        return second // 10

    async def seed_of(self, round_: int) -> bytes | None:
        return None

    async def listen(self, round_: int) -> bytes | None:
        return self.seed if round_ == COMMITTED_AT // 10 + 1 else None


async def drawn(arbiter: Any, *past: AuditOpened) -> bytes | None:
    return await challenge_of(arbiter, FILING, TASK, past, COMMITTED_AT)


async def test_a_task_that_was_not_audited_is_drawn_by_what_the_beacon_says_anywhere() -> None:
    assert await drawn(Heard()) == challenge(SEED, TASK, FILING.result_root, FILING.trace_root)


async def test_an_audit_of_the_log_is_believed_first() -> None:
    assert await drawn(Heard(), OPENED) == b"\x05" * 32


@pytest.mark.parametrize("arbiter", [None, Heard(None)])
async def test_nothing_is_drawn_without_a_beacon_or_before_it_speaks(arbiter: Any) -> None:
    assert await drawn(arbiter) is None
