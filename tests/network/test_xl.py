"""A Stable Diffusion XL base from a folder to a LoRA and to pictures that drawn auditors check, who fetch it all first,
on the real engine; and the same base, rounded to four bits, before a jury."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from audit_acts import ALWAYS, PATIENT, arbiter_of, ended, outcome, said, stake, start, until_sealed
from PIL import Image

pytest.importorskip("peft")

from gesso_devnet import Devnet
from gesso_devnet.network import NodeHandle
from gesso_node.auditing.recheck import open_replayer
from gesso_node.executors.sample_xl import write_xl_pipeline
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.lifecycle import TaskState

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(540)]
SMALL: dict[str, Any] = {
    "steps": 2, "checkpoint_every": 1, "batch": 1, "rank": 2, "alpha": 2, "resolution": 64, "bucket_step_px": 16,
    "text_encoder": True, "sample_every": 0, "sample_steps": 2,
}  # fmt: skip


assert PATIENT.audits is not None
TWO_JURORS = dict.fromkeys(("jurors", "quorum", "appeal_jurors", "appeal_quorum"), 2)
RULES = PATIENT.model_copy(update={"audits": PATIENT.audits.model_copy(update=TWO_JURORS)})
"""Each child that loads the base costs seconds."""


def photos(folder: Path) -> Path:
    folder.mkdir()
    for number, colour in enumerate(((200, 30, 30), (30, 200, 30))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
    return folder


def have(nodes: list[NodeHandle], *models: BlobRef) -> list[bool]:
    return [all(handle.node._models.has(one) for one in models) for handle in nodes]


async def test_xl_is_listed_trained_on_drawn_with_and_audited_by_whoever_is_drawn(tmp_path: Path) -> None:
    folder = await anyio.to_thread.run_sync(write_xl_pipeline, tmp_path / "xl")
    pictures = photos(tmp_path / "photos")
    async with Devnet.open(
        nodes=2, watchers=3, executor="diffusers", rules=RULES, audit_rate=ALWAYS, cheats={1: "int4"}
    ) as net:
        honest, cheat = net.nodes
        await cheat.stop()
        user = net.submitter
        listing = await user.market.import_base(folder, "tiny-xl", licence="MIT")
        with anyio.fail_after(500):
            run = await user.train_lora(pictures, base="tiny-xl", trigger="zbx", audit="none", **SMALL)
            lora = (await run.result()).save(tmp_path / "zbx.safetensors")
            assert not any(have(net.watchers, listing.manifest))
            drawn = await user.submit(await user.spec("a zbx", model="tiny-xl", steps=2, loras=[f"{lora}:0.8"]))
            assert await ended(net, drawn.id) is TaskState.SETTLED
            await _check_honest(net, user, drawn, run, listing.manifest, tmp_path)

            await honest.stop()
            await cheat.start()
            await _check_cheat(net, cheat, honest)
            assert await ended(net, run.task.id) is TaskState.SETTLED
        assert await net.balanced()


async def _check_honest(net: Devnet, user: Any, drawn: Any, run: Any, base: BlobRef, folder: Path) -> None:
    assert await outcome(net, drawn.id) is AuditOutcome.PASSED
    verdicts = await said(net, drawn.id)
    assert list(verdicts.values()) == [AuditVerdict.PASS] * 2
    assert all(have([one for one in net.watchers if one.address in verdicts], base)), "they had to fetch it first"
    assert (await drawn.result(until="settled")).receipt.model_manifest == base
    async with open_replayer(folder / "own", user.blobs) as replayer:
        report = await (await user.task(drawn.id)).recheck(replayer=replayer)
        training = await (await user.task(run.task.id)).recheck(replayer=replayer)
    rows = {row["check"]: row["result"] for row in (row.document() for row in report.rows)}
    assert (report.verdict, training.verdict) == ("pass", "plausible"), (report.document(), training.document())
    assert (rows["text embeddings"], rows["start noise"]) == ("ok", "ok"), rows


async def _check_cheat(net: Devnet, cheat: NodeHandle, juror: NodeHandle) -> None:
    """Flagged by both, convicted by two, slashed; who ordered has everything back and a share besides."""
    user, me = net.submitter, net.cast.submitter.address
    others: dict[Address, int] = {one.address: await stake(net, one.address) for one in (juror, *net.watchers)}
    before, staked = await net.earned(me), await stake(net, cheat.address)
    task = await user.submit(await user.spec("a cheap zbx", model="tiny-xl", steps=2))
    await until_sealed(net, task.id, 2)
    await start([juror])
    assert await ended(net, task.id) is TaskState.EXPIRED
    assert list((await said(net, task.id)).values()) == [AuditVerdict.FLAG] * 2
    dispute, rules = await arbiter_of(net).dispute(task.id), await arbiter_of(net).rules()
    assert dispute.outcome is DisputeOutcome.GUILTY
    slashed = staked - await stake(net, cheat.address)
    assert slashed >= staked * rules.penalty_bps // 10_000
    assert await net.earned(me) - before == slashed * rules.requester_bps // 10_000
    assert {address: await stake(net, address) for address in others} == others
