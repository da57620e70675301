"""What an auditor or juror knows of a task before it looks at the work: all of it from the chain and from the spec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gesso.chain.arbiter import Filing
from gesso.chain.records import Done
from gesso_protocol.audit.bundle import MAX_BUNDLE_BYTES
from gesso_protocol.audit.challenge import checks_of, steps_to_check
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import TextToImage, TrainLora
from gesso_protocol.trace import Layout, Run
from gesso_protocol.training.audit import segments_to_check
from gesso_protocol.training.evidence import MAX_EVIDENCE_BYTES
from gesso_protocol.training.openings import MAX_OPENINGS_BYTES
from gesso_protocol.training.trace import Segment

MAX_CHANNELS = 32
MAX_EMBEDDING_BYTES = 4 << 20
LEAF_OVERHEAD_BYTES = 256


@dataclass(frozen=True)
class Assignment:
    """One task to look at. `challenge` draws what is checked; `manifest` is the model that the spec names."""

    run: Run
    filing: Filing
    spec: TextToImage
    manifest: BlobRef
    challenge: bytes
    rules: AuditRules

    @property
    def task(self) -> TaskId:
        """The task's id."""
        return self.run.task

    @cached_property
    def layout(self) -> Layout:
        """Which leaves the trace must have."""
        return Layout.of(self.spec)

    @cached_property
    def checks(self) -> tuple[tuple[int, int], ...]:
        """(picture, step) to run again."""
        count = checks_of(self.spec.count, self.spec.steps, large=self.filing.terms.fee >= self.rules.large_fee)
        return steps_to_check(self.challenge, self.spec.count, self.spec.steps, count)

    @cached_property
    def bundle_limit(self) -> int:
        """More bytes than openings of this task can have: nothing larger is fetched."""
        spec = self.spec
        latent = 4 * MAX_CHANNELS * -(-spec.width // 8) * -(-spec.height // 8)
        pixels = spec.count * 3 * spec.width * spec.height
        size = self.layout.count * (latent + LEAF_OVERHEAD_BYTES) + pixels + 2 * MAX_EMBEDDING_BYTES
        return min(size, MAX_BUNDLE_BYTES)


@dataclass(frozen=True)
class RunAssignment:
    """One training to look at. `share`: what of the work the node says that it did, on chain; `late`:
    whether it committed when its time was nearly over, which is a reason to end early."""

    run: Run
    filing: Filing
    spec: TrainLora
    manifest: BlobRef
    challenge: bytes
    rules: AuditRules
    share: Done
    late: bool = False

    @property
    def task(self) -> TaskId:
        """The task's id."""
        return self.run.task

    @property
    def bundle_limit(self) -> int:
        """Openings of a training are small; its checkpoints are fetched one by one."""
        return MAX_OPENINGS_BYTES

    @property
    def evidence_limit(self) -> int:
        """What auditors publish has the result's place beside them."""
        return MAX_EVIDENCE_BYTES

    def checks(self, done: int) -> tuple[Segment, ...]:
        """The segments to run again of a run that made `done` updates."""
        return segments_to_check(self.challenge, self.spec, done)
