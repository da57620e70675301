"""Training is nothing that auditors can run again: they leave it alone, and jurors who are asked cannot tell."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from audit_acts import ALWAYS, RULES, arbiter_of, ended, filing_of, happened, outcome, stake
from network_acts import until_state
from PIL import Image

from gesso.chain.audit_events import VoteRevealed
from gesso.chain.chain import Chain
from gesso_devnet import Devnet
from gesso_protocol.audit.outcomes import AuditOutcome, Ballot, DisputeOutcome, Vote
from gesso_protocol.ids import TaskId
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio


def photos(folder: Path) -> Path:
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64), (90 * number, 30, 30)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"colour {number}")
    return folder


async def trained(net: Devnet, folder: Path) -> TaskId:
    run = await net.submitter.train_lora(photos(folder), trigger="zbx", steps=5, rank=4, alpha=4)
    await until_state(net, run.id, TaskState.COMMITTED)
    return run.id


async def test_nobody_convicts_honest_training_that_its_requester_challenges(tmp_path: Path) -> None:
    async with Devnet.open(nodes=1, watchers=5, rules=RULES, audit_rate=ALWAYS, executor="fake") as net:
        node = net.nodes[0].address
        staked = await stake(net, node)
        with anyio.fail_after(150):
            task = await trained(net, tmp_path / "photos")
            assert await outcome(net, task) is AuditOutcome.NONE
            async with Chain.open(net.chain_settings, net.cast.submitter) as chain:
                assert chain.arbiter is not None
                await chain.arbiter.challenge(await filing_of(net, task))
            assert await ended(net, task) is TaskState.EXPIRED
        assert (await arbiter_of(net).dispute(task)).outcome is DisputeOutcome.UNDECIDED
        votes = [event for event in await happened(net) if isinstance(event, VoteRevealed)]
        assert votes
        assert {Vote.of(event.vote).ballot for event in votes} == {Ballot.CANNOT_TELL}
        assert await stake(net, node) == staked
        assert await net.balanced()
