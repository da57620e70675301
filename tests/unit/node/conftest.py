"""A board, stores and nodes for the suites of the node, all in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso_node.executors.fake import FakeExecutor, FakeFaults
from gesso_node.executors.port import Executor
from gesso_node.peer import Node
from gesso_node.settings import NodeSettings
from gesso_protocol.spec import Spec, TextToImage, spec_bytes
from gesso_protocol.terms import Terms

from .doubles import BoardDouble, ChainDouble, node_address

SPEC = TextToImage(prompt="a red circle", model="sample@1", width=64, height=64, steps=4, seed=7)


@pytest.fixture
def board() -> BoardDouble:
    made = BoardDouble()
    made.add_listing()
    return made


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


class World:
    """Nodes on one board, and the clock's hand."""

    def __init__(self, board: BoardDouble, blobs: LocalBlobs, folder: Path, stack: AsyncExitStack) -> None:
        self.board = board
        self.blobs = blobs
        self.folder = folder
        self.nodes: list[Node] = []
        self.chains: list[ChainDouble] = []
        self._stack = stack

    async def add_node(
        self, *, weight: int = 1, faults: FakeFaults | None = None, runner: Executor | None = None, **settings: Any
    ) -> Node:
        number = len(self.nodes) + 1
        chain = ChainDouble(self.board, node_address(number))
        self.board.register(chain.address, weight)
        node = await self.open(chain, number, faults=faults, runner=runner, **settings)
        self.nodes.append(node)
        self.chains.append(chain)
        return node

    async def open(
        self, chain: ChainDouble, number: int, *, faults: FakeFaults | None = None, stack: AsyncExitStack | None = None,
        runner: Executor | None = None, **settings: Any,
    ) -> Node:  # fmt: skip
        made = NodeSettings.verified(
            {
                "data_dir": self.folder / f"node-{number}",
                "transport": {"enabled": False},
                "resend_after_s": 5,
                **settings,
            }
        )
        opened = Node.open(made, chain=chain.as_chain(), blobs=self.blobs, executor=runner or FakeExecutor(faults))
        return await (stack or self._stack).enter_async_context(opened)

    async def submit(self, spec: Spec = SPEC, **terms: Any) -> Terms:
        await self.blobs.put(spec_bytes(spec))
        return self.board.submit(spec, **terms)

    async def turn(self, *, seconds: int = 1) -> None:
        """One pass of every node, to its end, and one block."""
        for node in self.nodes:
            await node.once()
            await node.quiesce()
        self.board.mine(seconds)

    async def until(self, done: Callable[[], bool], *, turns: int = 60) -> None:
        with anyio.fail_after(60):
            for _ in range(turns):
                if done():
                    return
                await self.turn()
        raise AssertionError(f"not reached in {turns} turns; attempts so far: {self.board.attempts}")


@pytest.fixture
async def world(board: BoardDouble, blobs: LocalBlobs, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(board, blobs, tmp_path, stack)


Until = Callable[[Callable[[], bool]], Awaitable[None]]
