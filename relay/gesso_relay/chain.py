"""What the relay needs of a chain, and the real one: reading pages of events, block times and the board's rules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from gesso.audits.draw import drawing_round
from gesso.chain.chain import Chain
from gesso.chain.cursor import Cursor, Page
from gesso.chain.rpc import Rpc
from gesso.chain.settings import ChainSettings
from gesso_protocol.audit.challenge import challenge, picked
from gesso_protocol.errors import ChainError
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.terms import BoardParams, Terms
from gesso_relay.index.follow import Source

_TIMES = 4096


Roots = tuple[Root, Root]
"""Result and trace root, as they were committed."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What says which leaves of a trace an audit starts from: one more where the fee is `large`. `audited`: whether
    auditors or jurors do look into it, as it is held or the beacon picked it."""

    challenge: bytes
    large: bool
    audited: bool


class ChainView(Source, Protocol):
    """One network, read only."""

    @property
    def chain_id(self) -> int: ...

    async def params(self) -> BoardParams: ...

    async def drawn(self, task: TaskId, terms: Terms, node: Address, roots: Roots) -> Drawn | None:
        """What the beacon drew for this commit; None where nothing is drawn, yet or any more."""
        ...


class LiveChain:
    """A network behind a JSON-RPC endpoint."""

    def __init__(self, chain: Chain, rpc: Rpc) -> None:
        self._chain = chain
        self._rpc = rpc
        self._times: OrderedDict[int, int] = OrderedDict()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ChainSettings) -> AsyncIterator[LiveChain]:
        """Connect without a wallet. Raises Unreachable, and ConfigError for another chain than the settings name."""
        async with Chain.open(settings) as chain, Rpc(settings.rpc_url, timeout_s=settings.request_timeout_s) as rpc:
            yield cls(chain, rpc)

    @property
    def chain_id(self) -> int:
        return self._chain.chain_id

    async def params(self) -> BoardParams:
        return await self._chain.params()

    async def drawn(self, task: TaskId, terms: Terms, node: Address, roots: Roots) -> Drawn | None:
        """See `ChainView.drawn`. Raises Unreachable, ChainError."""
        record, arbiter = await self._chain.task(task), self._chain.arbiter
        if arbiter is None or record.node != node or record.state not in (TaskState.COMMITTED, TaskState.HELD):
            return None
        seed = await arbiter.listen(await drawing_round(arbiter, record))
        if seed is None:
            return None
        rules, found = await arbiter.rules(), challenge(seed, task, *roots)
        audited = record.state is TaskState.HELD
        if not audited:
            audited = picked(found, terms.audit, int(terms.fee), await arbiter.passed_of(node), rules)
        return Drawn(found, terms.fee >= rules.large_fee, audited)

    async def read(self, cursor: Cursor) -> Page | None:
        page = await self._chain.read_page(cursor)
        if page is not None and page.reorged_to is not None:
            self._times.clear()
        return page

    async def block_time(self, block: int) -> int:
        """Unix seconds. Raises ChainError for a block that has gone since its events were read."""
        known = self._times.get(block)
        if known is not None:
            return known
        header = await self._rpc.header(block)
        if header is None:
            raise ChainError(f"block {block} is gone", hint="the chain is being reorganised; it is read again")
        self._times[block] = header.timestamp
        if len(self._times) > _TIMES:
            self._times.popitem(last=False)
        return header.timestamp
