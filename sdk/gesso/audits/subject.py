"""What is known of a committed task before anybody looks at the work: all of it from the chain and from its spec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gesso.chain.arbiter import Filing
from gesso_protocol.ids import BlobRef, TaskId
from gesso_protocol.spec import TextToImage
from gesso_protocol.trace import Layout, Run

MAX_CHANNELS = 32
MAX_EMBEDDING_BYTES = 4 << 20
LEAF_OVERHEAD_BYTES = 256
MAX_BUNDLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Subject:
    """One task to check again. `checks` are the (picture, step) to run; `challenge` 32 bytes that drew them."""

    run: Run
    filing: Filing
    spec: TextToImage
    manifest: BlobRef
    challenge: bytes
    checks: tuple[tuple[int, int], ...]
    drawn: bool
    """True when the beacon drew the steps, False when this machine did."""

    @property
    def task(self) -> TaskId:
        """The task's id."""
        return self.run.task

    @cached_property
    def layout(self) -> Layout:
        """Which leaves the trace must have."""
        return layout_of(self.spec)

    @cached_property
    def most_bytes(self) -> int:
        """More than openings of this task can have: nothing larger is fetched."""
        return most_bytes(self.spec)


def layout_of(spec: TextToImage) -> Layout:
    """Which leaves the trace of a picture task must have."""
    return Layout.of(spec)


def most_bytes(spec: TextToImage) -> int:
    """More bytes than openings of such a task can have."""
    latent = 4 * MAX_CHANNELS * -(-spec.width // 8) * -(-spec.height // 8)
    pixels = spec.count * 3 * spec.width * spec.height
    size = layout_of(spec).count * (latent + LEAF_OVERHEAD_BYTES) + pixels + 2 * MAX_EMBEDDING_BYTES
    return min(size, MAX_BUNDLE_BYTES)
