"""Traces of the fake engine or another one, honest and forged, opened as a node opens them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gesso.chain.arbiter import Filing
from gesso_node.auditing.assignment import Assignment
from gesso_node.auditing.inspect import Files, Ground, Inspector, Redone, inspect
from gesso_node.executors.fake import FakeExecutor, FakeFaults
from gesso_node.executors.port import Executor, Finished, Job, StepDone
from gesso_node.executors.trace import RecordedTrace
from gesso_node.models.cache import ModelCache
from gesso_node.traces.opened import Own
from gesso_protocol.audit.bundle import Bundle
from gesso_protocol.audit.challenge import input_slots
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import Verdict, judge
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.spec import TextToImage, spec_ref
from gesso_protocol.terms import Terms
from gesso_protocol.trace import Binding, Run, trace_root

BOARD = Address("0x" + "b0" * 20)
NODE = Address("0x" + "0d" * 20)
REQUESTER = Address("0x" + "0e" * 20)
MODEL = BlobRef(keccak256(b"the model"))
SPEC = TextToImage(prompt="a harbour at night", model="sample@1", width=64, height=64, steps=12, seed=5, guidance=5.0)


@dataclass(frozen=True)
class Sold:
    """One task as its node could open it."""

    own: Own
    assignment: Assignment
    images: tuple[bytes, ...]

    def bundle(self, *, outputs: bool = True, assignment: Assignment | None = None) -> Bundle:
        """Encoded, decoded and verified, as an auditor gets it."""
        wanted = assignment or self.assignment
        layout = self.own.trace.layout
        slots = tuple(layout.slots()) if outputs else input_slots(wanted.checks)
        data = Bundle.encode(self.own.leaves(slots), self.own.tree, layout)
        return Bundle.decode(data, wanted.run, layout, wanted.filing.trace_root)


async def sell(
    folder: Path,
    *,
    cheat: str | None = None,
    spec: TextToImage = SPEC,
    draw: int = 0,
    executor: Executor | None = None,
    model_dir: Path | None = None,
) -> Sold:
    """Run `spec`, or what a cheat makes of it (the fake engine's without an executor); challenge number `draw`."""
    task = TaskId(keccak256(b"task"))
    binding = Binding(31337, BOARD, task, NODE, bytes(32))
    job = Job(spec, model_dir, folder / "out", 60.0, MODEL, binding)

    async def ignore(_: StepDone) -> None:
        return None

    outcome = await (executor or FakeExecutor(FakeFaults(cheat=cheat))).run(job, on_event=ignore)
    assert isinstance(outcome, Finished), outcome
    trace = RecordedTrace.read(job.out_dir, spec)
    tree = tuple(trace.leaves(binding))
    terms = Terms(
        requester=REQUESTER, fee=Wei(10**16), spec=spec_ref(spec), claim_window_s=60, commit_window_s=60, nonce=1
    )
    filing = Filing(terms, NODE, Root(bytes(31) + b"\1"), trace_root(tree))
    run = Run(31337, BOARD, task, NODE)
    drawn = keccak256(b"challenge" + draw.to_bytes(4, "big"))
    entry = None
    own = Own(entry, trace, binding, tree)  # type: ignore[arg-type]
    assignment = Assignment(run, filing, spec, MODEL, drawn, AuditRules())
    return Sold(own, assignment, tuple(image.path.read_bytes() for image in outcome.images))


def inspector(folder: Path) -> Inspector:
    return Inspector(FakeExecutor(), ModelCache(folder / "models", None, budget_bytes=10**9), needs_model=False)  # type: ignore[arg-type]


async def ground_and_steps(
    folder: Path, sold: Sold, opened: Bundle, *, look: Inspector | None = None, strict: bool = False
) -> tuple[Ground, Redone]:
    look = look or inspector(folder)
    ground = await look.ground(sold.assignment, strict=strict, deadline_s=60)
    redone = await look.steps(sold.assignment, ground, opened, sold.assignment.checks, strict=strict, deadline_s=60)
    return ground, redone


async def verdict_on(folder: Path, sold: Sold, *, look: Inspector | None = None, strict: bool = False) -> Verdict:
    """What an auditor says that has everything, or with `strict` a juror."""
    look, opened = look or inspector(folder), sold.bundle()
    ground, redone = await ground_and_steps(folder, sold, opened, look=look, strict=strict)
    rgb = await look.decode(sold.assignment, ground, opened, strict=strict, deadline_s=60)
    files = Files(None, dict(enumerate(sold.images)))
    found = judge(inspect(sold.assignment, ground, redone, opened, rgb, files, strict=strict))
    if not found.recheck:
        return found
    more = await look.steps(sold.assignment, ground, opened, found.recheck[:3], strict=strict, deadline_s=60)
    wider = Redone({**redone.outputs, **more.outputs}, redone.wrong or more.wrong)
    return judge(inspect(sold.assignment, ground, wider, opened, rgb, files, strict=strict))
