"""Openings made to crash, fool or hold up whoever looks at them: all of them end as the node's fault."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.blobs import LocalBlobs
from gesso_node.auditing.ask import Asker, NotOpenedError, Opened, Phase
from gesso_node.auditing.assignment import Assignment
from gesso_node.auditing.auditor import NO_PROJECTION, Auditor
from gesso_node.auditing.case import Case
from gesso_node.auditing.pictures import Examiner, PictureWork
from gesso_node.auditing.record import AuditEntry
from gesso_node.auditing.shelf import Shelf
from gesso_protocol.audit.bundle import Bundle, Form, Leaf
from gesso_protocol.audit.challenge import input_slots
from gesso_protocol.audit.verdict import Decision
from gesso_protocol.ids import BlobRef
from gesso_protocol.messages import OpenReply
from gesso_protocol.trace import LeafKind, Slot, trace_root

from .traces import NODE, SPEC, Sold, inspector, sell

pytestmark = pytest.mark.anyio
LAST = SPEC.steps - 1


def resealed(sold: Sold, *changed: Leaf) -> tuple[Assignment, bytes]:
    """The same trace as a node would have committed it with these leaves in it: every opening proves itself."""
    layout, run = sold.own.trace.layout, sold.assignment.run
    leaves = {leaf.slot: leaf for leaf in (*sold.own.leaves(tuple(layout.slots())), *changed)}
    tree = [run.salted_leaf(slot, leaves[slot].digest, leaves[slot].salt) for slot in layout.slots()]
    filing = replace(sold.assignment.filing, trace_root=trace_root(tree))
    return replace(sold.assignment, filing=filing), Bundle.encode(list(leaves.values()), tree, layout)


def odd(sold: Sold, slot: Slot, values: int, *, form: Form = Form.FP32) -> Leaf:
    salt = sold.own.binding.salt(slot)
    if form is Form.PLAIN:
        return Leaf.plain(slot, bytes(4 * values), salt)
    return Leaf.tensor(slot, bytes(4 * values), (values,), salt)


async def finding(folder: Path, assignment: Assignment, data: bytes, *, strict: bool) -> Any:
    bundle = Bundle.decode(data, assignment.run, assignment.layout, assignment.filing.trace_root)
    examiner = Examiner(Deaf(assignment, data), inspector(folder))
    ground = await examiner.ground(assignment, strict=strict, deadline_s=60)
    opened = Opened(bundle, BlobRef.of(data), data, None)
    return await examiner.examine(assignment, opened, ground, None, strict=strict, deadline_s=60)


class Deaf(Asker):
    """An asker that is told one bundle, after a while; nobody has results."""

    def __init__(self, assignment: Assignment, data: bytes, *, after_s: float = 0) -> None:
        super().__init__(NODE, None, None, None, ())  # type: ignore[arg-type]
        self._task = assignment.task
        self._told = data
        self._after_s = after_s

    async def _asked(self, assignment: Assignment, phase: Phase) -> tuple[OpenReply, bytes]:
        await anyio.sleep(self._after_s)
        root, ref = assignment.filing.trace_root, BlobRef.of(self._told)
        return OpenReply(task=assignment.task, phase=phase, trace_root=root, bundle=ref), self._told


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "slot",
    [Slot(LeafKind.LATENT, 0, LAST), *(Slot(LeafKind.COND, 0, step) for step in (0, LAST)), Slot(LeafKind.UNCOND, 0, 3),
     Slot(LeafKind.EMBEDDING, 0, 1), Slot(LeafKind.NOISE, 0)],
    ids=str,
)  # fmt: skip
async def test_a_leaf_of_another_size_is_proof_wherever_it_stands(tmp_path: Path, slot: Slot, strict: bool) -> None:
    sold = await sell(tmp_path)
    for leaf in (odd(sold, slot, 255), odd(sold, slot, 256, form=Form.PLAIN), odd(sold, slot, 1)):
        for draw in range(2):
            assignment, data = resealed(sold, leaf)
            assignment = replace(assignment, challenge=bytes([draw]) * 32)
            verdict = (await finding(tmp_path, assignment, data, strict=strict)).verdict
            assert verdict.decision is Decision.FLAG
            assert verdict.slashable


async def test_branches_of_another_size_at_every_step_are_proof_too(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    leaves = [odd(sold, Slot(kind, 0, at), 255) for kind in (LeafKind.COND, LeafKind.UNCOND) for at in range(LAST + 1)]
    assignment, data = resealed(sold, *leaves)
    assert (await finding(tmp_path, assignment, data, strict=False)).verdict.slashable


@dataclass
class Records:
    """Keeps changes without a disk."""

    changes: dict[str, Any] = field(default_factory=dict)

    async def change_audit(self, entry: AuditEntry, label: str, **changes: Any) -> AuditEntry:
        self.changes |= {"label": label, **changes}
        return replace(entry, **changes)

    async def seal_audit(self, entry: AuditEntry, projection: bytes, salt: bytes, reasons: str) -> AuditEntry:
        return await self.change_audit(entry, "audit-seal", projection=projection, salt=salt, reasons=reasons)


def audit_of(records: Records, now: list[int]) -> Auditor:
    async def clock() -> int:
        return now[0]

    return Auditor(records, clock)  # type: ignore[arg-type]


def work_of(folder: Path, asker: Asker, assignment: Assignment) -> PictureWork:
    shelf = Shelf(folder / "cases", LocalBlobs(folder / "blobs"), budget_bytes=1 << 30)
    return PictureWork(assignment, asker, Examiner(asker, inspector(folder)), shelf)


def case_of(assignment: Assignment) -> Case:
    entry = AuditEntry(assignment.task, NODE, assignment.challenge, 0)
    return Case(assignment.task, assignment.filing, 0, 0, 0, 0, 0, None, entry=entry)  # type: ignore[arg-type]


async def test_inputs_that_lack_a_drawn_step_are_withheld_inputs(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    layout = sold.own.trace.layout
    slots = [slot for slot in input_slots(sold.assignment.checks) if slot.kind is LeafKind.MANIFEST]
    data = Bundle.encode(sold.own.leaves(slots), sold.own.tree, layout)
    records, now = Records(), [10]
    auditor, work = audit_of(records, now), work_of(tmp_path, Deaf(sold.assignment, data), sold.assignment)
    with pytest.raises(NotOpenedError):
        await auditor.prepare(case_of(sold.assignment), work, by=20)
    now[0] = 20
    await auditor.prepare(case_of(sold.assignment), work, by=20)
    assert records.changes["projection"] == NO_PROJECTION


async def test_inputs_that_are_no_latents_do_not_keep_an_auditor_from_its_seat(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    starts = [slot for slot in input_slots(sold.assignment.checks) if slot.kind in (LeafKind.NOISE, LeafKind.LATENT)]
    size = len(sold.bundle().leaf(starts[0]).data) // 4
    assignment, data = resealed(sold, *(odd(sold, slot, size, form=Form.PLAIN) for slot in starts))
    assignment = replace(assignment, challenge=sold.assignment.challenge)
    records = Records()
    work = work_of(tmp_path, Deaf(assignment, data), assignment)
    await audit_of(records, [10]).prepare(case_of(assignment), work, by=20)
    assert records.changes["projection"] == NO_PROJECTION


async def test_a_node_that_trickles_has_withheld(tmp_path: Path) -> None:
    sold = await sell(tmp_path)
    records, now = Records(), [18]
    auditor = audit_of(records, now)
    work = work_of(tmp_path, Deaf(sold.assignment, b"", after_s=3600), sold.assignment)

    async def refused(step: Any) -> None:
        with pytest.raises(NotOpenedError):
            await step(case_of(sold.assignment), work, by=20)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as both:
            both.start_soon(refused, auditor.prepare)
            both.start_soon(refused, auditor.judge)
        now[0] = 20
        await auditor.prepare(case_of(sold.assignment), work, by=20)
        await auditor.judge(case_of(sold.assignment), work, by=20)
    assert records.changes["projection"] == NO_PROJECTION
    assert records.changes["verdict"].name == "WITHHELD"
