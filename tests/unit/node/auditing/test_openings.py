"""What a node hands out to anybody who asks, and what asking costs it: once for all, and only what audits look into."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso.transport.binding import peer_id_bytes
from gesso.transport.exchange import Reply, Serving, Status, answer
from gesso.transport.keys import NodeKey
from gesso.transport.port import PeerId
from gesso_node.state.journal import Entry
from gesso_node.traces import at_hand
from gesso_node.traces.handed import Handed, handed
from gesso_node.traces.kept import Traces
from gesso_node.traces.opened import OwnTraces
from gesso_node.traces.opened_run import OwnRun
from gesso_node.traces.openings import ASKS, MAX_FILES_ASKED, Openings
from gesso_node.traces.rights import Rights
from gesso_node.traces.turns import (
    MAX_ASKED,
    MAX_BUILDING,
    MAX_FOR_STRANGERS,
    MAX_LOOKED_UP,
    MAX_STRANGERS,
    MAX_STRANGERS_A_TASK,
    Turns,
)
from gesso_protocol import merkle
from gesso_protocol.audit.challenge import challenge
from gesso_protocol.errors import RateLimited
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import BlobRef, Root, TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.messages import OpenReply, OpenRequest
from gesso_protocol.trace import LeafKind, Slot, trace_root
from gesso_protocol.training.openings import RunOpenings

from .courts import ArbiterDouble, ChainDouble
from .runs import TASK, Run, train
from .traces import NODE

pytestmark = pytest.mark.anyio
SEED = keccak256(b"seed")
RESULT = Root(b"\x01" * 32)


def peer(number: int) -> PeerId:
    return NodeKey(keccak256(b"%d" % number)).peer_id


@dataclass
class Traced(OwnTraces):
    """One training under as many task ids as are asked for. `reads` counts; reading waits for `gate`."""

    run: Run
    entry_: Entry
    reads: Counter[TaskId] = field(default_factory=Counter)
    gate: anyio.Event = field(default_factory=anyio.Event)

    async def entry(self, task: TaskId) -> Entry | None:
        return replace(self.entry_, task=task)

    async def read_run(self, entry: Entry) -> OwnRun | None:
        self.reads[entry.task] += 1
        await self.gate.wait()
        return replace(self.run.own, entry=entry)


@dataclass
class Stand:
    """A node that opens. `drawn` is what the beacon says of the task."""

    openings: Openings
    own: Traced
    chain: ChainDouble
    blobs: LocalBlobs
    folder: Path

    @property
    def drawn(self) -> bytes:
        return challenge(SEED, TASK, RESULT, trace_root(self.own.run.own.tree))

    def at(self, slots: Iterable[Slot]) -> tuple[int, ...]:
        return tuple(self.own.run.own.trace.layout.position(slot) for slot in slots)

    async def ask(self, asker: int = 0, phase: Any = "outputs", task: TaskId = TASK, **more: Any) -> OpenReply:
        question = OpenRequest(task=task, phase=phase, **more)
        return OpenReply.decode(await self.openings.open(peer(asker), question.encode()))

    def stored(self) -> set[BlobRef]:
        return {ref for ref, _ in self.blobs.inventory()}


@asynccontextmanager
async def stand(folder: Path, **trained: Any) -> AsyncIterator[Stand]:
    run = await train(folder / "run", steps=8, checkpoint_every=1, **trained)
    blobs = LocalBlobs(folder / "node")
    filing = run.assignment.filing
    entry = Entry(TASK, filing.terms, 0, 0, run.assignment.spec, result_root=RESULT, commit_sent_at=1,
                  trace_root=trace_root(run.own.tree))  # fmt: skip
    own = Traced(run, entry)
    own.gate.set()
    chain = ChainDouble(NODE, arbiter=ArbiterDouble(seeds={11: SEED}))
    rights = Rights(chain.as_chain(), NODE)
    opens = Openings(cast(OwnTraces, own), rights, Handed(blobs, blobs))
    yield Stand(opens, own, chain, blobs, run.own.trace.folder)


async def test_only_files_that_an_audit_looks_into_are_made_blobs(tmp_path: Path) -> None:
    async with stand(tmp_path) as node:
        run = node.own.run.own
        inputs, others = run.inputs(node.drawn), []
        assert (await node.ask(phase="inputs", positions=node.at(inputs))).status == "ok"
        looked = {slot for slot in inputs if run.trace.path(slot) is not None}
        for slot in run.trace.layout.slots():
            if slot.kind is LeafKind.CHECKPOINT and slot not in inputs:
                others.append(slot)
                assert (await node.ask(phase="inputs", positions=node.at([slot]))).status == "refused"
        assert len(node.stored()) == len(looked)
        node.chain.now_ = 1000  # nobody can hold it any more: everything is opened, to whoever checks for itself
        assert (await node.ask()).status == "ok"
        before = node.stored()
        unasked = [slot for slot in others if slot not in run.looked_into(None)]
        assert unasked
        for slot in unasked:
            assert (await node.ask(positions=node.at([slot]))).status == "refused"
        many = node.at(slot for slot in run.trace.layout.slots() if slot.kind is LeafKind.LOSSES)
        assert (await node.ask(positions=many[: MAX_FILES_ASKED + 1])).status == "refused"
        assert node.stored() == before
        single = await node.ask(positions=many[:1])
        assert single.openings[0].blob in node.stored()


async def test_a_bundle_is_put_together_once_for_all_who_ask(tmp_path: Path) -> None:
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        node.own.gate = anyio.Event()
        for auditor in range(MAX_STRANGERS_A_TASK, 12):
            node.chain.peers[peer_id_bytes(peer(auditor))] = NODE
        replies: list[OpenReply] = []

        async def ask(asker: int) -> None:
            replies.append(await node.ask(asker))

        async with anyio.create_task_group() as group:
            for asker in range(12):
                group.start_soon(ask, asker)
            await until(lambda: node.own.reads[TASK] == 1)
            node.own.gate.set()
        replies.append(await node.ask(99))
    assert {reply.status for reply in replies} == {"ok"}
    assert len({reply.bundle for reply in replies}) == 1
    assert node.own.reads[TASK] == 1


async def test_single_leaves_are_opened_once_for_all_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free names ask for one leaf after the other: each must cost a look-up, not the whole trace."""
    hashed = Counter[int]()
    real = merkle.levels
    monkeypatch.setattr(merkle, "levels", lambda leaves: hashed.update([len(leaves)]) or real(leaves))
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        hashed.clear()
        kinds = (LeafKind.LOSSES, LeafKind.MANIFEST, LeafKind.FILE)
        slots = [slot for slot in node.own.run.own.trace.layout.slots() if slot.kind in kinds]
        first = [await node.ask(asker, positions=node.at([slot])) for asker, slot in enumerate(slots)]
        assert {reply.status for reply in first} == {"ok"}
        again = [await node.ask(50 + asker, positions=node.at([slot])) for asker, slot in enumerate(slots)]
        assert again == first
        assert (node.own.reads[TASK], hashed.total()) == (1, 1)
        for reply, slot in zip(first, slots, strict=True):
            (one,) = reply.openings
            leaf = node.own.run.own.tree[one.position]
            proof = [bytes.fromhex(step) for step in one.proof]
            assert reply.trace_root is not None
            assert merkle.verify(reply.trace_root, leaf, *node.at([slot]), proof)
        blob = first[0].openings[0].blob
        assert blob is not None
        node.blobs.remove(blob)  # it left with the trace's other blobs: it is made anew
        assert await node.ask(positions=node.at(slots[:1])) == first[0]
        assert blob in node.stored()


async def test_a_trace_at_hand_is_let_go_when_the_disk_has_another(tmp_path: Path) -> None:
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        losses = [slot for slot in node.own.run.own.trace.layout.slots() if slot.kind is LeafKind.LOSSES]
        assert (await node.ask(positions=node.at(losses[:1]))).status == "ok"
        path = node.own.run.own.trace.path(losses[1])
        assert path is not None
        path.write_bytes(b"\x00" * 8)
        assert (await node.ask(positions=node.at(losses[1:2]))).status == "busy"
        assert (await node.ask(positions=node.at(losses[2:3]))).status == "ok"
        assert node.own.reads[TASK] == 2


async def test_traces_at_hand_are_bounded_by_their_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        monkeypatch.setattr(at_hand, "MAX_LEAVES", 2 * len(node.own.run.own.tree))
        losses = node.at([Slot(LeafKind.LOSSES)])
        tasks = [TaskId(bytes([number]) * 32) for number in range(1, 5)]
        for task in tasks:
            assert (await node.ask(task=task, positions=losses)).status == "ok"
        assert len(node.openings._at_hand._read) == 2


async def test_strangers_keep_no_auditor_from_being_answered(tmp_path: Path) -> None:
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        node.own.gate = anyio.Event()
        tasks = [TaskId(bytes([number]) * 32) for number in range(1, 9)]
        for auditor in (100, 101, 102):
            node.chain.peers[peer_id_bytes(peer(auditor))] = NODE
        found: dict[int, str] = {}

        async def ask(asker: int, task: TaskId) -> None:
            found[asker] = (await node.ask(asker, task=task)).status

        async with anyio.create_task_group() as group:
            for asker, task in enumerate(tasks[:5]):
                group.start_soon(ask, asker, task)
            await until(lambda: len(found) == 5 - MAX_FOR_STRANGERS)
            assert set(found.values()) == {"busy"}
            assert (await node.ask(next(asker for asker in range(5) if asker not in found))).status == "busy"
            for auditor, task in zip((100, 101, 102), tasks[5:], strict=True):
                group.start_soon(ask, auditor, task)
            await until(lambda: len(node.own.reads) == MAX_BUILDING and len(found) == 4)
            assert [found.get(auditor) for auditor in (100, 101, 102)].count("busy") == 1
            node.own.gate.set()
    assert sorted(found.values()) == ["busy"] * 4 + ["ok"] * 4


async def test_strangers_hold_no_place_of_the_protocol_that_an_auditor_needs(tmp_path: Path) -> None:
    """The transport counts places before the node knows who asks: those who wait must leave some."""
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        node.own.gate = anyio.Event()
        serving = Serving(node.openings.open, OpenRequest.MAX_BYTES, MAX_ASKED, ASKS)
        auditor = 999
        node.chain.peers[peer_id_bytes(peer(auditor))] = NODE
        tasks = [TaskId(bytes([number]) * 32) for number in range(1, 2 * MAX_ASKED)]
        heard: list[Reply] = []

        async def ask(asker: int, task: TaskId) -> None:
            reply = serving.admit(peer(asker))
            if reply is None:
                question = OpenRequest(task=task, phase="outputs", bundle=True)
                try:
                    reply = await answer(node.openings.open, peer(asker), question.encode())
                finally:
                    serving.release()
            heard.append(reply)

        async with anyio.create_task_group() as group:
            for asker in range(2 * MAX_ASKED):  # all for one task, which is read and never ready
                group.start_soon(ask, asker, tasks[0])
            await anyio.wait_all_tasks_blocked()
            assert serving.running == MAX_STRANGERS_A_TASK
            for asker, task in enumerate(tasks[1:], 3 * MAX_ASKED):  # and as many for others
                group.start_soon(ask, asker, task)
            await anyio.wait_all_tasks_blocked()
            assert serving.running <= MAX_STRANGERS
            heard.clear()
            group.start_soon(ask, auditor, tasks[0])
            await anyio.wait_all_tasks_blocked()
            assert not heard  # it waits for its turn and was not sent away
            node.own.gate.set()
        assert [reply.status for reply in heard] == [Status.OK] * len(heard)
        assert "ok" in {OpenReply.decode(reply.body).status for reply in heard}


async def test_strangers_are_sent_away_before_the_chain_is_asked_about_too_many() -> None:
    looked, go = Counter[PeerId](), anyio.Event()

    async def registered(who: PeerId) -> bool:
        looked[who] += 1
        await go.wait()
        return False

    turns, refused = Turns(registered, lambda who: True if who == peer(999) else None), Counter[bool]()

    async def ask(asker: int) -> None:
        try:
            async with turns.question(peer(asker)):
                refused[False] += 1
        except RateLimited:
            refused[True] += 1

    async with anyio.create_task_group() as group:
        for asker in range(MAX_ASKED):
            group.start_soon(ask, asker)
        await anyio.wait_all_tasks_blocked()
        assert (len(looked), refused) == (MAX_LOOKED_UP, {True: MAX_ASKED - MAX_LOOKED_UP})
        await ask(999)
        assert refused[False] == 1
        go.set()


async def test_strangers_take_half_of_the_places_at_most() -> None:
    async def registered(who: PeerId) -> bool:
        raise AssertionError("what is remembered is not asked again")

    turns = Turns(registered, lambda who: who == peer(999))
    async with AsyncExitStack() as held:
        for asker in range(MAX_STRANGERS):
            await held.enter_async_context(turns.question(peer(asker)))
        with pytest.raises(RateLimited):
            await held.enter_async_context(turns.question(peer(MAX_STRANGERS)))
        await held.enter_async_context(turns.question(peer(999)))


async def test_blobs_of_openings_count_as_the_trace_and_leave_with_it(tmp_path: Path) -> None:
    async with stand(tmp_path) as node:
        node.chain.state = TaskState.SETTLED
        folder = node.folder
        kept = Traces(folder.parent, budget_bytes=1 << 40, keep_s=60, drop=node.blobs.remove)
        before = await kept.prune()
        ours = await node.blobs.put(folder / "adapter" / "adapter.safetensors")  # the result, which is kept
        reply = await node.ask()
        assert reply.bundle is not None
        data, drawn = await node.blobs.get(reply.bundle, max_bytes=1 << 20), node.own.run.assignment
        openings = RunOpenings.decode(data, drawn.run, drawn.spec, reply.trace_root)
        files = {leaf.blob for leaf in openings.leaves.values() if leaf.blob is not None}
        assert files | {reply.bundle} == node.stored()
        assert ours in files
        grown = await kept.prune() - before
        assert grown - (await node.blobs.size(reply.bundle)) < 1000  # checkpoints share their bytes with the folder
        with (folder / "handed").open("a") as file:
            file.write("b3:no\nnonsense\n\x00\n")
        assert set(handed(folder)) == (files | {reply.bundle}) - {ours}
        await anyio.to_thread.run_sync(kept._remove, folder)
        assert node.stored() == {ours}


async def test_an_opened_checkpoint_takes_no_second_room_on_the_disk(tmp_path: Path) -> None:
    blobs, path = LocalBlobs(tmp_path / "blobs"), tmp_path / "checkpoint"
    path.write_bytes(b"state" * 1000)
    ref = await Handed(blobs, blobs).file(tmp_path, path)
    assert blobs.path(ref).samefile(path)
    path.unlink()
    assert await blobs.get(ref, max_bytes=5000) == b"state" * 1000


async def until(done: Any) -> None:
    with anyio.fail_after(60):
        while not done():
            await anyio.lowlevel.checkpoint()
