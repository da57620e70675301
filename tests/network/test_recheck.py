"""What a requester sees of audits, and checking a task again on one's own machine, over peers and over HTTP alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from audit_acts import PATIENT
from network_acts import PATIENCE_S

from gesso.audits.recheck import Recheck
from gesso.client import AsyncClient
from gesso_devnet import Devnet
from gesso_devnet.genesis import CHEAP_PRICE
from gesso_node.auditing.recheck import open_replayer
from gesso_protocol import events
from gesso_protocol.errors import TaskFailed, UsageError, WorkRejected
from gesso_protocol.ids import TaskId

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CHEAP_FEE = "0.006"


def bargain(number: int, document: dict[str, Any]) -> dict[str, Any]:
    """Node 0 asks for half the price, so that it gets what is offered at half the price."""
    return {**document, "policy": {"min_fee": str(CHEAP_PRICE)}} if number == 0 else document


async def rechecked(client: AsyncClient, task: TaskId, folder: Path, **options: Any) -> Recheck:
    async with open_replayer(folder, client.blobs) as replayer:
        return await (await client.task(task)).recheck(replayer=replayer, **options)


def results(report: Recheck) -> dict[str, str]:
    return {row["check"]: row["result"] for row in (row.document() for row in report.rows)}


async def test_an_audited_task_says_so_and_stands_a_second_look(tmp_path: Path) -> None:
    async with Devnet.open(nodes=3, rules=PATIENT) as net:
        seen: list[events.Event] = []
        spec = await net.submitter.spec("a red circle", steps=12)
        quote = await net.submitter.quote(spec, audit="always")
        assert quote.total == quote.fee + (await net.chain.params()).audit_fee > quote.fee
        before = await net.earned(net.submitter.address)
        task = await net.submitter.submit(spec, audit="always")
        with anyio.fail_after(PATIENCE_S):
            result = await task.result(until="settled", on_event=seen.append)
        assert before - await net.earned(net.submitter.address) == quote.total
        facts = result.receipt.audit
        assert facts.status == "passed"
        assert {entry.said for entry in facts.auditors} == {"pass"}
        assert facts.error_of_limit is not None
        assert facts.error_of_limit < 0.1
        assert "audited   yes (2 auditors, steps " in result.receipt.summary()
        (link,) = (line for line in result.receipt.summary(net.relay.url).splitlines() if line.startswith("evidence"))
        async with httpx.AsyncClient() as reader:
            assert (await reader.get(link.split()[1])).status_code == 200
        kinds = [event.kind for event in seen]
        assert kinds.index("audit-opened") < kinds.index("audit-closed")
        assert await task.audit() == facts

        async with net.client(peer=False) as user:
            with anyio.fail_after(PATIENCE_S):
                report = await rechecked(user, task.id, tmp_path)
                mine = await rechecked(user, task.id, tmp_path, steps=5)
                plain = await (await user.task(task.id)).recheck()
        assert (report.verdict, report.exit_code, report.steps) == ("pass", 0, facts.steps)
        assert results(report)["arithmetic"] == results(report)["start noise"] == "ok"
        assert (mine.verdict, len(mine.steps)) == ("pass", 5)
        assert (plain.verdict, plain.exit_code) == ("plausible", 0)
        assert await net.balanced()


async def test_a_task_that_nobody_audited_is_opened_by_its_node_even_to_a_user_without_peers(tmp_path: Path) -> None:
    async with Devnet.open(nodes=1) as net:
        task = await net.submitter.submit(await net.submitter.spec("unseen", steps=10), audit="none")
        with anyio.fail_after(PATIENCE_S):
            result = await task.result(until="settled")
        assert result.receipt.audit.line() == "no, as asked"
        async with net.client(peer=False) as user:
            with anyio.fail_after(PATIENCE_S):
                assert (await rechecked(user, task.id, tmp_path)).verdict == "pass"
                await net.nodes[0].stop()
                again = await (await user.task(task.id)).recheck()
        assert again.verdict == "plausible", "the relay kept what the node opened"


async def test_fraud_that_nobody_audited_is_found_at_home_and_brought_before_jurors(tmp_path: Path) -> None:
    opened = Devnet.open(nodes=2, watchers=3, rules=PATIENT, cheats={0: "fewer-steps"}, reconfigure=bargain)
    async with opened as net:
        spec = await net.submitter.spec("half of it", steps=12)
        task = await net.submitter.submit(spec, fee=CHEAP_FEE, audit="none")
        with anyio.fail_after(250):
            delivered = await task.result(until="committed")
            assert delivered.receipt.node == net.nodes[0].address
            report = await _opened_in_time(net, task.id, tmp_path)
            assert (report.verdict, report.exit_code) == ("flag", 5)
            assert report.error_of_limit is not None
            assert report.error_of_limit > 1
            await task.challenge()
            with pytest.raises(WorkRejected, match="challenged by the requester"):
                await task.result(until="settled")
        facts = await task.audit()
        assert facts.status == "guilty"
        assert facts.burned + facts.to_requester + facts.to_pool == facts.slashed > 0
        assert facts.refund == task.terms.fee
        assert await net.balanced()


async def _opened_in_time(net: Devnet, task: TaskId, folder: Path) -> Recheck:
    """The node opens nothing before the beacon has drawn; the challenge window outlasts that."""
    while (report := await rechecked(net.submitter, task, folder)).verdict == "withheld":  # noqa: ASYNC110 - the node tells only who asks
        await anyio.sleep(0.2)
    return report


async def test_what_cannot_be_checked_again_is_said(tmp_path: Path) -> None:
    opened = Devnet.open(nodes=1, cheats={0: "withhold"})
    async with opened as net:
        task = await net.submitter.submit(await net.submitter.spec("shut", steps=10), audit="none")
        with pytest.raises(TaskFailed, match="not committed"):
            await task.recheck()
        with pytest.raises(UsageError, match="nothing to challenge"):
            await task.challenge()
        with anyio.fail_after(PATIENCE_S):
            await task.result(until="settled")
            report = await rechecked(net.submitter, task.id, tmp_path)
        assert (report.verdict, report.exit_code) == ("withheld", 7)
