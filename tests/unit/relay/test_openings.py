"""Openings through a relay: asked for once, proved before they are kept, and no node's silence or lie is another's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.transport.port import PeerId
from gesso_protocol.audit.bundle import Leaf
from gesso_protocol.audit.challenge import input_slots, steps_to_check
from gesso_protocol.errors import RateLimited
from gesso_protocol.hashing import sha256
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.manifest import FileEntry, ModelManifest
from gesso_protocol.messages import BlobRequest
from gesso_protocol.trace import LeafKind, Slot
from gesso_protocol.training.audit import compared_slots, segments_to_check
from gesso_protocol.training.audit import input_slots as training_slots
from gesso_protocol.training.checkpoint import most_state_bytes
from gesso_protocol.training.openings import RunLeaf
from gesso_relay import mirror, openings, proved
from gesso_relay.chain import Drawn
from gesso_relay.index import tables
from gesso_relay.index.database import IndexAwayError
from gesso_relay.mirror import patience_s
from gesso_relay.proofs import OpenedFile, size_fault

from .fakechain import FakeChain, published
from .running import Running, running
from .traced import PICTURE, TRAINING, NodeDouble, Work, peers

pytestmark = pytest.mark.anyio
FIRST, SECOND = (Drawn(bytes([number]) * 32, large=False, audited=True) for number in (1, 2))


def drawn_slots(drawn: Drawn) -> tuple[Slot, ...]:
    """What phase `inputs` opens of a picture."""
    return input_slots(steps_to_check(drawn.challenge, PICTURE.count, PICTURE.steps, 2))


@dataclass
class Stage:
    """A relay that is connected to nodes."""

    relay: Running
    chain: FakeChain

    async def ask(self, node: NodeDouble, phase: str = "outputs", status: int = 200) -> Any:
        return await self.relay.json(f"/v1/tasks/{node.work.task}/openings?phase={phase}", status)

    async def fetched(self, ref: BlobRef) -> bytes | None:
        reply = await self.relay.client.get(f"/v1/blobs/{ref.value.hex()}")
        return reply.content if reply.status_code == 200 else None


@asynccontextmanager
async def stage(folder: Path, *nodes: NodeDouble, answering: bool = True, **settings: Any) -> AsyncIterator[Stage]:
    chain = FakeChain(draws=FIRST)
    async with peers(*nodes) as (mine, ids):
        for node, peer in zip(nodes, ids, strict=True):
            chain.mine(node.work.history(peer))
            if answering:
                node.answers.set()
        async with running(folder, chain, transport=mine, **settings) as relay:
            await relay.indexed()
            yield Stage(relay, chain)


def picture(nonce: int = 1, node: int = 14) -> NodeDouble:
    work = Work(PICTURE, nonce, Address("0x" + f"{node:02x}" * 20))
    return NodeDouble(work, {"inputs": work.opened(drawn_slots(FIRST)), "outputs": work.opened()})


def training() -> NodeDouble:
    work = Work(TRAINING)
    checks = segments_to_check(FIRST.challenge, TRAINING, TRAINING.steps)
    named = {*compared_slots(checks, work.layout.steps), Slot(LeafKind.FILE)}
    quiet = {slot: RunLeaf(slot, leaf.salt, leaf.digest) for slot, leaf in work.leaves.items()
             if leaf.blob is not None and slot not in named}  # fmt: skip
    return NodeDouble(work, {"inputs": work.opened(training_slots(checks)), "outputs": work.opened(changed=quiet)})


async def test_a_node_is_asked_once_for_each_phase_and_its_answers_are_blobs(tmp_path: Path) -> None:
    node = picture()
    async with stage(tmp_path, node) as on:
        for phase in ("outputs", "inputs", "outputs", "inputs"):
            told = await on.ask(node, phase)
            assert await on.fetched(BlobRef.parse(told["bundle"])) == node.bundles[phase]
        assert "inputs, outputs" in (await on.ask(node, "everything", 400))["message"]
    assert node.asked == {"outputs": 1, "inputs": 1}


async def test_a_refusal_is_passed_on_and_not_remembered(tmp_path: Path) -> None:
    node = picture()
    whole = node.bundles.pop("outputs")
    async with stage(tmp_path, node) as on:
        refused = await on.ask(node, status=404)
        assert (refused["code"], "not-yet" in refused["message"]) == ("blob-missing", True)
        node.bundles["outputs"] = whole
        await on.ask(node)
        assert (await on.relay.json(f"/v1/tasks/{'0x' + '77' * 32}/openings", 404))["code"] == "not-found"


def lies(node: NodeDouble) -> dict[str, bytes]:
    """What a node could teach a relay in place of an answer."""
    work, whole = node.work, node.bundles["outputs"]
    noise = Slot(LeafKind.NOISE)
    bare = Leaf.bare(noise, work.leaves[noise].digest, work.leaves[noise].salt)
    return {
        "junk": b"a whole trace",
        "another-trace": replace(node, work=Work(PICTURE, 9)).work.opened(),
        "cut-off": whole[:-1],
        "other-bytes": whole[:-1] + bytes([whole[-1] ^ 1]),
        "not-all": work.opened(drawn_slots(FIRST)),
        "no-bytes": work.opened(changed={noise: bare}),
    }


@pytest.mark.parametrize("lie", lies(picture()))
async def test_what_proves_nothing_is_neither_told_nor_kept(tmp_path: Path, lie: str) -> None:
    node = picture()
    whole, told = node.bundles["outputs"], lies(node)[lie]
    async with stage(tmp_path, node) as on:
        node.bundles["outputs"] = told
        assert "proves nothing" in (await on.ask(node, status=404))["message"]
        assert await on.fetched(BlobRef.of(told)) is None
        node.bundles["outputs"] = whole  # whoever asks next gets what the node says then
        assert (await on.ask(node))["bundle"] == str(BlobRef.of(whole))


async def test_inputs_of_steps_that_were_not_drawn_are_no_answer(tmp_path: Path) -> None:
    node = picture()
    async with stage(tmp_path, node) as on:
        node.bundles["inputs"] = node.work.opened(drawn_slots(SECOND))
        assert "does not open" in (await on.ask(node, "inputs", 404))["message"]
        on.chain.draws = None  # and where nothing is drawn, only the whole is one
        assert "does not open" in (await on.ask(node, "inputs", 404))["message"]
        node.bundles["inputs"] = node.bundles["outputs"]
        await on.ask(node, "inputs")


async def test_another_draw_is_another_question(tmp_path: Path) -> None:
    """A fork can change the round that draws: what answered the old one is no answer to the new."""
    node = picture()
    async with stage(tmp_path, node) as on:
        first = await on.ask(node, "inputs")
        on.chain.draws = SECOND
        node.bundles["inputs"] = node.work.opened(drawn_slots(SECOND))
        assert await on.ask(node, "inputs") != first
        on.chain.draws = FIRST
        assert await on.ask(node, "inputs") == first
    assert node.asked["inputs"] == 2


async def test_an_answer_is_forgotten_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proved, "LIFE_S", 0)
    node = picture()
    async with stage(tmp_path, node) as on:
        assert await on.ask(node) == await on.ask(node)
    assert node.asked["outputs"] == 2
    assert node.given[BlobRef.of(node.bundles["outputs"])] == 1


async def test_what_was_proved_is_known_when_the_relay_starts_again(tmp_path: Path) -> None:
    node, other = training(), picture(7, 41)
    async with stage(tmp_path, node, other) as on:
        told = [await on.ask(one, phase) for one in (node, other) for phase in ("inputs", "outputs")]
    for one in (node, other):
        one.bundles.clear()
        one.work.blobs.clear()
    async with stage(tmp_path, node, other) as on:
        assert [await on.ask(one, phase) for one in (node, other) for phase in ("inputs", "outputs")] == told
        on.chain.draws = SECOND  # another question
        await on.ask(node, "inputs", 404)
    async with stage(tmp_path, node, other) as on:
        on.relay.relay._cache.drop(BlobRef.parse(told[0]["bundle"]))
        await on.ask(node, "inputs", 404)
        assert await on.ask(node, "outputs") == told[1]


async def test_an_answer_that_cannot_be_written_down_is_given_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise IndexAwayError

    node = picture()
    async with stage(tmp_path, node) as on:
        assert on.relay.relay._openings is not None
        monkeypatch.setattr(on.relay.relay._openings._known, "keep", away)
        for _ in range(2):
            assert (await on.ask(node))["bundle"] == str(BlobRef.of(node.bundles["outputs"]))
    assert node.asked["outputs"] == 2


async def test_a_bounded_number_of_answers_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proved, "MAX_REMEMBERED", 2)
    nodes = [picture(turn, 40 + turn) for turn in range(3)]
    async with stage(tmp_path, *nodes) as on:
        for _ in range(2):
            for node in nodes:
                await on.ask(node)
        assert [node.asked["outputs"] for node in nodes].count(1) <= 2
        async with on.relay.relay._queries._database.read() as db:
            assert len((await db.execute(tables.openings.select())).all()) == 2


async def test_nodes_that_do_not_answer_keep_no_other_from_being_asked(tmp_path: Path) -> None:
    """Each of them has tasks in plenty, and strangers who ask for them from many addresses."""
    silent = [[picture(10 * at + turn, 30 + at) for turn in range(4)] for at in range(3)]
    crowd, honest = [node for nodes in silent for node in nodes], picture(99)
    for nodes in silent:
        for node in nodes[1:]:
            node.answers, node.asked = nodes[0].answers, nodes[0].asked
    async with stage(tmp_path, *crowd, honest, answering=False, trust_forwarded_for=True) as on:
        replies: list[tuple[int, str]] = []

        async def stranger(number: int, node: NodeDouble) -> None:
            path = f"/v1/tasks/{node.work.task}/openings"
            reply = await on.relay.client.get(path, headers={"X-Forwarded-For": f"10.0.0.{number}"}, timeout=30)
            replies.append((reply.status_code, reply.json()["code"] if reply.status_code != 200 else ""))

        async with anyio.create_task_group() as group:
            for number, node in enumerate(crowd):
                group.start_soon(stranger, number, node)
            await until(lambda: len(replies) == 6)  # two of each node are asked for, the rest is told to wait
            honest.answers.set()
            assert "bundle" in await on.ask(honest)
            for nodes in silent:
                nodes[0].answers.set()
    assert replies[:6] == [(429, "rate-limited")] * 6
    assert len(replies) == 12


@pytest.mark.parametrize("draws", [None, replace(FIRST, audited=False)], ids=["undrawn", "not-picked"])
async def test_questions_that_nothing_drew_leave_a_seat_of_their_node_to_auditors(
    tmp_path: Path, draws: Drawn | None
) -> None:
    """A stranger asks for other tasks of a slow node, again and again; two that it ordered a moment ago, say."""
    tasks = [picture(turn, 40) for turn in range(1, 4)]
    for node in tasks[1:]:
        node.answers, node.asked = tasks[0].answers, tasks[0].asked
    async with stage(tmp_path, *tasks, answering=False, trust_forwarded_for=True) as on:
        found: list[int] = []

        async def ask(node: NodeDouble, client: str) -> None:
            path = f"/v1/tasks/{node.work.task}/openings"
            reply = await on.relay.client.get(path, headers={"X-Forwarded-For": client}, timeout=30)
            found.append(reply.status_code)

        on.chain.draws = draws
        async with anyio.create_task_group() as group:
            for number, node in enumerate(tasks[:2]):
                group.start_soon(ask, node, f"10.0.0.{number}")
            await until(lambda: found == [429] and tasks[0].asked["outputs"] == 1)
            on.chain.draws = FIRST
            group.start_soon(ask, tasks[2], "10.1.1.1")
            await until(lambda: tasks[0].asked["outputs"] == 2)
            tasks[0].answers.set()
    assert (len(found), found.count(429), 200 in found) == (3, 1, True)  # the node has the last of the tasks only


async def test_a_client_has_its_own_seats_and_who_asks_the_same_waits_for_one_answer(tmp_path: Path) -> None:
    nodes = [picture(at, 40 + at) for at in range(1, 4)]
    async with stage(tmp_path, *nodes, answering=False, trust_forwarded_for=True) as on:
        found: list[int] = []

        async def ask(node: NodeDouble, client: str) -> None:
            path = f"/v1/tasks/{node.work.task}/openings"
            reply = await on.relay.client.get(path, headers={"X-Forwarded-For": client}, timeout=30)
            found.append(reply.status_code)

        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(ask, node, "10.1.1.1")
            await until(lambda: found == [429] and any(node.asked["outputs"] for node in nodes))
            asked = next(node for node in nodes if node.asked["outputs"])
            for number in range(3):
                group.start_soon(ask, asked, f"10.1.2.{number}")
            await until(lambda: on.relay.relay._openings._clients.taken == 5)  # type: ignore[union-attr]
            for node in nodes:
                node.answers.set()
    assert found == [429, *[200] * 5]
    assert asked.asked["outputs"] == 1


async def test_who_waits_for_a_slow_node_keeps_nobody_from_asking_another(tmp_path: Path) -> None:
    """From many addresses the same question is asked of one node that does not answer."""
    slow, honest = picture(1, 40), picture(2, 41)
    honest.answers.set()
    async with stage(tmp_path, slow, honest, answering=False, trust_forwarded_for=True) as on:
        found: list[int] = []

        async def ask(client: str) -> None:
            path = f"/v1/tasks/{slow.work.task}/openings"
            reply = await on.relay.client.get(path, headers={"X-Forwarded-For": client}, timeout=30)
            found.append(reply.status_code)

        honest.answers.set()
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(ask, f"10.1.2.{number}")
            await until(lambda: len(found) == 40 - 1 - openings.MAX_WAITING_A_NODE)
            assert set(found) == {429}
            assert "bundle" in await on.ask(honest)
            slow.answers.set()
    assert found.count(200) == 1 + openings.MAX_WAITING_A_NODE
    assert slow.asked["outputs"] == 1


async def test_what_is_larger_than_it_can_be_is_not_fetched(tmp_path: Path) -> None:
    node = picture()
    bundle = BlobRef.of(node.bundles["outputs"])
    node.claims[bundle] = 1 << 33
    async with stage(tmp_path, node) as on:
        assert (await on.ask(node, status=413))["code"] == "blob-too-large"
        assert node.given[bundle] == 0
        node.claims[bundle] = 20 << 20  # it could have so many, but there are fewer
        assert (await on.ask(node, status=422))["code"] == "blob-corrupt"
        node.claims.clear()
        await on.ask(node)


async def test_openings_bring_no_more_at_once_than_their_share_of_the_cache(tmp_path: Path) -> None:
    node = picture()
    node.claims[BlobRef.of(node.bundles["outputs"])] = 6 << 20
    async with stage(tmp_path, node, blob_quota_bytes=20 << 20, max_blob_bytes=10 << 20) as on:
        assert (await on.ask(node, status=429))["code"] == "rate-limited"
        assert not node.given[BlobRef.of(node.bundles["outputs"])]
        node.claims.clear()
        await on.ask(node)


async def test_files_that_fill_their_room_keep_no_bundle_out_and_no_node_fills_it_alone(tmp_path: Path) -> None:
    node, other = picture(1, 40), training()
    async with stage(tmp_path, node, other, blob_quota_bytes=16 << 20, max_blob_bytes=8 << 20) as on:
        mirror = on.relay.relay._mirror
        assert mirror is not None
        with ExitStack() as held:
            for hostile in range(4):
                held.enter_context(mirror._room.hold(f"node {hostile}", 1 << 20))
                with pytest.raises(RateLimited):  # it has its quarter
                    held.enter_context(mirror._room.hold(f"node {hostile}", 1))
            with pytest.raises(RateLimited):
                held.enter_context(mirror._room.hold("another node", 1))
            assert "bundle" in await on.ask(node)
        assert "bundle" in await on.ask(other)
        named = other.work.leaves[Slot(LeafKind.FILE)].blob
        assert named is not None
        assert await on.fetched(named) is not None
        assert not mirror._room._taken


def test_large_files_come_faster_than_small_ones_or_not_at_all() -> None:
    assert patience_s(0) < patience_s(1 << 20) == 34
    assert patience_s(2 << 30) < 2300  # two gigabytes at a quarter of a megabyte a second would take two hours


def test_files_have_the_sizes_that_a_run_can_have() -> None:
    def files(adapter: int, *states: int) -> list[OpenedFile]:
        sized = [*((size, LeafKind.CHECKPOINT) for size in states), (adapter, LeafKind.FILE)]
        return [OpenedFile(BlobRef(bytes(32)), size, b"", kind) for size, kind in sized]

    gigabyte = 1 << 30
    assert not size_fault(files(gigabyte // 3, gigabyte, gigabyte + 100), gigabyte + 1)
    assert not size_fault([], gigabyte)
    assert "larger" in size_fault(files(0, gigabyte), gigabyte // 2)  # a base of its size has no such LoRAs
    assert "larger" in size_fault(files(0, 100, gigabyte, 100), gigabyte)
    assert "adapter" in size_fault(files(gigabyte, 100, 100), gigabyte)


@pytest.mark.parametrize("known", [True, False])
async def test_files_that_are_too_large_for_a_training_s_base_are_not_fetched(tmp_path: Path, *, known: bool) -> None:
    """The base's own size is known from the manifest that its listing names, where somebody has given us that."""
    node = training()
    weights = FileEntry(path="unet.safetensors", size=1 << 20, blob=BlobRef.of(b"weights"))
    base = ModelManifest(name="gesso-tiny", version=1, kind="base", licence="MIT", files=(weights,))
    states = {slot: leaf for slot, leaf in node.work.leaves.items() if slot.kind is LeafKind.CHECKPOINT}
    huge = most_state_bytes(base.size) + (1 << 20)
    told = {slot: replace(leaf, size=huge) for slot, leaf in states.items()}
    node.bundles["outputs"] = node.work.opened(changed=told)
    async with stage(tmp_path, node, blob_quota_bytes=512 << 30) as on:
        listed = published(1, "gesso-tiny", 1).model_copy(update={"manifest": base.ref})
        on.chain.mine([listed])
        await on.relay.indexed()
        if known:
            await on.relay.client.put(f"/v1/blobs/{base.ref.value.hex()}", content=base.encode())
        await on.ask(node)
        assert sum(node.given[leaf.blob] for leaf in states.values()) == (0 if known else 1)


async def test_a_node_that_trickles_files_loses_its_room_at_once_and_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE_S", 0.2)
    node = training()
    gives, asked = node.gives, []

    async def trickle(peer: PeerId, data: bytes) -> bytes:
        wanted = BlobRequest.decode(data)
        if wanted.blob in {leaf.blob for leaf in node.work.leaves.values()} and wanted.length:
            asked.append(wanted.blob)
            await anyio.sleep_forever()
        return await gives(peer, data)

    monkeypatch.setattr(node, "gives", trickle)
    async with stage(tmp_path, node) as on:
        kept = on.relay.relay._mirror
        assert kept is not None
        await on.ask(node)
        await until(lambda: not kept._room._taken and not kept._visits)
        await on.ask(node, "inputs")
        assert len(asked) == 1


async def test_files_that_openings_of_a_training_name_are_kept_for_whom_the_node_does_not_serve(tmp_path: Path) -> None:
    node = training()
    async with stage(tmp_path, node) as on:
        for phase in ("inputs", "outputs"):
            bundle = BlobRef.parse((await on.ask(node, phase))["bundle"])
            assert await on.fetched(bundle) == node.bundles[phase]
        checks = segments_to_check(FIRST.challenge, TRAINING, TRAINING.steps)
        named = (*compared_slots(checks, node.work.layout.steps), Slot(LeafKind.FILE))
        for slot in node.work.layout.slots():
            blob = node.work.leaves[slot].blob
            if blob is not None:
                assert (await on.fetched(blob) is not None) == (slot in named)
        node.work.blobs.clear()  # its disk is lost, and its answers with it
        node.bundles.clear()
        for phase in ("inputs", "outputs"):
            await on.ask(node, phase)
    assert node.asked == {"inputs": 1, "outputs": 1}


async def test_no_task_takes_more_of_the_cache_than_its_share(tmp_path: Path) -> None:
    node = training()
    node.bundles["outputs"] = renamed(node, b"an adapter of two megabytes", 2 << 20)
    async with stage(tmp_path, node, blob_quota_bytes=16 << 20, max_blob_bytes=8 << 20) as on:
        assert (await on.ask(node))["bundle"] == str(BlobRef.of(node.bundles["outputs"]))
        assert [leaf for leaf in node.work.leaves.values() if leaf.blob is not None and node.given[leaf.blob]] == []


def renamed(node: NodeDouble, data: bytes, size: int | None = None) -> bytes:
    """Openings whose adapter is said to be another blob: no root binds that."""
    slot = Slot(LeafKind.FILE)
    leaf = node.work.leaves[slot]
    told = RunLeaf.file(slot, leaf.salt, leaf.digest, node.work.keep(data), len(data) if size is None else size)
    return node.work.opened(changed={slot: told})


@pytest.mark.parametrize("size", [None, 1 << 40], ids=["another-file", "a-huge-file"])
async def test_a_file_that_is_not_what_was_committed_is_not_remembered(tmp_path: Path, size: int | None) -> None:
    node, junk = training(), b"another adapter"
    honest = node.bundles["outputs"]
    node.bundles["outputs"] = renamed(node, junk, size if size is None else 8 << 30)
    async with stage(tmp_path, node) as on:
        await on.ask(node)
        assert await on.fetched(BlobRef.of(junk)) is None
        node.bundles["outputs"] = honest
        assert (await on.ask(node))["bundle"] == str(BlobRef.of(honest))
    assert sha256(junk) != node.work.leaves[Slot(LeafKind.FILE)].digest


async def until(done: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not done():
            await anyio.lowlevel.checkpoint()
