"""One event tree for progress bars, logs and metrics, on the requester's and on the operator's side.

Every event names its task and when it happened (`at_ms`, milliseconds since 1970, as the sender's clock has it).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict, DisputeOutcome
from gesso_protocol.encoding import explain
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.ids import Address, BlobRef, Root, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.policy import Refusal

MAX_EVENT_BYTES = 64 * 1024
Millis = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[int, Field(ge=0, lt=2**53)]
TxHash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Gas = Annotated[int, Field(ge=0, lt=2**53)]
Round = Annotated[int, Field(ge=0, lt=2**53)]
Level = Annotated[int, Field(ge=0, le=1)]
Int16 = Annotated[int, Field(ge=-(2**15), lt=2**15)]
Hex32 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]


class _Event(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, ser_json_bytes="base64",
        val_json_bytes="base64",
    )  # fmt: skip

    task: TaskId
    at_ms: Millis


class Submitted(_Event):
    """The fee is in escrow and the task is on chain."""

    kind: Literal["submitted"] = "submitted"
    fee: Wei
    tx: TxHash | None = None
    gas_used: Gas | None = None


class Announced(_Event):
    """The task was gossiped to `peers` peers."""

    kind: Literal["announced"] = "announced"
    peers: Annotated[int, Field(ge=0)] = 0


class Refused(_Event):
    """A node will not take the task."""

    kind: Literal["refused"] = "refused"
    node: Address
    reason: Annotated[Refusal, Field(strict=False)]


class Claimed(_Event):
    """A node took the task and must commit by `commit_by` (chain seconds)."""

    kind: Literal["claimed"] = "claimed"
    node: Address
    commit_by: Seconds
    tx: TxHash | None = None
    gas_used: Gas | None = None


class Started(_Event):
    """The executor runs; `attempt` counts from 1."""

    kind: Literal["started"] = "started"
    node: Address
    attempt: Annotated[int, Field(ge=1)] = 1


class Step(_Event):
    """Denoising step `index` of `total` of picture `image` is done; `preview` is a small PNG or JPEG."""

    kind: Literal["step"] = "step"
    index: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=1)]
    image: Annotated[int, Field(ge=0)] = 0
    node: Address | None = None
    preview: Annotated[bytes, Field(max_length=12 * 1024)] | None = None


class Delivered(_Event):
    """The pictures are here on the node's signed word; what it commits to on chain must be the same, later."""

    kind: Literal["delivered"] = "delivered"
    node: Address
    manifest: BlobRef
    images: Annotated[int, Field(ge=0)]


class TrainingStep(_Event):
    """Update `index` of `total` of a training is done, with its loss; `sample` shows sample prompt `prompt`."""

    kind: Literal["training-step"] = "training-step"
    index: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=1)]
    loss: float | None = None
    checkpoint: bool = False
    prompt: Annotated[int, Field(ge=0)] = 0
    node: Address | None = None
    sample: Annotated[bytes, Field(max_length=12 * 1024)] | None = None


class TrainingPaused(_Event):
    """The node checks others' work after update `index` of `total`; when that is `over`, `index` is the first since."""

    kind: Literal["training-paused"] = "training-paused"
    over: bool = False
    index: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=1)]
    node: Address | None = None


class StopRequested(_Event):
    """The requester asked the node to stop early; it should commit what it has at its next checkpoint."""

    kind: Literal["stop-requested"] = "stop-requested"
    node: Address


class PartCommitted(_Event):
    """What is committed next is a part of the work: `done_bps` of the fee will be divided, the rest goes back."""

    kind: Literal["part-committed"] = "part-committed"
    node: Address
    done_bps: Annotated[int, Field(ge=0, lt=10_000)]
    stop_requested: bool


class Checkpoint(_Event):
    """The state after update `index` of `total` is kept in public: any node can go on from there."""

    kind: Literal["checkpoint"] = "checkpoint"
    node: Address
    index: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=1)]
    state: BlobRef
    size: Annotated[int, Field(ge=1)]
    seed: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """What the run draws from, by its node's signed word."""


class Resumed(_Event):
    """A node was lost: `task` does the rest of what it did as `earlier`, from update `index` of `total` on."""

    kind: Literal["resumed"] = "resumed"
    earlier: TaskId
    index: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=1)]
    fee: Wei


class Committed(_Event):
    """The result is bound to the chain; it can be settled from `settle_after` (chain seconds)."""

    kind: Literal["committed"] = "committed"
    node: Address
    result_root: Root
    trace_root: Root
    settle_after: Seconds
    tx: TxHash | None = None
    gas_used: Gas | None = None


class Fetched(_Event):
    """The pictures are here and their hashes match the chain."""

    kind: Literal["fetched"] = "fetched"
    manifest: BlobRef
    images: Annotated[int, Field(ge=0)]


class RestReturned(_Event):
    """The requester has back what the part did not earn; the settlement of that part comes next."""

    kind: Literal["rest-returned"] = "rest-returned"
    refund: Wei


class Settled(_Event):
    """The escrow is divided: `paid` to the node, `royalty`, `protocol_fee`."""

    kind: Literal["settled"] = "settled"
    node: Address
    paid: Wei
    royalty: Wei = Wei(0)
    royalty_to: Address | None = None
    protocol_fee: Wei = Wei(0)
    tx: TxHash | None = None
    gas_used: Gas | None = None


class Cancelled(_Event):
    """The requester took the task back."""

    kind: Literal["cancelled"] = "cancelled"
    refund: Wei


class Expired(_Event):
    """A window closed, or work was not accepted; the requester has its fee back. `refund` is 0 where jurors left the
    work in doubt: then nobody has it. `node` is who missed its deadline, or whose work it was."""

    kind: Literal["expired"] = "expired"
    refund: Wei
    node: Address | None = None


class AuditOpened(_Event):
    """The beacon picked the task, `auditor` took the first seat; others commit to what they computed until `commit_by`
    (chain seconds)."""

    kind: Literal["audit-opened"] = "audit-opened"
    auditor: Address
    challenge: Hex32
    round: Round
    commit_by: Seconds
    tx: TxHash | None = None


class AuditCommitted(_Event):
    """An auditor took another seat and bound itself to its own outputs before it saw the node's."""

    kind: Literal["audit-committed"] = "audit-committed"
    auditor: Address
    tx: TxHash | None = None


class AuditRevealed(_Event):
    """An auditor's verdict; `evidence` is the openings bundle, `profile` the Keccak-256 of the trace's profile key."""

    kind: Literal["audit-revealed"] = "audit-revealed"
    auditor: Address
    verdict: Annotated[AuditVerdict, Field(strict=False)]
    evidence: BlobRef | None = None
    profile: Hex32
    projection: Annotated[tuple[Int16, ...], Field(min_length=16, max_length=16, strict=False)]
    tx: TxHash | None = None


class AuditClosed(_Event):
    """The audit ended: passed, void (nobody revealed) or in a dispute."""

    kind: Literal["audit-closed"] = "audit-closed"
    outcome: Annotated[AuditOutcome, Field(strict=False)]
    tx: TxHash | None = None


class DisputeOpened(_Event):
    """A committee is drawn by beacon round `round`; level 1 is the appeal."""

    kind: Literal["dispute-opened"] = "dispute-opened"
    by: Address
    level: Level
    round: Round
    tx: TxHash | None = None


class VoteCommitted(_Event):
    """A juror took a seat with a sealed vote."""

    kind: Literal["vote-committed"] = "vote-committed"
    juror: Address
    level: Level
    tx: TxHash | None = None


class VoteRevealed(_Event):
    """A juror's vote; see `gesso_protocol.audit.outcomes.Vote`."""

    kind: Literal["vote-revealed"] = "vote-revealed"
    juror: Address
    level: Level
    vote: Annotated[int, Field(ge=0, le=15)]
    tx: TxHash | None = None


class DisputeTallied(_Event):
    """The votes are counted; the losing side may appeal until `appeal_by` (chain seconds)."""

    kind: Literal["dispute-tallied"] = "dispute-tallied"
    level: Level
    outcome: Annotated[DisputeOutcome, Field(strict=False)]
    appeal_by: Seconds
    tx: TxHash | None = None


class Appealed(_Event):
    """The losing side asked for a larger committee."""

    kind: Literal["appealed"] = "appealed"
    by: Address
    tx: TxHash | None = None


class DisputeExecuted(_Event):
    """The dispute is over. What was `slashed` from the node's stake is divided into the three parts after it."""

    kind: Literal["dispute-executed"] = "dispute-executed"
    outcome: Annotated[DisputeOutcome, Field(strict=False)]
    slashed: Wei = Wei(0)
    burned: Wei = Wei(0)
    to_requester: Wei = Wei(0)
    to_pool: Wei = Wei(0)
    tx: TxHash | None = None


class AuditorPenalised(_Event):
    """An auditor did not reveal, or was wrong."""

    kind: Literal["auditor-penalised"] = "auditor-penalised"
    auditor: Address
    amount: Wei
    tx: TxHash | None = None


class JurorPenalised(_Event):
    """A juror did not reveal, or voted against the quorum."""

    kind: Literal["juror-penalised"] = "juror-penalised"
    juror: Address
    amount: Wei
    tx: TxHash | None = None


class Failed(_Event):
    """Something went wrong; code, sentence and hint of a `GessoError`. `final`: nothing more will happen."""

    kind: Literal["failed"] = "failed"
    code: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=1000)]
    hint: Annotated[str, Field(max_length=1000)] = ""
    final: bool = True


Event: TypeAlias = (
    Submitted
    | Announced
    | Refused
    | Claimed
    | Started
    | Step
    | TrainingStep
    | TrainingPaused
    | Checkpoint
    | Resumed
    | Delivered
    | StopRequested
    | PartCommitted
    | Committed
    | Fetched
    | RestReturned
    | Settled
    | Cancelled
    | Expired
    | AuditOpened
    | AuditCommitted
    | AuditRevealed
    | AuditClosed
    | DisputeOpened
    | VoteCommitted
    | VoteRevealed
    | DisputeTallied
    | Appealed
    | DisputeExecuted
    | AuditorPenalised
    | JurorPenalised
    | Failed
)
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def event_json(event: Event) -> bytes:
    """One event as compact JSON (for server-sent events and logs)."""
    return event.model_dump_json().encode("utf-8")


def parse_event(data: bytes) -> Event:
    """Read `event_json`; at most 64 KiB. Raises `EncodingInvalid` for anything else."""
    if len(data) > MAX_EVENT_BYTES:
        raise EncodingInvalid("the event is too large")
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        raise EncodingInvalid(explain(error)) from None
