"""What others see of a node: progress, gossip, openings, status API, doctor, the program itself."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest

from gesso.chain import NodeState
from gesso.chain.beacon import BeaconClock
from gesso.stream import _from_progress
from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso.transport.port import PeerId, Verdict
from gesso_node.executors.fake import FakeExecutor
from gesso_node.executors.lora.port import TrainingStep
from gesso_node.executors.port import StepDone
from gesso_node.network.progress import QUEUE, ProgressSender
from gesso_node.operator.api import open_api
from gesso_node.operator.doctor import _is_public
from gesso_node.peer import Node
from gesso_node.settings import NodeSettings
from gesso_node.tasks.discover import Announcements
from gesso_protocol import events, messages
from gesso_protocol.errors import ChainReverted
from gesso_protocol.hashing import sha256
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskState
from gesso_protocol.money import Wei
from gesso_protocol.terms import task_id
from gesso_protocol.trace import Layout, Run, opened

from .conftest import SPEC, World
from .doubles import BOARD, CHAIN_ID, ChainDouble, node_address

pytestmark = pytest.mark.anyio
TASK = TaskId(b"\x05" * 32)
ME = node_address(1)


def relay(received: list[messages.ProgressEvent], status: int = 202) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        received.append(messages.ProgressEvent.decode(request.content))
        return httpx.Response(status)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://relay")


async def test_progress_goes_to_the_requester_s_peer_and_to_a_relay_when_that_is_gone() -> None:
    hub, at_relay, at_peer = MemoryHub(), [], []  # type: ignore[var-annotated]
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as theirs, relay(at_relay) as client:

        async def take(_: PeerId, data: bytes) -> bytes:
            at_peer.append(messages.ProgressEvent.decode(data))
            return b""

        theirs.serve(messages.PROTOCOL_PROGRESS, take)
        sender = ProgressSender(ME, mine, [client])
        sender.remember(TASK, str(theirs.peer_id), theirs.addresses)
        sender.step(TASK, StepDone(0, 1, 4, None))
        await sender.flush(5)
        hub.sever(mine.peer_id, theirs.peer_id)
        sender.stage(TASK, "committed", "b3:" + "0" * 64)
        await sender.flush(10)
        await sender.release(TASK)
    assert [event.stage for event in at_peer] == ["executing"]
    assert [event.stage for event in at_relay] == ["committed"]
    assert at_relay[0].result is not None
    assert at_relay[0].sequence > at_peer[0].sequence


async def test_a_pause_of_a_training_is_told_to_its_requester() -> None:
    received: list[messages.ProgressEvent] = []
    async with relay(received) as client:
        sender = ProgressSender(ME, None, [client])
        sender.pause(TASK, 7, 40)
        sender.training(TASK, TrainingStep(8, 40, 0.5, resumed=True))
        await sender.flush(10)
    told = [_from_progress(one) for one in received]
    place = {"task": TASK, "total": 40, "node": ME}
    assert [event and event.model_copy(update={"at_ms": 0}) for event in told] == [
        events.TrainingPaused(at_ms=0, index=7, **place),
        events.TrainingPaused(at_ms=0, index=8, over=True, **place),
        events.TrainingStep(at_ms=0, index=8, loss=0.5, **place),
    ]


async def test_a_requester_that_goes_while_its_task_ends_is_no_crash() -> None:
    hub, at_relay = MemoryHub(), []  # type: ignore[var-annotated]
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as theirs, relay(at_relay) as client:
        sender = ProgressSender(ME, mine, [client])

        async def too_late(_: PeerId, __: bytes) -> bytes:
            await sender.release(TASK)
            return bytes(2048)

        theirs.serve(messages.PROTOCOL_PROGRESS, too_late)
        sender.remember(TASK, str(theirs.peer_id), theirs.addresses)
        sender.step(TASK, StepDone(0, 1, 4, None))
        await sender.flush(10)
    assert [event.stage for event in at_relay] == ["executing"]


async def test_a_slow_requester_loses_steps_but_never_the_result() -> None:
    received: list[messages.ProgressEvent] = []
    async with relay(received) as client:
        sender = ProgressSender(ME, None, [client])
        sender.stage(TASK, "committed", "b3:" + "0" * 64)
        for step in range(1, 3 * QUEUE):
            sender.step(TASK, StepDone(0, step, 3 * QUEUE, None))
        await sender.flush(30)
    assert len(received) <= QUEUE
    assert received[0].stage == "committed"
    assert sender.dropped > 0


async def test_relays_that_fail_do_not_stop_anything() -> None:
    received: list[messages.ProgressEvent] = []

    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(away), base_url="http://gone") as gone,
        relay(received, 500) as broken,
        relay(received) as good,
    ):
        sender = ProgressSender(ME, None, [gone, broken, good])
        sender.step(TASK, StepDone(0, 1, 2, b"not a picture"))
        await sender.flush(5)
    assert len(received) == 2
    assert received[0].preview is None


class Ears:
    def __init__(self) -> None:
        self.tasks: list[TaskId] = []

    def hear(self, task: TaskId, terms: Any, now: int) -> None:
        self.tasks.append(task)


async def test_announcements_are_heard_once_and_judged_by_form_and_board(world: World) -> None:
    terms = await world.submit()
    announcement = messages.TaskAnnouncement.of(CHAIN_ID, BOARD, terms)
    ears, hub = Ears(), MemoryHub()

    async def now() -> int:
        return 5

    async with MemoryTransport(hub) as transport:
        heard = Announcements(
            transport, ears, ProgressSender(ME, None, []), chain_id=CHAIN_ID, board=BOARD,
            chain_now=now, wake=lambda: None,
        )  # type: ignore[arg-type]  # fmt: skip
        peer = PeerId("x")
        assert heard.validate(peer, announcement.encode()) is Verdict.ACCEPT
        assert heard.validate(peer, b"junk") is Verdict.REJECT
        elsewhere = messages.TaskAnnouncement.of(CHAIN_ID + 1, BOARD, terms)
        assert heard.validate(peer, elsewhere.encode()) is Verdict.IGNORE
        for data in (announcement.encode(), announcement.encode(), b"junk"):
            await heard.hear(data)
    assert ears.tasks == [announcement.task]


async def test_an_auditor_gets_openings_that_verify_against_the_chain(world: World) -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub) as mine, MemoryTransport(hub) as auditor:
        chain = ChainDouble(world.board, ME)
        world.board.register(ME, 1)
        settings = NodeSettings.verified({"data_dir": world.folder / "audited"})
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(
                Node.open(settings, chain=chain.as_chain(), transport=mine, blobs=world.blobs, executor=FakeExecutor())
            )
            world.nodes.append(node)
            terms = await world.submit()
            task = task_id(CHAIN_ID, BOARD, terms)
            await world.until(lambda: world.board.state(terms) is TaskState.COMMITTED)
            peer = await auditor.connect(mine.addresses[0])
            layout = Layout.of(SPEC)
            asked = messages.OpenRequest(task=task, phase="outputs", positions=(0, 4, layout.count - 1))
            raw = await auditor.request(peer, messages.PROTOCOL_OPEN, asked.encode())
            reply = messages.OpenReply.decode(raw)
            run = Run(CHAIN_ID, BOARD, task, ME)
            for opening in reply.openings:
                digest, salt = bytes.fromhex(opening.digest), bytes.fromhex(opening.salt)
                proof = tuple(bytes.fromhex(step) for step in opening.proof)
                assert opened(reply.trace_root, run, layout, opening.position, digest, salt, proof)
            bundles = [
                messages.OpenReply.decode(await auditor.request(peer, messages.PROTOCOL_OPEN, question.encode())).bundle
                for question in (asked.model_copy(update={"bundle": True}), asked.model_copy(update={"positions": ()}))
            ]
            assert bundles[0] == bundles[1]  # not one for every subset that somebody asks for
            latent = reply.openings[1]
            assert latent.blob is not None
            header, body = messages.decode_blob_reply(
                await auditor.request(
                    peer, messages.PROTOCOL_BLOB, messages.BlobRequest(blob=latent.blob).encode(), max_reply=2 * 2**20
                )
            )
            assert header.status == "ok"
            assert len(body) == 4 * 4 * 8 * 8
            assert sha256(body) != bytes(32)
            world.nodes.clear()


async def test_the_status_api_shows_the_read_model_to_this_machine_only(world: World) -> None:
    node = await world.add_node()
    await world.turn()
    async with (
        open_api(0, node.status, node.examine, node.metrics, node.audits) as url,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        status = (await client.get(f"{url}/v1/status")).json()
        assert status["wallet"] == str(node.address)
        assert (await client.get(f"{url}/v1/health")).status_code == 200
        assert "gesso_node_chain_block" in (await client.get(f"{url}/metrics")).text
        assert "Doing" in (await client.get(url)).text
        assert {f["check"] for f in (await client.get(f"{url}/v1/doctor")).json()["findings"]} >= {"disk", "chain"}
        strange = await client.get(f"{url}/v1/status", headers={"Host": "evil.example"})
        assert strange.status_code == 403


async def test_every_doctor_check_can_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await world.add_node(models={"prefetch": ["nobody@1"]})
    chain = world.chains[0]
    chain.native, chain.registered = Wei(0), NodeState.NONE
    doctor = node.doctor
    monkeypatch.setattr(doctor, "_clock", lambda: world.board.now - 10_000.0)
    monkeypatch.setattr("gesso_node.operator.doctor.MIN_FREE_BYTES", 2**80)
    for number in (1, 2):
        await doctor._rests.failed(SPEC, TASK, node_address(number), "no memory", 1)
    found = {finding.check: finding for finding in await node.examine()}
    assert {name for name, finding in found.items() if finding.verdict != "ok"} >= {
        "disk", "clock", "gas", "stake", "peers", "models", "audits",
    }  # fmt: skip
    assert "gesso node audits" in found["audits"].fix
    assert all(finding.fix for finding in found.values() if finding.verdict != "ok")
    world.board.away = True
    found = {finding.check: finding for finding in await node.examine()}
    assert found["chain"].verdict == "bad"


async def test_the_doctor_holds_the_disk_budgets_against_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = {"models": {"disk_budget_bytes": 50 * 10**9}, "audits": {"disk_budget_bytes": 20 * 10**9}}
    node = await world.add_node(**budgets, executor={"trace_budget_bytes": 10**10})
    disk = SimpleNamespace(free=82 * 10**9)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    finding = await node.doctor.disk()
    assert (finding.verdict, "80.0 GB more" in finding.found) == ("ok", True)
    disk.free -= 2 * 10**9  # and one is the journal's
    finding = await node.doctor.disk()
    assert finding.verdict == "warn"
    assert "models.disk_budget_bytes" in finding.fix
    with (node.settings.data_dir / "models" / "here").open("wb") as there:
        there.truncate(10**10)  # what is here already needs no room again
    assert (await node.doctor.disk()).verdict == "ok"


async def test_a_node_that_is_only_looked_at_stakes_nothing(world: World, tmp_path: Path) -> None:
    chain = ChainDouble(world.board, ME)
    chain.registered = NodeState.NONE
    settings = NodeSettings.verified({"data_dir": tmp_path, "stake": "5", "transport": {"enabled": False}})
    parts: dict[str, Any] = {"chain": chain.as_chain(), "blobs": world.blobs, "executor": FakeExecutor()}
    async with Node.open(settings, **parts, joins=False) as node:
        assert (await node.doctor.stake()).verdict == "bad"
        assert chain.registered is NodeState.NONE
    async with Node.open(settings, **parts):
        assert chain.registered is NodeState.ACTIVE


async def test_the_doctor_sees_a_gpu_that_torch_does_not_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = (await world.add_node()).doctor
    health = SimpleNamespace(name="diffusers", ended={})
    monkeypatch.setattr(doctor, "_executor", SimpleNamespace(health=lambda: health))
    monkeypatch.setattr("gesso_node.operator.doctor.find_spec", lambda _: object())
    for accelerator, build, verdict in (
        (True, "2.13.0+cpu", "warn"), (True, "2.13.0+cu130", "ok"), (True, "2.13.0", "ok"), (False, "2.13.0+cpu", "ok")
    ):  # fmt: skip
        monkeypatch.setattr("gesso_node.operator.doctor.has_accelerator", lambda answer=accelerator: answer)
        monkeypatch.setattr("gesso_node.operator.doctor.version", lambda _, answer=build: answer)
        finding = await doctor.executor()
        assert (finding.verdict, "CPU" in finding.found) == (verdict, verdict == "warn")


async def test_the_doctor_knows_why_a_node_gets_no_tasks(world: World) -> None:
    node = await world.add_node()
    chain = world.chains[0]
    found: dict[NodeState, str] = {}
    for state in (NodeState.NONE, NodeState.PAUSED, NodeState.UNBONDING):
        chain.registered, world.board.weights[node.address] = state, 0
        found[state] = (await node.doctor.stake()).fix
    assert "gesso node resume" in found[NodeState.PAUSED]
    assert "gesso node withdraw" in found[NodeState.UNBONDING]
    node.doctor._settings = node.settings.model_copy(update={"stake": Wei(10**20)})
    chain.registered = NodeState.NONE
    assert (await node.doctor.stake()).fix == f"send 100 more fee tokens to {chain.address}, then start the node"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("/ip4/8.8.8.8/tcp/4001/p2p/12D3", True),
        ("/dns4/node.example.org/tcp/4001", True),
        ("/ip6/2001:4860:4860::8888/tcp/1", True),
        ("/ip4/10.0.0.7/tcp/4001/p2p/12D3", False),
        ("/ip4/127.0.0.1/tcp/1", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_who_can_be_reached_from_anywhere(address: str, public: bool) -> None:
    assert _is_public(address) is public


async def test_a_node_that_nobody_outside_can_reach_is_told_so(world: World) -> None:
    node = await world.add_node()
    doctor = node.doctor
    doctor._transport = SimpleNamespace(peers=lambda: [1], addresses=("/ip4/192.168.1.4/tcp/4001/p2p/x",))  # type: ignore[assignment]
    assert (await doctor.peers()).verdict == "ok"  # its whole network may be in this house
    section = node.settings.transport.model_copy(update={"bootstrap": ("/dns4/boot.example.org/tcp/4001/p2p/y",)})
    doctor._settings = node.settings.model_copy(update={"transport": section})
    finding = await doctor.peers()
    assert finding.verdict == "warn"
    assert "transport.announce" in finding.fix


class BeaconDouble:
    """drand's beacon with a minute of lag, as a chain that is `world.board.now` sees it."""

    def __init__(self, seeds: dict[int, bytes], *, of_drand: bool = True) -> None:
        self._seeds = seeds
        self._of_drand = of_drand

    async def is_drand(self) -> bool:
        return self._of_drand

    async def clock(self) -> BeaconClock:
        return BeaconClock(0, 0, 10, lag_s=60)

    async def listen(self, round_: int) -> bytes | None:
        return self._seeds.get(round_)


async def test_the_doctor_looks_whether_randomness_can_be_had(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await world.add_node()
    latest = (int(world.board.now) - 60) // 10

    async def found(arbiter: BeaconDouble) -> tuple[str, str]:
        monkeypatch.setattr(world.chains[0], "arbiter", arbiter)
        finding = await node.doctor.beacon()
        return finding.verdict, finding.fix

    assert await found(BeaconDouble({latest: bytes(32)})) == ("ok", "")
    assert await found(BeaconDouble({}, of_drand=False)) == ("ok", "")
    verdict, fix = await found(BeaconDouble({latest + 1: bytes(32)}))
    assert verdict == "bad"
    assert "https://api.drand.sh" in fix
    assert "chain.drand_urls" in fix


def test_the_program_says_what_is_wrong_with_its_settings(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "stakes": 3}))
    done = subprocess.run(
        [sys.executable, "-m", "gesso_node", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "did you mean stake?" in done.stderr
    assert "Traceback" not in done.stderr
    config.write_text(json.dumps({"data_dir": str(tmp_path / "data")}))
    done = subprocess.run(
        [sys.executable, "-m", "gesso_node", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "gesso node init" in done.stderr


def test_a_child_imports_neither_web3_nor_the_network() -> None:
    code = (
        "import sys, gesso_node.executors.worker, gesso_node.executors.fake;"
        "print([m for m in ('web3','aiohttp','libp2p','trio','eth_account','torch','httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_an_idle_node_drains_while_the_chain_is_away(world: World) -> None:
    node = await world.add_node()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(node.serve)
            await node._reconciler.passed()
            world.board.away = True
            node.drain()


async def test_draining_finishes_what_is_claimed_and_then_lets_serve_return(world: World) -> None:
    node = await world.add_node()
    world.nodes.clear()
    terms = await world.submit()
    world.board.mine()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(node.serve)
            while world.board.state(terms) is TaskState.SUBMITTED:
                world.board.mine(0)
                await anyio.sleep(0.01)
            node.drain()
            while node._reconciler._book.held():
                world.board.mine(0)
                await anyio.sleep(0.01)
    assert world.board.state(terms) is TaskState.COMMITTED


async def test_a_node_that_leaves_starts_with_another_peer_key_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stake still answers for what it did; the registry refuses a new key to who leaves."""
    node, chain = await world.add_node(), world.chains[0]
    updated = list[bytes]()

    async def update(peer_id: bytes, _: bytes) -> None:
        if chain.registered is NodeState.UNBONDING:
            raise ChainReverted("UnexpectedNodeState")
        updated.append(peer_id)

    monkeypatch.setattr(chain, "update_node", update)
    monkeypatch.setattr("gesso_node.peer.peer_id_bytes", lambda _: b"another key")
    monkeypatch.setattr(node, "transport", SimpleNamespace(peer_id="another"))
    chain.registered = NodeState.UNBONDING
    await node.register()
    assert updated == []
    chain.registered = NodeState.ACTIVE
    await node.register()
    assert updated == [b"another key"]
