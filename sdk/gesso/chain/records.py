"""What the contracts say, as frozen values. Money is in base units of the fee token, times are unix seconds."""

from __future__ import annotations

from enum import IntEnum

from pydantic import BaseModel, ConfigDict, Field

from gesso_protocol.ids import Address, BlobRef, ListingId, TaskId
from gesso_protocol.money import Wei


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex")


class TxReceipt(_Record):
    """A transaction that was mined and did not revert. What it cost is None where many of ours were mined in one block
    and the log told of them all at once: `Chain.gas_used` asks."""

    tx_hash: str
    block: int
    gas_used: int | None = None
    gas_price: int | None = Field(default=None, description="wei of the chain's own coin a unit of gas")
    task_id: TaskId | None = None
    settled: tuple[TaskId, ...] = ()
    returned: dict[TaskId, Wei] = Field(default_factory=dict, description="rests of parts among the settled tasks")
    skipped: tuple[TaskId, ...] = ()

    @property
    def gas_cost(self) -> int | None:
        """What the sender paid for gas, in wei of the chain's own coin."""
        if self.gas_used is None or self.gas_price is None:
            return None
        return self.gas_used * self.gas_price


class Done(_Record):
    """How much of a task was committed, in basis points, and whether its requester had asked the node to stop.

    10,000 is all of it, 0 before the commit. The board remembers the wish to stop of claimed tasks and of parts only.
    """

    bps: int
    stop_requested: bool


class NodeState(IntEnum):
    """The state byte of `NodeRegistry`."""

    NONE = 0
    ACTIVE = 1
    PAUSED = 2
    UNBONDING = 3


class NodeRecord(_Record):
    """One registered node. `weight` is zero unless the node is active."""

    address: Address
    peer_id: bytes
    capabilities: bytes
    stake: Wei
    weight: int
    state: NodeState
    standing: int
    unbond_at: int


class Royalty(_Record):
    """What one listing earns of each task that names it or a descendant; basis points."""

    listing: ListingId
    owner: Address
    bps: int


class Listing(_Record):
    """One version of one model on the marketplace."""

    id: ListingId
    owner: Address
    manifest: BlobRef
    kind: int
    parent: ListingId | None
    royalty_bps: int
    licence: bytes
    yanked: bool
    name: str
    version: int

    @property
    def state(self) -> str:
        """Whether new tasks may use it."""
        return "withdrawn" if self.yanked else "listed"
