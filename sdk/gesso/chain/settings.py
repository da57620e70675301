"""Where the chain is, which contracts are ours, and how patient we are with both."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gesso_protocol.ids import Address

RpcUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048)]

DRAND_URLS = (
    "https://api.drand.sh",
    "https://api2.drand.sh",
    "https://api3.drand.sh",
    "https://drand.cloudflare.com",
)
"""Run by independent operators; one that is honest and answers is enough."""
MAX_DRAND_SERVERS = 16


class ContractAddresses(BaseModel):
    """The contracts of one gesso network; one without an arbiter has no audits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_board: Address
    node_registry: Address
    marketplace: Address
    token: Address
    arbiter: Address | None = None
    beacon: Address | None = None


class ChainSettings(BaseModel):
    """How to reach one gesso network over plain JSON-RPC. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpc_url: RpcUrl
    contracts: ContractAddresses
    chain_id: int | None = Field(default=None, ge=1, description="refuse to talk to any other chain")
    request_timeout_s: float = Field(default=10.0, gt=0, le=120)
    receipt_timeout_s: float = Field(default=90.0, gt=0, le=3600, description="give up on a transaction after this")
    receipt_poll_s: float = Field(default=0.1, gt=0, le=10)
    stuck_after_s: float = Field(default=20.0, gt=0, le=3600, description="resend with a higher fee after this")
    max_gas: int = Field(default=30_000_000, ge=21_000, description="gas limit that no transaction of ours exceeds")
    max_gas_price_wei: int = Field(default=10**13, ge=1, description="price of a unit of gas that we do not pay")
    learn_gas: bool | None = Field(
        default=None,
        description="take gas of submits, claims and commits from earlier ones; a refused submit or commit then costs. "
        "Where nothing is said nodes do, and requesters do not",
    )
    drand_urls: tuple[RpcUrl, ...] = Field(
        default=DRAND_URLS,
        min_length=1,
        max_length=MAX_DRAND_SERVERS,
        description="where rounds come from on a network whose beacon is drand's; what they say is checked",
    )
    max_log_range: int = Field(default=2000, ge=1, le=100_000, description="blocks a log query may span")

    def for_node(self) -> ChainSettings:
        """The same for who claims and commits all day."""
        return self.model_copy(update={"learn_gas": True}) if self.learn_gas is None else self
