"""A requester's own second look weighs what auditors weigh: a part may be all there is when time was nearly over."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gesso.audits.examine_run import RunSubject
from gesso.chain.records import Done
from gesso_node.auditing.recheck import OwnReplayer
from gesso_node.models.cache import ModelCache
from gesso_protocol.audit.verdict import Decision
from gesso_protocol.training.share import late_from

from .runs import train
from .test_training_work import SickEngine

pytestmark = pytest.mark.anyio
CLAIMED_AT = 1000


@pytest.mark.parametrize(("early_s", "decision"), [(0, Decision.PASS), (1, Decision.FLAG)])
async def test_a_part_is_fine_from_the_second_on_that_is_late(early_s: int, decision: Decision, tmp_path: Path) -> None:
    run = await train(tmp_path, share=Done(bps=6000, stop_requested=False), engine=SickEngine())
    assignment, answers = await run.answers()
    filing = assignment.filing
    subject = RunSubject(
        run=assignment.run,
        filing=filing,
        spec=assignment.spec,
        manifest=assignment.manifest,
        challenge=assignment.challenge,
        share=assignment.share,
        seed=await run.seed(),
        claimed_at=CLAIMED_AT,
        committed_at=late_from(CLAIMED_AT, filing.terms.commit_window_s) - early_s,
    )
    data = answers["outputs"]
    async with AsyncExitStack() as stack:
        models = ModelCache(tmp_path / "models", run.blobs, budget_bytes=10**9)
        replayer = OwnReplayer(stack, tmp_path / "own", models, run.blobs)
        verdict, _ = await replayer.inspect_run(subject, data)
    assert verdict.decision is decision, verdict
