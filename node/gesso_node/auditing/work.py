"""Somebody else's task as an auditor or juror works on it, whatever kind of task it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gesso_node.auditing.ask import Phase
from gesso_protocol.audit.projection import NOTHING, pack
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.audit.verdict import Verdict
from gesso_protocol.ids import BlobRef
from gesso_protocol.spec import Spec

STORE_S = 20.0
"""Stores that are slower are passed over: an auditor that waits for them misses its reveal."""
NO_PROJECTION = pack(NOTHING)


@dataclass(frozen=True)
class Finding:
    """What looking at everything came to. `projection`: our own 32 bytes, None when nothing could be computed,
    or by a juror on a device that nobody has measured: it cannot say whose is wrong.
    `profile` is the key that the node committed, if readable; `evidence` the openings that were looked at."""

    verdict: Verdict
    projection: bytes | None
    profile: str
    evidence: BlobRef | None


class Computed(Protocol):
    """What was computed from the inputs alone."""

    @property
    def projection(self) -> bytes:
        """128 bytes to seal."""
        ...


class Known(Protocol):
    """What is known of a task before it is looked at; see `assignment`."""

    @property
    def spec(self) -> Any: ...

    @property
    def challenge(self) -> bytes: ...

    @property
    def rules(self) -> AuditRules: ...


A = TypeVar("A", bound=Known)


class Assigned(Generic[A]):
    """What each work says of itself by its assignment alone."""

    def __init__(self, assignment: A) -> None:
        self.assignment = assignment

    @property
    def spec(self) -> Spec:
        """What was ordered."""
        spec: Spec = self.assignment.spec
        return spec

    @property
    def challenge(self) -> bytes:
        """32 bytes that draw what is checked."""
        return self.assignment.challenge

    @property
    def tolerance(self) -> int:
        """How far two honest projections may differ."""
        return self.assignment.rules.projection_tolerance


Openings = TypeVar("Openings")
Own = TypeVar("Own", bound=Computed)


class Work(Protocol[Openings, Own]):
    """One task. What a stranger opened never raises anything but NotOpenedError; CannotRunError is about us."""

    @property
    def spec(self) -> Spec:
        """What was ordered."""
        ...

    @property
    def challenge(self) -> bytes:
        """32 bytes that draw what is checked."""
        ...

    @property
    def tolerance(self) -> int:
        """How far two honest projections may differ."""
        ...

    async def ready(self, *, seconds: float) -> None:
        """Have what openings are measured by; not the node's time. Raises CannotRunError, what model caches raise."""
        ...

    async def opened(self, phase: Phase, seconds: float) -> Openings:
        """What the node opens, verified. Raises NotOpenedError."""
        ...

    async def published(self, refs: Iterable[BlobRef]) -> Openings:
        """The first public openings that prove themselves and are whole. Raises NotOpenedError."""
        ...

    async def compute(self, opened: Openings, *, seconds: float) -> Own:
        """Run the drawn parts from opened inputs. Raises CannotRunError."""
        ...

    async def examine(self, opened: Openings, own: Own | None, *, strict: bool, seconds: float) -> Finding:
        """Compare everything; what is not in `own` is computed first. Raises CannotRunError."""
        ...

    async def publish(self, opened: Openings) -> None:
        """Let jurors have what we looked at. Raises what the home store raises."""
        ...

    def forget(self) -> None:
        """Leave nothing on the disk."""
        ...
