"""What happened to one task and what it cost, as the chain tells it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gesso.audits.facts import AuditFacts
from gesso_protocol.ids import Address, BlobRef, ListingId, Root, TaskId
from gesso_protocol.money import BPS, Wei, format_amount


class Transaction(BaseModel):
    """One mined transaction of a task; gas in gas units."""

    model_config = ConfigDict(frozen=True)

    tx_hash: str
    gas_used: int


class Origin(BaseModel):
    """Where a training began that did the rest of a run: after update `step` of the run that `run` began with, from the
    checkpoint `state`. `lost` is the task that it was ordered in place of, `node` who had it and vouched for the
    checkpoint; None where that is not known."""

    model_config = ConfigDict(frozen=True)

    run: TaskId
    step: int
    state: BlobRef
    lost: TaskId | None = None
    node: Address | None = None


class Receipt(BaseModel):
    """Travels with every picture and inside its PNG. Money is in base units of the fee token.

    `confirmed` is False while the result stands on the node's signature only: the chain has yet to show the same roots.
    `claimed` is False where it has yet to show the node's claim too, which then waits for its block: until it is there
    no stake stands behind the pictures.
    `paid`, `royalty` and `protocol_fee` are known once the task has settled, after the challenge window, and so is
    `refunded`: what the requester got back because the node did `done_bps` of the work only; all four make the fee.
    `executor` is `fake` where no model ran.
    """

    model_config = ConfigDict(frozen=True)

    task: TaskId
    chain_id: int
    requester: Address
    node: Address
    model: str
    listing: ListingId
    model_manifest: BlobRef | None
    spec: BlobRef
    result: BlobRef
    result_root: Root
    trace_root: Root
    executor: str
    profile: dict[str, str] = Field(default_factory=dict)
    fee: Wei
    paid: Wei | None = None
    royalty: Wei | None = None
    royalty_to: Address | None = None
    protocol_fee: Wei | None = None
    refunded: Wei | None = None
    done_bps: int = Field(default=BPS, ge=0, le=BPS)
    resumed: Origin | None = None
    """Whose work a training went on with; its checkpoint is vouched for by that node alone."""
    audit: AuditFacts = Field(default_factory=AuditFacts)
    claimed: bool = True
    confirmed: bool = True
    transactions: dict[str, Transaction] = Field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """True when the money has moved."""
        return self.paid is not None

    def __str__(self) -> str:
        return self.summary()

    def summary(self, relay_url: str | None = None) -> str:
        """A few lines for people. With a relay's address the evidence is a link that a browser follows."""
        lines = [
            f"task      {self.task}",
            f"node      {self.node}  ({self.executor})",
            f"model     {self.model}",
            f"result    {self.result}",
            f"fee       {format_amount(self.fee)}",
        ]
        if not self.confirmed:
            word = "the node's signed word, its commit is on the way"
            if not self.claimed:
                word = "the node's signed word without its stake, its claim and its commit are on the way"
            lines.append(f"confirmed not yet: {word}")
        if self.paid is not None:
            lines.append(
                f"earned    node {format_amount(self.paid)} · royalty {format_amount(self.royalty or Wei(0))}"
                f" · protocol {format_amount(self.protocol_fee or Wei(0))}"
            )
        if self.resumed is not None:
            whose = "" if self.resumed.node is None else f", on the word of node {self.resumed.node}"
            lines.append(f"resumed   after update {self.resumed.step} of {self.resumed.run}{whose}")
        if self.done_bps < BPS:
            back = "the rest comes back" if self.refunded is None else f"{format_amount(self.refunded)} came back"
            lines.append(f"part      {self.done_bps / 100:g} % of the work · {back}")
        lines.append(f"audited   {self.audit.line()}")
        if self.audit.evidence is not None:
            lines.append(f"evidence  {evidence_link(self.audit.evidence, relay_url)}")
        if self.transactions:
            lines.append("gas       " + " · ".join(f"{step} {tx.gas_used}" for step, tx in self.transactions.items()))
        return "\n".join(lines)


def evidence_link(evidence: BlobRef, relay_url: str | None) -> str:
    """Where a relay has the openings that an audit was judged by; their name alone without a relay."""
    return str(evidence) if relay_url is None else f"{relay_url.rstrip('/')}/v1/blobs/{evidence}"
