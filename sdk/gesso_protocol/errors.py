"""Everything that can go wrong, in one tree. Foreign errors are mapped to these at the border where they appear.

    GessoError                      exit
    ├── UsageError                     2   the caller asked for something that makes no sense
    │   ├── SpecInvalid                2   a task spec breaks a rule
    │   └── MissingExtra               3   an optional part of the package is not installed
    ├── EncodingInvalid                2   bytes from outside are not what the protocol says they are
    ├── ConfigError                    3   settings
    ├── WalletError                    3   keystore, password, key
    ├── InsufficientFunds              4   not enough fee token or gas money
    │   ├── FeeTooLow                  4   no node works for this price
    │   └── GasMissing                 4   the wallet lacks the chain's own coin
    ├── TaskFailed                     5   the task ended without a result
    │   ├── NoEligibleNode             5   nobody on the network can run it
    │   ├── WorkRejected               5   an audit went against the node; the fee is back, or burned in doubt
    │   ├── DeliveryContradicted       5   the node committed to another result than it delivered
    │   ├── ShareContradicted          5   the node asks to be paid for more of a training than it did
    │   └── StateDoubtful              5   a lost node says that it came further than can be believed
    ├── DeadlinePassed                 6   too late
    ├── TooEarly                       6   not yet; the message says in how long
    ├── Unreachable                    7   the other side does not answer
    │   └── BlobMissing                7   nobody has these bytes
    ├── BlobError                      5
    │   ├── BlobCorrupt                5   bytes do not hash to their name
    │   └── BlobTooLarge               5   more bytes than allowed
    ├── DiskFull                       5   our own disk has no room, whoever serves the bytes
    ├── ChainError                     7
    │   ├── ChainReverted              5   a contract said no, by name
    │   └── NonceConflict              7   two senders share one wallet
    ├── TransportError                 7
    │   ├── MessageTooLarge            7
    │   ├── RateLimited                7
    │   └── PeerUnreachable            7
    └── ExecutorError                  5
        ├── ExecutorCrashed            5
        ├── ExecutorOutOfMemory        5
        ├── ExecutorTimeout            5
        └── ModelInvalid               5

`code` is stable and kebab-case; `message` is one sentence for a person; `hint` says what to do next.
Exit codes: 0 ok, 1 bug, 2 usage, 3 config or wallet, 4 funds, 5 task failed, 6 deadline, 7 unreachable.
Parts add classes of their own below these leaves; those with a code stand in `sdk/ERRORS.md` beside all of the above.
"""

# ruff: noqa: N818 - the names say what is wrong; a suffix on each leaf would say nothing more

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar


class GessoError(Exception):
    """Root of the tree. Catch this to catch everything that gesso raises on purpose."""

    code: ClassVar[str] = "error"
    default_message: ClassVar[str] = "something went wrong"
    default_hint: ClassVar[str] = "run it again with GESSO_DEBUG=1 and report what you see"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message if message is not None else self.default_message
        self.hint = hint if hint is not None else self.default_hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class UsageError(GessoError, ValueError):
    """The caller asked for something that makes no sense."""

    code = "usage"
    default_message = "this cannot be done as asked"
    default_hint = "see --help for what is possible"
    exit_code = 2


class SpecInvalid(UsageError):
    """A task spec breaks a rule of the protocol."""

    code = "spec-invalid"
    default_message = "the task spec breaks a rule"
    default_hint = "correct the named field; the limits are in PROTOCOL.md"


class MissingExtra(UsageError):
    """An optional part of the package is needed and not installed."""

    code = "missing-extra"
    exit_code = 3

    def __init__(self, extra: str, *, message: str | None = None) -> None:
        self.extra = extra
        super().__init__(
            message if message is not None else f"this needs the optional part '{extra}'",
            hint=f"pip install 'gesso[{extra}]'",
        )


class EncodingInvalid(GessoError, ValueError):
    """Bytes from outside are malformed, too large or not canonical."""

    code = "encoding-invalid"
    default_message = "the bytes are not a valid gesso document"
    default_hint = "the sender is broken or hostile; nothing was kept"
    exit_code = 2


class ConfigError(GessoError):
    """A setting is missing, unknown or wrong."""

    code = "config-invalid"
    default_message = "a setting is wrong"
    default_hint = "correct the named setting and start again"
    exit_code = 3


class WalletError(GessoError):
    """The keystore is missing, damaged or locked."""

    code = "wallet"
    default_message = "the wallet cannot be used"
    default_hint = "check the keystore path and the password, or make one with: gesso wallet new"
    exit_code = 3


class InsufficientFunds(GessoError):
    """The account cannot pay for what was asked."""

    code = "insufficient-funds"
    default_message = "the balance does not cover this"
    default_hint = "add funds with: gesso wallet deposit AMOUNT"
    exit_code = 4


class FeeTooLow(InsufficientFunds):
    """No node works for the offered fee, or the board demands more."""

    code = "fee-too-low"
    default_message = "the offered fee is below what is asked"
    default_hint = "raise --max-fee, or ask for fewer steps or pixels"


class GasMissing(InsufficientFunds):
    """The wallet lacks the chain's own coin, which every transaction costs."""

    code = "gas-missing"
    default_message = "the wallet cannot pay for gas"
    default_hint = "send some of the chain's own coin to the wallet"


class TaskFailed(GessoError):
    """The task ended without a result; an escrowed fee is refunded."""

    code = "task-failed"
    default_message = "the task ended without a result"
    default_hint = "the fee is refunded when the task expires; submit it again"
    exit_code = 5


class NoEligibleNode(TaskFailed):
    """No active node can run this task."""

    code = "no-eligible-node"
    default_message = "no node on the network can run this task"
    default_hint = "choose another model or a smaller size, or wait for nodes: gesso node ls"


class WorkRejected(TaskFailed):
    """Auditors or jurors did not accept the work, and what was delivered is not to be trusted. The fee is refunded
    where jurors found it bad, and burned where they left it in doubt."""

    code = "work-rejected"
    default_message = "an audit went against the node; the fee is back in the deposit, or burned if in doubt"
    default_hint = "order again; the node that cheated has lost stake"


class DeliveryContradicted(TaskFailed):
    """The chain shows another result than the one that the node signed and handed over."""

    code = "delivery-contradicted"
    default_message = "the node committed to another result than it delivered"
    default_hint = "do not pay this node again; its signature proves it: gesso task audit TASK --challenge"


class ShareContradicted(TaskFailed):
    """The share of a training that the node committed on chain is not what its own result says was done."""

    code = "share-contradicted"
    default_message = "the node committed another share of the training than it did"
    default_hint = "bring it before jurors before it is paid: gesso task audit TASK --challenge"


class StateDoubtful(TaskFailed):
    """A training's node was lost, and what it says of how far it came is too good to be believed."""

    code = "state-doubtful"
    default_message = "the lost node says that it came further than can be believed"
    default_hint = "go on from its checkpoint all the same: gesso train --resume TASK --trust-state"


class DeadlinePassed(GessoError):
    """A window closed before the step was done."""

    code = "deadline-passed"
    default_message = "the deadline has passed"
    default_hint = "submit again with a longer window"
    exit_code = 6


class TooEarly(GessoError):
    """Something that the rules allow a little later."""

    code = "too-early"
    default_message = "it is too early for that"
    default_hint = "wait a moment and try again"
    exit_code = 6


class Unreachable(GessoError):
    """The other side does not answer."""

    code = "unreachable"
    default_message = "the other side does not answer"
    default_hint = "check the address and your network, then try again"
    exit_code = 7


class BlobMissing(Unreachable):
    """Nobody who was asked has these bytes."""

    code = "blob-missing"
    default_message = "the blob was not found"
    default_hint = "wait for its owner to come back, or name another source"


class BlobError(GessoError):
    """Root of what can be wrong with a blob's bytes."""

    code = "blob"
    default_message = "the bytes cannot be taken as they are"
    default_hint = "ask another source for them"
    exit_code = 5


class BlobCorrupt(BlobError):
    """Bytes do not hash to the name they were asked for by."""

    code = "blob-corrupt"
    default_message = "the bytes do not match their hash"
    default_hint = "the source is broken or lying; another source will be asked"


class BlobTooLarge(BlobError):
    """A blob exceeds the limit of the reader or the store."""

    code = "blob-too-large"
    default_message = "the blob is larger than allowed"
    default_hint = "raise the limit on purpose, or refuse the blob"


class DiskFull(GessoError):
    """There is no room on this machine's own disk. No blob and no party is at fault, so it is no BlobError."""

    code = "disk-full"
    exit_code = 5
    default_message = "this disk has no room for it"
    default_hint = "make room, or name a folder on another disk in the settings"


class ChainError(GessoError):
    """Root of what goes wrong between us and the chain."""

    code = "chain"
    default_message = "the chain could not be used"
    default_hint = "check the RPC address and that its chain is running"
    exit_code = 7


class ChainReverted(ChainError):
    """A contract said no. `name` is the Solidity error, `arguments` its decoded values."""

    code = "chain-reverted"
    exit_code = 5
    default_hint = "the transaction changed nothing; the error's name says why"

    def __init__(
        self, name: str, arguments: Sequence[object] = (), *, message: str | None = None, hint: str | None = None
    ) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        shown = ", ".join(str(argument) for argument in self.arguments)
        super().__init__(message if message is not None else f"the contract refused: {name}({shown})", hint=hint)


class NonceConflict(ChainError):
    """Another sender used this wallet's next transaction number."""

    code = "nonce-conflict"
    default_message = "another program is sending from the same wallet"
    default_hint = "use one wallet per process"


class TransportError(GessoError):
    """Root of what goes wrong between peers."""

    code = "transport"
    default_message = "the peer-to-peer transport failed"
    default_hint = "check that the peer port is open and the bootstrap address is right"
    exit_code = 7


class MessageTooLarge(TransportError):
    """A message exceeds the limit of its topic or protocol."""

    code = "message-too-large"
    default_message = "the message is larger than its protocol allows"
    default_hint = "put the body in a blob and send its reference"


class RateLimited(TransportError):
    """A peer asks too often, or we do."""

    code = "rate-limited"
    default_message = "too many requests"
    default_hint = "wait a moment and try again"


class PeerUnreachable(TransportError):
    """A peer cannot be dialled or does not answer in time."""

    code = "peer-unreachable"
    default_message = "the peer does not answer"
    default_hint = "it may be offline; the network carries on without it"


class ExecutorError(GessoError):
    """Root of what goes wrong while a node runs a task."""

    code = "executor"
    default_message = "the executor failed"
    default_hint = "see the node's log"
    exit_code = 5


class ExecutorCrashed(ExecutorError):
    """The executor's process died."""

    code = "executor-crashed"
    default_message = "the executor died"
    default_hint = "it is retried once before the deadline; run: gesso node doctor"


class ExecutorOutOfMemory(ExecutorError):
    """The executor ran out of memory."""

    code = "executor-out-of-memory"
    default_message = "the executor ran out of memory"
    default_hint = "lower max_pixels or max_count in the node's settings"


class ExecutorTimeout(ExecutorError):
    """The executor did not finish before the deadline."""

    code = "executor-timeout"
    default_message = "the executor did not finish in time"
    default_hint = "lower max_pixels or max_steps in the node's settings"


class ModelInvalid(ExecutorError):
    """A model folder cannot be loaded as what its manifest says."""

    code = "model-invalid"
    default_message = "the model cannot be loaded"
    default_hint = "safetensors only: a LoRA as gesso train writes it, or a base in the diffusers folder layout"


def error_tree(root: type[GessoError] = GessoError) -> Iterator[type[GessoError]]:
    """Every error class, the root first."""
    yield root
    # Adapters may refine a leaf for themselves; such a class is theirs and keeps its parent's code or names its own.
    for child in (c for c in root.__subclasses__() if c.__module__ == __name__):
        yield from error_tree(child)
