"""Trainings are audited like pictures: segments again, blind, and what was cheated at costs stake and fee."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import httpx
import pytest
from audit_acts import ALWAYS, PATIENT, arbiter_of, ended, order, outcome, said, stake, until_sealed
from network_acts import until_state
from PIL import Image

from gesso.training import AsyncTraining
from gesso_devnet import Devnet
from gesso_node.auditing.recheck import open_replayer
from gesso_node.executors.fake import FakeFaults
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.errors import UsageError
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio
PATIENCE_S = 300


def photos(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (90 * number, 30, 30)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"colour {number}")
    return folder


async def ordered(net: Devnet, folder: Path, **settings: object) -> AsyncTraining:
    given = {"trigger": "zbx", "steps": 40, "checkpoint_every": 10, "rank": 4, "alpha": 4, **settings}
    return await net.submitter.train_lora(photos(folder), audit="always", **given)


async def opened_through_the_relay(net: Devnet, run: AsyncTraining) -> str:
    """The blob of what the drawn segments start from, for an auditor whom the node does not answer."""
    async with httpx.AsyncClient(base_url=net.relay.url, timeout=30) as relay:
        reply = await relay.get(f"/v1/tasks/{run.id}/openings", params={"phase": "inputs"})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["bundle"])


async def test_an_honest_training_is_audited_by_two_and_paid(tmp_path: Path) -> None:
    async with Devnet.open(nodes=1, watchers=2, rules=PATIENT, audit_rate=ALWAYS) as net:
        node, (first, second) = net.nodes[0], net.watchers
        await second.stop()  # while one seat is free nobody asks for outputs: they are wanted of a node without a disk
        with anyio.fail_after(PATIENCE_S):
            run = await ordered(net, tmp_path / "photos")
            assert await until_sealed(net, run.id, 1) == (first.address,)
            inputs = await opened_through_the_relay(net, run)
            # All is lost but the wallet: the trace comes back from its backup.
            await node.stop()
            shutil.rmtree(node.settings.data_dir)
            assert await opened_through_the_relay(net, run) == inputs  # which has the files that they name, too
            await node.start()
            await second.start()
            assert await ended(net, run.id) is TaskState.SETTLED
        assert list((await said(net, run.id)).values()) == [AuditVerdict.PASS] * 2
        assert await outcome(net, run.id) is AuditOutcome.PASSED
        assert await net.earned(node.address) > 0
        assert await net.balanced()
        facts = await run.task.audit()
        assert facts.status == "passed"
        assert len(facts.updates) == 2
        assert facts.error_of_limit is not None
        assert facts.error_of_limit < 0.1
        assert "2 auditors, updates " in facts.line()
        async with open_replayer(tmp_path / "mine", net.submitter.blobs) as replayer:
            report = await run.task.recheck(replayer=replayer)
        assert (report.verdict, report.exit_code) == ("pass", 0), report.document()
        assert [row.check for row in report.rows][-1] == "segments run again"
        assert (await run.task.recheck()).verdict == "plausible"
        with pytest.raises(UsageError, match="segments"):
            await run.task.recheck(steps=2)


async def test_a_node_that_trains_serves_its_seat_meanwhile(tmp_path: Path) -> None:
    async with Devnet.open(nodes=2, watchers=1, rules=PATIENT, audit_rate=ALWAYS, faults=FakeFaults(step_s=0.3)) as net:
        with anyio.fail_after(PATIENCE_S):
            run = await net.submitter.train_lora(
                photos(tmp_path / "photos"), audit="none", trigger="zbx", steps=120, checkpoint_every=20, sample_every=0
            )
            await until_state(net, run.id, TaskState.CLAIMED)
            busy = (await net.chain.task(run.id)).node
            task = await order(net, "drawn by the other node")
            seats = await until_sealed(net, task, 2)
            assert seats.count(busy) == 1, "no other node was left for that seat"
            assert await ended(net, task) is TaskState.SETTLED
            assert list((await said(net, task)).values()) == [AuditVerdict.PASS] * 2
            assert (await net.chain.task(run.id)).state is TaskState.CLAIMED, "it still trains"
            await run.stop()
            await until_state(net, run.id, TaskState.COMMITTED)
            await net.warp((await net.chain.params()).challenge_window_s)
            assert await ended(net, run.id) is TaskState.SETTLED
        assert await net.balanced()


@pytest.mark.parametrize("cheat", ["skipped-steps", "swapped-samples"])
async def test_training_that_was_not_done_is_flagged_judged_and_refunded(cheat: str, tmp_path: Path) -> None:
    async with Devnet.open(nodes=1, watchers=5, rules=PATIENT, audit_rate=ALWAYS, cheats={0: cheat}) as net:
        node = net.nodes[0].address
        staked = await stake(net, node)
        with anyio.fail_after(PATIENCE_S):
            run = await ordered(net, tmp_path / "photos")
            await until_state(net, run.id, TaskState.COMMITTED)
            assert await ended(net, run.id) is TaskState.EXPIRED
        assert set((await said(net, run.id)).values()) == {AuditVerdict.FLAG}
        assert (await arbiter_of(net).dispute(run.id)).outcome is DisputeOutcome.GUILTY
        assert await stake(net, node) < staked
        assert await net.balanced()
        async with open_replayer(tmp_path / "mine", net.submitter.blobs) as replayer:
            report = await run.task.recheck(replayer=replayer)
        assert (report.verdict, report.exit_code) == ("flag", 5), report.document()
