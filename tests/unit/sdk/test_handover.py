"""Pictures before the commit: only the claimant's signature counts, and a chain that says otherwise is heard of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from eth_account.messages import encode_typed_data
from made_results import TASK, TERMS, manifest, put

from gesso.chain.records import Done
from gesso.chain.wallet import Wallet, signer_of
from gesso.feed import TaskFeed
from gesso.stream import MAX_HANDOVERS, TaskStream
from gesso.task import AsyncTask
from gesso_protocol import events
from gesso_protocol.errors import (
    ChainReverted,
    DeliveryContradicted,
    EncodingInvalid,
    TaskFailed,
    TooEarly,
    Unreachable,
    UsageError,
)
from gesso_protocol.fields import TaskKind
from gesso_protocol.handover import Handover, handover_digest, typed_handover
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.lifecycle import TaskRecord, TaskState
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.money import format_amount, part_of, split_fee
from gesso_protocol.result import ResultManifest, result_root
from gesso_protocol.spec import make_spec, spec_ref
from gesso_protocol.terms import BoardParams

pytestmark = pytest.mark.anyio

CHAIN_ID = 7
BOARD = Address("0x" + "b0" * 20)
NODE = Wallet.from_key(b"\x11" * 32)
OTHER = Wallet.from_key(b"\x12" * 32)
SPEC = make_spec({"prompt": "a circle", "model": "m@1", "model_manifest": BlobRef(b"\x05" * 32), "width": 64,
                  "height": 64, "steps": 4, "guidance": 1, "scheduler": "ddim", "seed": 7, "count": 1,
                  "dtype": "fp32"})  # fmt: skip
ASKED = TERMS.model_copy(update={"spec": spec_ref(SPEC)})
CLAIM_TX = "0x" + "c1" * 32
OPEN = TaskRecord(TASK, TaskState.SUBMITTED, None, 10, 12345)
RESULT = manifest(node=NODE.address, spec=spec_ref(SPEC))


def handover(
    result: ResultManifest = RESULT, *, by: Wallet = NODE, task: TaskId = TASK, claim: str | None = None
) -> Handover:
    roots = (result.ref, result_root(result), result.trace_root)
    signature = by.sign_typed(typed_handover(CHAIN_ID, BOARD, task, *roots)).hex()
    return Handover(manifest=roots[0], result_root=roots[1], trace_root=roots[2], signature=signature, claim=claim)


def delivered(word: Handover, *, node: Address = NODE.address, task: TaskId = TASK) -> ProgressEvent:
    return ProgressEvent(task=task, node=node, sequence=1, stage="delivered", handover=word)


class Board:
    """The chain, as far as a task asks it."""

    chain_id = CHAIN_ID
    arbiter = None
    settings = SimpleNamespace(contracts=SimpleNamespace(task_board=BOARD))

    def __init__(self) -> None:
        self.record = TaskRecord(TASK, TaskState.CLAIMED, NODE.address, 10)
        self.block_s = 1.0
        self.waiting = {CLAIM_TX: NODE.address}
        self.refusal = "UnexpectedState"
        self.sent: list[str] = []
        self.time = 11

    async def task(self, _: TaskId, *, kind: int = 1) -> TaskRecord:
        return self.record

    async def done_of(self, _: TaskId) -> Done:
        return Done(bps=2500, stop_requested=True)

    async def cancel(self, _: object) -> None:
        raise ChainReverted(self.refusal, ())

    async def block_interval_s(self) -> float:
        return self.block_s

    async def claim_waits(self, tx_hash: str, node: Address, _: object) -> bool:
        return self.waiting.get(tx_hash) == node

    async def now(self) -> int:
        return self.time

    async def settle(self, _: object) -> None:
        self.sent.append("settle")

    async def request_stop(self, _: object) -> None:
        self.sent.append("stop")

    async def expire(self, _: object) -> None:
        self.sent.append("expire")


class Story:
    """A task whose events the test tells."""

    def __init__(self, blobs: Any) -> None:
        self.board: Any = Board()
        feed = TaskFeed(self.board, None, None, poll_s=1)  # type: ignore[arg-type]
        self.stream = TaskStream(TASK, lambda _: None, feed._signed)
        ports: Any = SimpleNamespace(
            chain=self.board,
            chain_id=CHAIN_ID,
            board=BOARD,
            blobs=blobs,
            can_send=True,
            directory=SimpleNamespace(result_of=_nobody),
        )
        params = BoardParams(challenge_window_s=5, sortition_step_s=1, hold_window_s=9, cancel_delay_s=6)

        async def past() -> list[events.Event]:
            return []

        self.task = AsyncTask(ports, TASK, ASKED, params, lambda: self.stream, past, spec=SPEC)

    def commits(self, result: ResultManifest, by: Address = NODE.address) -> None:
        root = result_root(result)
        self.stream.push(
            events.Committed(
                task=TASK, at_ms=1, node=by, result_root=root, trace_root=result.trace_root, settle_after=9
            )
        )


async def _nobody(_: TaskId) -> None:
    return None


@pytest.fixture
async def story(tmp_path: Path) -> Story:
    return Story(await put(tmp_path, RESULT))


def test_the_digest_is_what_wallets_sign() -> None:
    roots = (BlobRef(b"\x02" * 32), Root(b"\x03" * 32), Root(b"\x04" * 32))
    signable = encode_typed_data(full_message=typed_handover(CHAIN_ID, BOARD, TASK, *roots))
    theirs = keccak256(b"\x19" + signable.version + signable.header + signable.body)
    assert handover_digest(CHAIN_ID, BOARD, TASK, *roots) == theirs


def test_a_signature_is_for_one_task_on_one_board() -> None:
    word = handover()
    signature = bytes.fromhex(word.signature)
    assert signer_of(word.digest(CHAIN_ID, BOARD, TASK), signature) == NODE.address
    for digest in (
        word.digest(CHAIN_ID + 1, BOARD, TASK),
        word.digest(CHAIN_ID, NODE.address, TASK),
        word.digest(CHAIN_ID, BOARD, TaskId(b"\x09" * 32)),
        handover(manifest(executor="diffusers")).digest(CHAIN_ID, BOARD, TASK),
    ):
        assert signer_of(digest, signature) != NODE.address


@pytest.mark.parametrize("signature", [b"", b"\x00" * 65, b"\xff" * 65, b"\x01" * 64 + b"\x05", b"\x00" * 64 + b"\x1b"])
def test_a_signature_of_nobody_is_nobodys(signature: bytes) -> None:
    assert signer_of(b"\x01" * 32, signature) is None


def test_a_handover_comes_with_its_stage_only() -> None:
    event = delivered(handover())
    assert ProgressEvent.decode(event.encode()) == event
    assert event.result == RESULT.ref
    for fields in ({"stage": "delivered"}, {"stage": "committed", "handover": handover()}):
        with pytest.raises(ValueError, match="handover"):
            ProgressEvent.model_validate({"task": TASK, "node": NODE.address, "sequence": 1, **fields})
    with pytest.raises(EncodingInvalid):
        Handover.decode(handover().encode().replace(b'"signature":"', b'"signature":"zz'))


async def test_pictures_are_here_before_the_commit_and_the_receipt_is_upgraded(story: Story) -> None:
    seen: list[str] = []
    story.stream.push(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=99))
    story.stream.on_progress(delivered(handover()))
    with anyio.fail_after(60):
        early = await story.task.result(on_event=lambda event: seen.append(event.kind))
        assert early.image.data
        assert early.receipt.confirmed is False
        assert early.receipt.result_root == result_root(RESULT)
        assert "not yet" in early.receipt.summary()
        story.commits(RESULT)
        late = await story.task.result(until="committed", on_event=lambda event: seen.append(event.kind))
    assert late.receipt.confirmed is True
    assert seen == ["claimed", "delivered", "committed", "fetched"]


async def test_pictures_may_be_here_before_the_claim_and_the_receipt_says_so(story: Story) -> None:
    story.board.record = OPEN
    story.stream.on_progress(delivered(handover(claim=CLAIM_TX)))
    with anyio.fail_after(60):
        first = (await story.task.result()).receipt
        assert (first.claimed, first.confirmed) == (False, False)
        assert "without its stake, its claim and its commit are on the way" in first.summary()
        story.stream.push(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=99))
        story.commits(RESULT)
        last = (await story.task.result(until="committed")).receipt
    assert (last.claimed, last.confirmed) == (True, True)
    assert last.result == first.result


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        pytest.param(None, {}, id="no word of a claim"),
        pytest.param(CLAIM_TX, {"waiting": {CLAIM_TX: OTHER.address}}, id="a claim of somebody else"),
        pytest.param("0x" + "c2" * 32, {}, id="a claim that does not wait"),
        pytest.param(CLAIM_TX, {"time": OPEN.state_since + 3}, id="later than an honest node goes ahead"),
        pytest.param(CLAIM_TX, {"block_s": 2.0}, id="blocks too slow for the delay"),
    ],
)
async def test_before_the_claim_only_who_is_about_to_claim_delivers(
    story: Story, claim: str | None, changes: dict[str, Any]
) -> None:
    story.board.record = OPEN
    for name, value in changes.items():
        setattr(story.board, name, value)
    story.stream.on_progress(delivered(handover(claim=claim)))
    story.stream.push(events.Expired(task=TASK, at_ms=1, refund=TERMS.fee, node=None))
    with anyio.fail_after(60), pytest.raises(TaskFailed):
        await story.task.result()


async def test_whoever_waits_for_the_claim_gets_nothing_that_has_no_stake_behind_it(story: Story) -> None:
    story.board.record = OPEN

    def claimed(event: events.Event) -> None:
        if event.kind == "delivered":
            story.stream.push(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=99))

    story.stream.on_progress(delivered(handover(claim=CLAIM_TX)))
    with anyio.fail_after(60):
        receipt = (await story.task.result(until="claimed", on_event=claimed)).receipt
    assert (receipt.claimed, receipt.confirmed) == (True, False)


async def test_who_is_overtaken_after_it_delivered_has_delivered_nothing(story: Story, tmp_path: Path) -> None:
    theirs = manifest(node=OTHER.address, spec=spec_ref(SPEC))
    await put(tmp_path, theirs)
    story.board.record = OPEN
    story.stream.on_progress(delivered(handover(claim=CLAIM_TX)))
    with anyio.fail_after(60):
        assert (await story.task.result()).receipt.node == NODE.address
        story.stream.push(events.Claimed(task=TASK, at_ms=1, node=OTHER.address, commit_by=99))
        story.stream.on_progress(delivered(handover(theirs, by=OTHER), node=OTHER.address))
        story.commits(theirs, OTHER.address)
        final = (await story.task.result(until="committed")).receipt
    assert (final.node, final.result, final.confirmed) == (OTHER.address, theirs.ref, True)


async def test_whoever_cancels_too_early_hears_in_how_long_it_may(story: Story) -> None:
    story.board.record, story.board.refusal = OPEN, "TooEarly"
    story.task._params = story.task._params.model_copy(update={"cancel_delay_s": 5})
    with pytest.raises(TooEarly, match="can be cancelled in 4 s") as refused:
        await story.task.cancel()
    assert "gesso task cancel" in refused.value.hint


async def test_the_receipt_of_a_part_says_what_was_paid_and_what_came_back(story: Story) -> None:
    part = part_of(ASKED.fee, 2500)
    shares = split_fee(part.due, 300, 250)
    about: dict[str, Any] = {"task": TASK, "at_ms": 1}
    story.stream.push(events.Claimed(**about, node=NODE.address, commit_by=99))
    story.stream.on_progress(delivered(handover()))
    story.stream.push(events.PartCommitted(**about, node=NODE.address, done_bps=2500, stop_requested=True))
    story.commits(RESULT)
    with anyio.fail_after(60):
        receipt = (await story.task.result(until="committed")).receipt
        assert (receipt.done_bps, receipt.refunded, receipt.paid) == (2500, None, None)
        assert "25 % of the work · the rest comes back" in receipt.summary()
        story.stream.push(events.RestReturned(**about, refund=part.rest))
        story.stream.push(
            events.Settled(
                **about, node=NODE.address, paid=shares.node, royalty=shares.royalty, protocol_fee=shares.protocol
            )
        )
        receipt = (await story.task.result(until="settled")).receipt
    assert receipt.refunded == part.rest
    money = (receipt.paid, receipt.royalty, receipt.protocol_fee, receipt.refunded)
    assert sum(amount or 0 for amount in money) == receipt.fee
    assert f"{format_amount(part.rest)} came back" in receipt.summary()


async def test_a_share_belongs_to_its_own_commit_when_the_chain_is_reorganised(story: Story) -> None:
    about: dict[str, Any] = {"task": TASK, "at_ms": 1}
    story.stream.push(events.Claimed(**about, node=NODE.address, commit_by=99))
    story.stream.on_progress(delivered(handover()))
    story.stream.push(events.PartCommitted(**about, node=NODE.address, done_bps=2500, stop_requested=True))
    story.commits(RESULT)
    story.commits(RESULT)  # taken back, and done anew as a whole
    story.stream.push(events.Settled(**about, node=NODE.address, paid=ASKED.fee))
    with anyio.fail_after(60):
        receipt = (await story.task.result(until="settled")).receipt
    assert (receipt.done_bps, receipt.refunded) == (10_000, 0)


async def test_a_stop_is_asked_of_a_node_at_work_on_a_training_only(story: Story) -> None:
    with pytest.raises(UsageError, match="only trainings"):
        await story.task.stop()
    assert story.board.sent == []
    story.task.terms = ASKED.model_copy(update={"kind": int(TaskKind.TRAIN_LORA)})
    await story.task.stop()
    assert story.board.sent == ["stop"]
    with pytest.raises(TaskFailed) as refused:
        await story.task.cancel()
    assert "gesso task stop" in refused.value.hint
    story.board.record = TaskRecord(TASK, TaskState.COMMITTED, NODE.address, 10)
    described = await story.task.describe()
    assert (described["done_bps"], described["stop_requested"]) == (2500, True)
    with pytest.raises(TaskFailed, match="no node works on it"):
        await story.task.stop()
    assert story.board.sent == ["stop"]


async def test_a_hint_that_comes_before_our_reader_saw_the_claim_is_enough(story: Story) -> None:
    story.stream.on_progress(delivered(handover()))
    with anyio.fail_after(60):
        assert (await story.task.result()).receipt.node == NODE.address


async def test_only_the_claimants_own_signature_delivers(story: Story) -> None:
    story.stream.on_progress(delivered(handover(by=OTHER)))
    assert story.stream.handovers == {}
    story.stream.on_progress(delivered(handover(by=OTHER), node=OTHER.address))
    story.stream.push(events.Expired(task=TASK, at_ms=1, refund=TERMS.fee, node=NODE.address))
    with anyio.fail_after(60), pytest.raises(TaskFailed):
        await story.task.result()


async def test_strangers_cannot_fill_the_memory_nor_push_the_claimant_out(story: Story) -> None:
    for number in range(1, 3 * MAX_HANDOVERS):
        stranger = Wallet.from_key(number.to_bytes(32, "big"))
        story.stream.on_progress(delivered(handover(by=stranger), node=stranger.address))
    assert len(story.stream.handovers) == MAX_HANDOVERS
    story.stream.push(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=99))
    story.stream.on_progress(delivered(handover()))
    assert NODE.address in story.stream.handovers


async def test_a_commit_of_something_else_is_an_error_and_is_never_settled(story: Story, tmp_path: Path) -> None:
    other = manifest(node=NODE.address, spec=spec_ref(SPEC), trace_root=Root(b"\x07" * 32))
    await story.task._ports.blobs.put(other.encode())
    story.stream.push(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=99))
    story.stream.on_progress(delivered(handover()))
    with anyio.fail_after(60):
        await story.task.result()
        story.commits(other)
        with pytest.raises(DeliveryContradicted):
            await story.task.result(until="committed")
        # What the chain says is still there to be fetched, but this requester does not pay for it by itself.
        story.stream.on_progress(
            ProgressEvent(task=TASK, node=NODE.address, sequence=2, stage="committed", note=str(other.ref))
        )
        assert (await story.task.result(until="committed")).receipt.result == other.ref
        story.board.record = TaskRecord(TASK, TaskState.COMMITTED, NODE.address, 10)
        story.board.time = 1000
        await story.task._drive()
    assert story.board.sent == []


async def test_a_delivery_that_is_a_lie_leaves_the_commit_to_decide(story: Story) -> None:
    missing = manifest(node=OTHER.address, spec=spec_ref(SPEC))
    await story.task._ports.blobs.put(missing.encode())
    story.stream.push(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=99))
    story.stream.on_progress(delivered(handover(missing)))
    story.commits(RESULT)
    story.stream.on_progress(
        ProgressEvent(task=TASK, node=NODE.address, sequence=2, stage="committed", note=str(RESULT.ref))
    )
    with anyio.fail_after(60):
        result = await story.task.result()
    assert result.receipt.confirmed is True
    assert result.receipt.result == RESULT.ref


async def test_where_a_run_can_go_on_is_washed_out_by_nobody(story: Story) -> None:
    def told(step: int, by: Wallet = NODE) -> events.Checkpoint:
        return events.Checkpoint(
            task=TASK, at_ms=1, node=by.address, index=step, total=100, state=RESULT.ref, size=1, seed="ab" * 32
        )

    task = story.task
    task._note(told(99, OTHER))
    task._note(events.Claimed(task=TASK, at_ms=1, node=NODE.address, commit_by=60))
    for step in (20, 40, 60, 80, 100, 20, 20, 20):
        task._note(told(step))
        task._note(told(99, OTHER))
    assert [(one.node, one.index) for one in task.checkpoints] == [(NODE.address, n) for n in (40, 60, 80, 100)]


@pytest.mark.parametrize("asked", ["task", "now"])
async def test_a_chain_that_is_away_for_a_second_ends_no_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr("gesso.task.TICK_S", 0.01)
    story = Story(await put(tmp_path, RESULT))
    answers, times = getattr(story.board, asked), 0

    async def away_at_first(*args: Any, **kwargs: Any) -> Any:
        nonlocal times
        times += 1
        if times == 1:
            raise Unreachable("away")
        if times == 2:
            story.commits(RESULT)
            story.stream.on_progress(
                ProgressEvent(task=TASK, node=NODE.address, sequence=1, stage="committed", note=str(RESULT.ref))
            )
        return await answers(*args, **kwargs)

    monkeypatch.setattr(story.board, asked, away_at_first)
    with anyio.fail_after(60):
        result = await story.task.result(until="committed")
    assert result.receipt.confirmed
