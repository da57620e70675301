"""What the events of one task have told so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gesso.fetch import Commitment, Delivery
from gesso.receipt import Transaction
from gesso_protocol.events import (
    Checkpoint,
    Claimed,
    Committed,
    Event,
    Failed,
    PartCommitted,
    Settled,
    StopRequested,
    Submitted,
)
from gesso_protocol.ids import Address
from gesso_protocol.money import BPS

KEPT_CHECKPOINTS = 4


@dataclass(slots=True)
class Seen:
    """Filled by `note`, and by whoever fetches and delivers."""

    claimant: Address | None = None
    claim: Claimed | None = None
    failure: str | None = None
    """What the node said of it, if it could not do the task; its own words."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    commitment: Commitment | None = None
    promised: Commitment | None = None
    """What the node signed when it delivered ahead of its commit."""
    delivery: Delivery | None = None
    contradicted: bool = False
    stop_requested: bool = False
    part_bps: int = BPS
    """The share that the next commit is of."""
    done_bps: int = BPS
    settled: Settled | None = None
    transactions: dict[str, Transaction] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        """Take in what happened."""
        if isinstance(event, Submitted | Claimed | Committed | Settled) and event.tx:
            step = {"submitted": "submit", "claimed": "claim", "committed": "commit", "settled": "settle"}[event.kind]
            self.transactions[step] = Transaction(tx_hash=event.tx, gas_used=event.gas_used or 0)
        if isinstance(event, Claimed):
            self.claimant, self.claim = event.node, event
        if isinstance(event, Failed):
            self.failure = event.message
        if isinstance(event, StopRequested):
            self.stop_requested = True
        if isinstance(event, PartCommitted):
            self.part_bps = event.done_bps
        if isinstance(event, Checkpoint):
            self.checkpoints = _furthest(self.checkpoints, event, self.claimant)
        if isinstance(event, Committed):
            # Each commit has a share of its own: after a reorganisation another one may come, of the whole.
            self.done_bps, self.part_bps = self.part_bps, BPS
            self.commitment = Commitment(event.node, event.result_root, event.trace_root)
        if isinstance(event, Settled):
            self.settled = event


def _furthest(known: list[Checkpoint], new: Checkpoint, claimant: Address | None) -> list[Checkpoint]:
    """Nobody but the claimant, once that is known, and each place once, so that nothing that is told again or by
    strangers takes the room of where the run can go on."""
    places = {(one.node, one.index): one for one in (*known, new) if claimant in (None, one.node)}
    return sorted(places.values(), key=lambda one: one.index)[-KEPT_CHECKPOINTS:]


def now_ms() -> int:
    """Milliseconds since 1970 by this machine's clock, for events."""
    return time.time_ns() // 1_000_000
