"""The whole path on a calm network: submit, claim, execute, commit, fetch, settle; and what goes wrong at the door."""

from __future__ import annotations

import io
import json
from pathlib import Path

import anyio
import pytest
from network_acts import PATIENCE_S, raw_terms, submit_raw, until_state
from PIL import Image

from gesso import png
from gesso.chain.deploy import DeploySettings
from gesso.chain.pending import INTERVAL_BLOCKS
from gesso.chain.rpc import Rpc
from gesso_devnet import Devnet
from gesso_protocol import events
from gesso_protocol.errors import FeeTooLow, InsufficientFunds, NoEligibleNode, TaskFailed, UsageError
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio
SOON_S = 60
"""Seconds within which a submitter hears that something is wrong; a few on an idle machine."""


async def test_a_prompt_becomes_a_paid_picture(net: Devnet, tmp_path: Path) -> None:
    seen: list[events.Event] = []
    before = await net.earned(net.cast.submitter.address)
    spec = await net.submitter.spec("a red circle on a blue background", seed=7)
    task = await net.submitter.submit(spec)
    with anyio.fail_after(PATIENCE_S):
        result = await task.result(until="settled", on_event=seen.append)

    beside = ("step", "refused", "announced", "delivered")
    kinds = [event.kind for event in seen if event.kind not in beside]
    assert kinds == ["submitted", "claimed", "committed", "fetched", "settled"]
    steps = [event for event in seen if isinstance(event, events.Step)]
    assert steps
    assert {step.total for step in steps} == {spec.steps}
    assert any(step.preview for step in steps)

    receipt = result.receipt
    assert receipt.executor == "fake"
    assert receipt.paid is not None
    assert receipt.paid + (receipt.royalty or 0) + (receipt.protocol_fee or 0) == receipt.fee
    assert set(receipt.transactions) == {"submit", "claim", "commit", "settle"}
    assert all(entry.gas_used > 20_000 for entry in receipt.transactions.values())
    assert await net.earned(receipt.node) >= receipt.paid
    assert before - await net.earned(net.cast.submitter.address) == receipt.fee
    assert await net.balanced()

    path = result.image.save(tmp_path / "sub" / "out.png")
    texts = png.read_text(path.read_bytes())
    assert texts["parameters"].splitlines()[0] == spec.prompt
    assert "Seed: 7" in texts["parameters"]
    assert json.loads(texts["gesso"])["task"] == str(task.id)
    assert Image.open(path).tobytes() == Image.open(io.BytesIO(result.image.data)).tobytes()
    assert result.image.blob.of(result.image.data) == result.image.blob


async def test_exactly_one_node_does_the_work_and_the_others_say_why_not(net: Devnet) -> None:
    task = await net.submitter.submit(await net.submitter.spec("one of three"))
    with anyio.fail_after(PATIENCE_S):
        receipt = (await task.result(until="settled")).receipt
        told = {}
        for handle in net.nodes:
            while not any(line.task == str(task.id) for line in (await handle.node.status()).recent):  # noqa: ASYNC110
                await anyio.sleep(0.05)
            (told[handle.address],) = (
                line.ended for line in (await handle.node.status()).recent if line.task == str(task.id)
            )
    assert told.pop(receipt.node) == "settled"
    assert set(told.values()) <= {"lost-race", "not-my-turn"}


async def test_a_user_with_only_http_gets_progress_and_picture(net: Devnet) -> None:
    seen: list[str] = []
    async with net.client(peer=False) as user:
        with anyio.fail_after(PATIENCE_S):
            image = await user.generate("over http", on_event=lambda event: seen.append(event.kind))
    assert png.dimensions(image.data) == (64, 64)
    assert "delivered" in seen or "committed" in seen


async def test_the_same_seed_draws_the_same_picture(net: Devnet) -> None:
    with anyio.fail_after(PATIENCE_S):
        one = await net.submitter.generate("twice", seed=3)
        two = await net.submitter.generate("twice", seed=3)
    assert one.receipt.task != two.receipt.task
    assert one.pil().tobytes() == two.pil().tobytes()


async def test_an_earlier_task_is_found_by_the_start_of_its_id(net: Devnet) -> None:
    task = await net.submitter.submit(await net.submitter.spec("two of them", count=2))
    with anyio.fail_after(PATIENCE_S):
        first = await task.result()
        async with net.client(peer=False) as other:
            again = await other.task(str(task.id)[:12])
            second = await again.result()
            rows = await other.tasks(limit=3)
    assert len(first.images) == 2
    assert first.images[0].seed + 1 == first.images[1].seed
    assert [image.data for image in first.images] == [image.data for image in second.images]
    assert again.terms == task.terms
    assert str(task.id) in [str(row.task) for row in rows]
    with pytest.raises(UsageError):
        await net.submitter.task("0x00000000")


async def test_an_unclaimed_task_can_be_cancelled_once_and_the_fee_comes_back(net: Devnet) -> None:
    address = net.cast.submitter.address
    before = (await net.submitter.balance()).deposit
    task_id = await submit_raw(net, await raw_terms(net))
    task = await net.submitter.task(task_id)
    assert (await net.submitter.balance(address)).deposit < before
    with anyio.fail_after(PATIENCE_S):
        await net.warp((await net.chain.params()).cancel_delay_s)
        await task.cancel()
        assert [event.kind async for event in task.events()][-1] == "cancelled"
    assert (await net.submitter.balance()).deposit == before
    with pytest.raises(TaskFailed, match="cancelled"):
        await task.cancel()


@pytest.mark.parametrize("peer", [True, False], ids=["peer", "http only"])
async def test_a_picture_is_here_before_its_claim_is_in_a_block(peer: bool) -> None:
    """Blocks are made by hand: after the one with the submit there is none until the picture is here."""
    # Nobody can cancel for so long that the node goes ahead of its claim however late it looks.
    rules = DeploySettings.devnet().model_copy(update={"cancel_delay_s": 60})
    kinds: list[str] = []
    async with (
        Devnet.open(nodes=1, block_time_s=0, rules=rules, audit_rate=0) as net,
        net.client(peer=peer) as user,
        Rpc(net.running.rpc_url, timeout_s=SOON_S) as rpc,
        anyio.create_task_group() as group,
    ):
        for _ in range(2 * INTERVAL_BLOCKS):  # whenever the node measures them now, they are fast enough
            await rpc.request("evm_mine")
        await rpc.request("evm_setAutomine", False)
        group.start_soon(_mine_when_something_waits, rpc)
        with anyio.fail_after(PATIENCE_S):
            task = await user.submit(await user.spec("at once"))
            early = await task.result(on_event=lambda event: kinds.append(event.kind))
            assert (await task.status()).state is TaskState.SUBMITTED
            assert (early.receipt.claimed, early.receipt.confirmed) == (False, False)
            await _mine_when_something_waits(rpc, 2)  # the commit follows its claim in one block
            final = await task.result(until="committed", on_event=lambda event: kinds.append(event.kind))
        assert (final.receipt.claimed, final.receipt.confirmed) == (True, True)
        assert (final.receipt.node, final.receipt.result_root) == (early.receipt.node, early.receipt.result_root)
        assert [kind for kind in kinds if kind in ("delivered", "committed")] == ["delivered", "committed"]
        assert final.image.data == early.image.data
        record = await net.chain.task(task.id)
        assert record.state is TaskState.COMMITTED


async def _mine_when_something_waits(rpc: Rpc, count: int = 1) -> None:
    while int((await rpc.request("txpool_status"))["pending"], 16) < count:  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(0.02)
    await rpc.request("evm_mine")


async def test_a_claimed_task_cannot_be_cancelled(net: Devnet) -> None:
    task = await net.submitter.submit(await net.submitter.spec("too late"))
    with anyio.fail_after(PATIENCE_S):
        await task.result(until="claimed")
        with pytest.raises(TaskFailed):
            await task.cancel()
        await until_state(net, task.id, TaskState.SETTLED)


async def test_no_money_is_said_at_once_with_what_to_do(net: Devnet) -> None:
    async with net.client(net.spare_wallet()) as poor:
        with anyio.fail_after(SOON_S), pytest.raises(InsufficientFunds) as caught:
            await poor.generate("for free")
    assert "gesso wallet deposit 0.01" in caught.value.hint


async def test_deposit_and_withdraw_go_to_the_wallet_and_back(net: Devnet) -> None:
    wallet = net.spare_wallet(1)
    await net.fund(wallet.address, 5 * 10**18)
    async with net.client(wallet) as user:
        await user.deposit("2")
        assert (await user.balance()).deposit == 2 * 10**18
        await user.withdraw("0.5")
        await user.withdraw()
        assert (await user.balance()).tokens == 5 * 10**18
        with pytest.raises(InsufficientFunds):
            await user.withdraw("1")
        with pytest.raises(InsufficientFunds):
            await user.deposit("6")


async def test_a_fee_below_every_price_is_said_at_once(net: Devnet) -> None:
    with anyio.fail_after(SOON_S), pytest.raises(FeeTooLow) as caught:
        await net.submitter.generate("cheap", fee="0.001")
    assert "--fee 0.01" in caught.value.hint
    with anyio.fail_after(SOON_S), pytest.raises(FeeTooLow):
        await net.submitter.generate("capped", max_fee="0.005")


async def test_what_no_node_can_run_is_said_at_once(net: Devnet) -> None:
    with anyio.fail_after(SOON_S), pytest.raises(NoEligibleNode):
        await net.submitter.generate("huge", width=2048, height=2048)
    with anyio.fail_after(SOON_S), pytest.raises(UsageError, match="no model"):
        await net.submitter.generate("x", model="nobody-made-this@3")
