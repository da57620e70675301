"""Openings that the node keeps from one auditor alone: a relay asks for them, and is believed no more than the node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import pytest

from gesso.blobs import LocalBlobs
from gesso_node.auditing.ask import Asker, NotOpenedError, Phase
from gesso_node.auditing.assignment import Assignment
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.ids import BlobRef
from gesso_protocol.messages import OpenReply

from .traces import NODE, Sold, sell

pytestmark = pytest.mark.anyio
JUNK = [b"", b"[]", b"{}", b'{"bundle":7}', b'{"bundle":"b3:no"}', b"\xff", b"[" * 4000, b"x" * (5 << 20)]


class Shunned(Asker):
    """An asker to whom the node is silent, or says that it is too early."""

    not_yet = False

    async def _asked(self, assignment: Assignment, phase: Phase) -> tuple[OpenReply, bytes]:
        raise NotOpenedError(f"the node keeps the {phase} of {assignment.task.short}", not_yet=self.not_yet)


async def streamed(body: bytes) -> AsyncIterator[bytes]:
    yield body


@dataclass
class RelayDouble:
    """A relay that answers so, and what it was asked."""

    answer: Callable[[], bytes]
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def client(self) -> httpx.AsyncClient:
        def handle(request: httpx.Request) -> httpx.Response:
            self.asked.append(request.url.raw_path.decode())
            return httpx.Response(self.status, content=streamed(self.answer()))

        return httpx.AsyncClient(base_url="http://relay", transport=httpx.MockTransport(handle))


def whole(sold: Sold) -> bytes:
    layout = sold.own.trace.layout
    slots = tuple(layout.slots())
    leaves = list(sold.own.leaves(slots))
    tree = [sold.assignment.run.salted_leaf(leaf.slot, leaf.digest, leaf.salt) for leaf in leaves]
    return Bundle.encode(leaves, tree, layout)


def naming(ref: BlobRef) -> Callable[[], bytes]:
    return lambda: json.dumps({"bundle": str(ref)}).encode()


async def test_a_node_that_is_silent_to_one_auditor_is_asked_through_a_relay(tmp_path: Path) -> None:
    sold, blobs = await sell(tmp_path / "sold"), LocalBlobs(tmp_path / "blobs")
    ref = await blobs.put(whole(sold))
    broken, good = RelayDouble(lambda: b"", status=500), RelayDouble(naming(ref))
    asker = Shunned(NODE, blobs, None, None, (broken.client(), good.client()))
    opened = await asker.openings(sold.assignment, "outputs", 60)
    assert opened.blob == ref
    assert opened.bundle.complete
    assert good.asked == [f"/v1/tasks/{sold.assignment.task}/openings?phase=outputs"]
    assert (await asker.openings(sold.assignment, "inputs", 60)).blob == ref


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk[:20]))
async def test_a_relay_that_lies_changes_nothing(tmp_path: Path, junk: bytes) -> None:
    sold = await sell(tmp_path / "sold")
    asker = Shunned(NODE, LocalBlobs(tmp_path / "blobs"), None, None, (RelayDouble(lambda: junk).client(),))
    with pytest.raises(NotOpenedError, match="the node keeps"):
        await asker.openings(sold.assignment, "outputs", 60)


async def test_a_relay_with_another_trace_changes_nothing(tmp_path: Path) -> None:
    sold, other = await sell(tmp_path / "sold"), await sell(tmp_path / "other")
    blobs = LocalBlobs(tmp_path / "blobs")
    wrong = [await blobs.put(b"no bundle"), BlobRef.of(b"nobody has it"), await blobs.put(whole(other)[:-1])]
    for ref in wrong:
        asker = Shunned(NODE, blobs, None, None, (RelayDouble(naming(ref)).client(),))
        with pytest.raises(NotOpenedError, match="the node keeps"):
            await asker.openings(sold.assignment, "outputs", 60)


async def test_a_node_for_which_it_is_too_early_is_not_gone_round(tmp_path: Path) -> None:
    sold = await sell(tmp_path / "sold")
    relay = RelayDouble(lambda: b"")
    asker = Shunned(NODE, LocalBlobs(tmp_path / "blobs"), None, None, (relay.client(),))
    asker.not_yet = True
    with pytest.raises(NotOpenedError):
        await asker.openings(sold.assignment, "outputs", 60)
    assert relay.asked == []


async def test_a_node_that_trickles_leaves_time_for_a_relay(tmp_path: Path) -> None:
    sold, blobs = await sell(tmp_path / "sold"), LocalBlobs(tmp_path / "blobs")
    ref = await blobs.put(whole(sold))

    class Stalled(Asker):
        async def _asked(self, assignment: Assignment, phase: Phase) -> tuple[OpenReply, bytes]:
            await anyio.sleep_forever()
            raise AssertionError

    asker = Stalled(NODE, blobs, None, None, (RelayDouble(naming(ref)).client(),))
    with anyio.fail_after(60):
        assert (await asker.openings(sold.assignment, "outputs", 0.1)).blob == ref
