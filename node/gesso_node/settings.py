"""Settings of a node: few, in one JSON file, verified before the first socket opens.

Every key is known; an unknown one is an error that names the nearest known one. Secrets are not settings: the wallet's
password comes from a file or from the environment variable that is named here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from gesso.chain.settings import ChainSettings
from gesso_node.executors.environment import ChildSettings
from gesso_protocol.errors import ConfigError
from gesso_protocol.fields import MAX_TRAINING_STEPS
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei
from gesso_protocol.spec import MAX_COUNT, MAX_STEPS, Dtype

MAX_CONFIG_BYTES = 256 * 1024

_MULTIADDR = r"^/(ip4|ip6|dns|dns4|dns6)/[0-9A-Za-z.:-]+/tcp/[0-9]{1,5}(/p2p/[0-9A-Za-z]+)?$"

Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WalletSection(_Section):
    """The keystore that pays gas and receives fees; the password is in a file or in an environment variable."""

    keystore: Path
    password_file: Path | None = None
    password_env: str = "GESSO_WALLET_PASSWORD"  # noqa: S105  (the variable's name)


class TransportSection(_Section):
    """The libp2p host; its key is not the wallet's."""

    enabled: bool = True
    listen_host: str = "0.0.0.0"  # noqa: S104  (a node wants to be reached)
    listen_port: Port = 0
    key_file: Path | None = None
    bootstrap: tuple[str, ...] = ()
    announce: tuple[Annotated[str, Field(pattern=_MULTIADDR, max_length=256)], ...] = Field(default=(), max_length=8)
    """Addresses that others are told instead of our own, behind a router or in a cloud: `/ip4/203.0.113.7/tcp/4001`."""


class BlobSection(_Section):
    """Where models come from and results go; asked in this order, after the local directory."""

    relays: tuple[Annotated[str, Field(pattern=r"^https?://")], ...] = ()
    token_env: str | None = None


class ExecutorSection(_Section):
    """What runs the pictures."""

    engine: Literal["diffusers", "fake"] = "diffusers"
    child: ChildSettings = Field(default_factory=ChildSettings)
    keep_traces: bool = True
    trace_budget_bytes: int = Field(default=20 * 10**9, ge=10**6)
    """Disk for kept traces; those that may still be asked for on chain are kept beyond it."""
    trace_keep_s: int = Field(default=3_600, ge=0, le=10**8)
    """How long a trace stays after its task has ended, for requesters who check by themselves."""
    share_checkpoints_s: float = Field(default=30, ge=0, le=10**6)
    """Least time between two checkpoints of a training that are put into the blob stores, for others to go on from."""
    run_backup_bytes: int = Field(default=4 << 30, ge=0)
    """Trainings with at most so many bytes of checkpoints are kept, encrypted, in the blob stores too."""
    cheat: str | None = None
    """Sell work that was not done; for tests of audits, see `executors/cheats`. It costs the stake."""
    allow_cheats: bool = False


class PolicySection(_Section):
    """What this operator takes. Prices are in base units of the fee token."""

    min_fee: Wei = Wei(0)
    min_fee_per_megapixel_step: Wei = Wei(0)
    max_pixels: int = Field(default=1024 * 1024, ge=64 * 64)
    max_steps: int = Field(default=MAX_STEPS, ge=1, le=MAX_STEPS)
    max_count: int = Field(default=MAX_COUNT, ge=1, le=MAX_COUNT)
    max_training_steps: int = Field(default=0, ge=0, le=MAX_TRAINING_STEPS)
    """Updates of one training task; 0 takes none."""
    max_training_disk_bytes: int = Field(default=64 * 10**9, ge=10**6)
    """Disk for all checkpoints of one training task, which stay until it is settled."""
    training_pace_s: float | None = Field(default=None, ge=0)
    """Seconds a megapixel-step on a base that this machine has never trained; by the kind of machine when None."""
    picture_pace_s: float | None = Field(default=None, ge=0)
    """The same of pictures, on a base that it has never drawn with."""
    dtypes: tuple[Dtype, ...] = ("fp32",)
    allow_models: tuple[str, ...] = ()
    """Model names; empty means any."""
    deny_models: tuple[str, ...] = ()
    allow_requesters: tuple[Address, ...] = ()
    """Empty means any."""
    deny_requesters: tuple[Address, ...] = ()
    fetch_unknown_models: bool = True
    """Take tasks whose model is not cached yet, some sortition steps later than nodes that have it."""
    hold_back_steps: int = Field(default=2, ge=0, le=32)
    max_waiting: int = Field(default=2, ge=1, le=256)
    """Claimed and not yet committed tasks at a time; the registry caps this too."""


class ModelSection(_Section):
    """The model cache."""

    disk_budget_bytes: int = Field(default=50 * 10**9, ge=10**6)
    prefetch: tuple[str, ...] = ()
    """Models (`name@version`) to have loaded before the first task."""
    pin: tuple[str, ...] = ()
    """Models (`name@version`) that stay whatever else is needed, once they are here."""
    prefetch_popular: int = Field(default=4, ge=0, le=64)
    """So many of the models that most tasks lately were for are fetched before they are needed; 0: none."""


class AuditSection(_Section):
    """How this node audits."""

    tick_s: float = Field(default=0.5, gt=0, le=60)
    appeal: bool = True
    """Appeal against a verdict that our own strict re-run contradicts, or, of our own work, does not share. Costs three
    challenge bonds when it is lost."""
    withdraw_at: Wei = Wei(10**18)
    """Move earned fees from the arbiter into the wallet when there are so many; 0: never."""
    disk_budget_bytes: int = Field(default=60 * 10**9, ge=10**6)
    """Disk for the states of trainings that are audited, and a quarter of it for evidence of cases that are over."""
    auditor_cheat: Literal["lazy", "always-flag", "collude", "copy", "alarm"] | None = None
    """Cheat as an auditor; for tests of audits. It costs stake."""


class NodeSettings(_Section):
    """Everything a node needs to know; see node/README.md for an example."""

    data_dir: Path
    name: str = Field(default="node", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    chain: ChainSettings | None = None
    wallet: WalletSection | None = None
    transport: TransportSection = TransportSection()
    blobs: BlobSection = BlobSection()
    executor: ExecutorSection = ExecutorSection()
    policy: PolicySection = PolicySection()
    models: ModelSection = ModelSection()
    work: bool = True
    """Claim tasks. A node with work off and audit on is a watcher."""
    audit: bool = True
    """Audit and judge other nodes' work when the beacon draws this one. Earns fees; a missed reveal costs stake."""
    audits: AuditSection = AuditSection()
    stake: Wei = Wei(0)
    """Staked when this wallet is not registered yet; 0 leaves registration to the operator."""
    tick_s: float = Field(default=0.2, gt=0, le=60)
    """How often the chain is asked for a new block while one may come; between regular blocks it is not asked."""
    progress_relay: bool = True
    settle: bool = True
    """Settle our own tasks when their window has passed; anyone else may do it too."""
    settle_batch: int = Field(default=25, ge=1, le=100)
    settle_wait_s: int = Field(default=0, ge=0, le=86_400)
    """How long a due payment may wait for others to share its transaction with."""
    status_port: Port = 0
    resend_after_s: int = Field(default=30, ge=1, le=3_600)
    """When a transaction that was sent is believed lost; more than a few blocks, less than the shortest window."""
    log_format: Literal["human", "json"] = "human"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def roles(self) -> tuple[str, ...]:
        """What this node does: `worker`, `auditor`, both, or nothing but moving its own tasks on."""
        return (("worker",) if self.work else ()) + (("auditor",) if self.audit else ())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and verify a file. Raises ConfigError that names the key, and the nearest one if it is unknown."""
        try:
            if path.stat().st_size > MAX_CONFIG_BYTES:
                raise ConfigError(f"{path.name} is larger than {MAX_CONFIG_BYTES} bytes")
            value = from_json(path.read_bytes())  # bounds its depth by itself
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path.name} cannot be read: {error}", hint="make one with: gesso node init") from error
        return cls.verified(value)

    @classmethod
    def verified(cls, value: Any) -> Self:
        """Settings from plain values. Raises ConfigError."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ConfigError("; ".join(_explain(cls, error)), hint="see node/README.md for every key") from None


def _explain(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in problem["loc"]) or "the settings"
        if problem["type"] != "extra_forbidden":
            yield f"{where}: {problem['msg']}"
            continue
        near = difflib.get_close_matches(str(problem["loc"][-1]), _keys(model, problem["loc"][:-1]), n=1)
        yield f"{where} is not a setting" + (f"; did you mean {near[0]}?" if near else "")


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        found = [kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)] if field else []
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)


def _kinds(annotation: Any) -> list[type]:
    inner = getattr(annotation, "__args__", ())
    return [kind for kind in (annotation, *inner) if isinstance(kind, type)]
