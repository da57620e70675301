"""What follows from a beacon: whether a task is audited, at which steps, and who may audit and judge it.

The challenge is fixed by a beacon round that lies after the commit, so nobody knows it while the roots are chosen.
Solidity computes the same from the same bytes (`tests/vectors/audit.json`).
"""

from __future__ import annotations

from collections.abc import Iterable

from gesso_protocol import sortition
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256, word
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.money import BPS
from gesso_protocol.terms import AuditMode
from gesso_protocol.trace import LeafKind, Slot

FEW_STEPS = 8
SEAL_BYTES = 10
"""So much an arbiter keeps of a seal, and of the challenge that it is for."""
_STEPS = b"gesso/audit/1/steps"
_MAX_TRANSITIONS = 16 * 1000


def challenge(seed: bytes, task: TaskId, result_root: Root, trace_root: Root) -> bytes:
    """keccak256(abi.encode(seed, task, commitment of the roots)); 32 bytes from which all else is drawn."""
    if len(seed) != 32 or seed == bytes(32):
        raise EncodingInvalid("a beacon's seed has 32 bytes that are not all zero")
    return keccak256(seed + task.value + word(commitment_of(result_root, trace_root)))


def commitment_of(result_root: Root, trace_root: Root) -> int:
    """uint184(uint256(keccak256(abi.encode(resultRoot, traceRoot)))): what the board's word keeps of two roots."""
    return int.from_bytes(keccak256(result_root.value + trace_root.value)[9:], "big")


def rate_bps(passed: int, rules: AuditRules) -> int:
    """How many tasks in ten thousand of a node are audited, by its audits passed since its last fault."""
    if passed < rules.vetting_audits:
        return rules.vetting_rate_bps
    return rules.steady_rate_bps if passed < rules.trusted_audits else rules.trusted_rate_bps


def picked(challenge_: bytes, mode: AuditMode, fee: int, passed: int, rules: AuditRules) -> bool:
    """Whether the task is audited without anybody asking for it."""
    if mode is AuditMode.NONE:
        return False
    if mode is AuditMode.ALWAYS or fee >= rules.large_fee:
        return True
    return int.from_bytes(challenge_[-8:], "big") % BPS < rate_bps(passed, rules)


def checks_of(images: int, steps: int, *, large: bool = False) -> int:
    """How many transitions of a trace are run again: 1 of at most eight, else 2, or 3 for a large fee."""
    if large:
        return min(3, images * steps)
    return 1 if images * steps <= FEW_STEPS else 2


def steps_to_check(challenge_: bytes, images: int, steps: int, k: int) -> tuple[tuple[int, int], ...]:
    """`k` distinct (image, step), every set of them equally likely, in rising order; all when there are fewer."""
    total = images * steps
    if not 1 <= total <= _MAX_TRANSITIONS or k < 1:
        raise EncodingInvalid("a trace has 1 to 16000 transitions, of which at least one is checked")
    chosen: list[int] = []
    for draw in range(min(k, total)):
        at = int.from_bytes(keccak256(_STEPS + challenge_ + word(draw)), "big") % (total - draw)
        for taken in sorted(chosen):
            at += taken <= at
        chosen.append(at)
    return tuple(divmod(at, steps) for at in sorted(chosen))


def input_slots(checks: Iterable[tuple[int, int]]) -> tuple[Slot, ...]:
    """The leaves that phase `inputs` opens: manifest, embeddings, and what each checked step starts from."""
    starts = {Slot(LeafKind.LATENT, image, step - 1) if step else Slot(LeafKind.NOISE, image) for image, step in checks}
    fixed = (Slot(LeafKind.MANIFEST), Slot(LeafKind.EMBEDDING, 0, 0), Slot(LeafKind.EMBEDDING, 0, 1))
    return (*fixed, *sorted(starts, key=lambda slot: (slot.image, slot.kind is not LeafKind.NOISE, slot.step)))


def draw_seed(entropy: bytes) -> bytes:
    """The 16 bytes that sortition hashes: uint128(uint80(uint256(entropy))), as much of it as an audit's word keeps."""
    if len(entropy) != 32:
        raise EncodingInvalid("a draw has 32 bytes of entropy")
    return bytes(6) + entropy[22:]


def seat_at(
    entropy: bytes, task: TaskId, wallet: Address, weight: int, total_weight: int, seats: int, step_s: int
) -> int | None:
    """Seconds after the round's start from which this wallet may take one of `seats` seats; None: it never may.

    The same threshold as for claims, for a weight `seats` times as large (at most the whole): that many are expected
    at once.
    """
    mine = sortition.score(draw_seed(entropy), task, wallet)
    return sortition.may_claim_at(mine, total_weight, min(weight * seats, total_weight), step_s)


def may_audit(
    challenge_: bytes, task: TaskId, wallet: Address, weight: int, total_weight: int, elapsed_s: int, rules: AuditRules
) -> bool:
    """Whether this wallet may commit an audit `elapsed_s` after its round. Node and requester never may."""
    since = seat_at(challenge_, task, wallet, weight, total_weight, rules.auditor_seats, rules.audit_step_s)
    return since is not None and elapsed_s >= since


def by_lot(
    challenge_: bytes, task: TaskId, wallet: Address, weight: int, total_weight: int, rules: AuditRules
) -> bool:  # fmt: skip
    """Whether this auditor's seat is one that chance gave it, whenever it came, and not one that nobody else took."""
    since = seat_at(challenge_, task, wallet, weight, total_weight, rules.auditor_seats, rules.audit_step_s)
    return since is not None and since <= rules.lot_doublings * rules.audit_step_s


def jury_entropy(seed: bytes, task: TaskId, level: int) -> bytes:
    """keccak256(abi.encode(seed, task, level)): what draws the committee of a dispute."""
    if len(seed) != 32 or level not in (0, 1):
        raise EncodingInvalid("a committee is drawn by a 32-byte seed for level 0 or 1")
    return keccak256(seed + task.value + word(level))


def may_judge(
    entropy: bytes, task: TaskId, wallet: Address, weight: int, total_weight: int, elapsed_s: int, level: int,
    rules: AuditRules,
) -> bool:  # fmt: skip
    """Whether this wallet may commit a vote `elapsed_s` after the dispute's round began."""
    since = seat_at(entropy, task, wallet, weight, total_weight, rules.seats(level), rules.jury_step_s)
    return since is not None and elapsed_s >= since


def audit_commitment(challenge_: bytes, task: TaskId, auditor: Address, projection: bytes, salt: bytes) -> bytes:
    """Ten bytes of the challenge, twelve zeros, ten of keccak256(abi.encode(task, auditor, projection, salt)), the last
    ten of each: what was sealed for other parts is refused its seat. The projection is its 32 packed bytes."""
    if len(projection) != 32 or len(salt) != 32 or len(challenge_) != 32:
        raise EncodingInvalid("a packed projection has 32 bytes, and so have a salt and a challenge")
    sealed = keccak256(task.value + word(int(auditor, 16)) + projection + salt)
    return challenge_[-SEAL_BYTES:] + bytes(32 - 2 * SEAL_BYTES) + sealed[-SEAL_BYTES:]


def vote_commitment(task: TaskId, level: int, juror: Address, vote: int, salt: bytes) -> bytes:
    """keccak256(abi.encode(task, level, juror, vote, salt))."""
    if len(salt) != 32 or not 0 <= vote < 256 or level not in (0, 1):
        raise EncodingInvalid("a vote is one byte, a level 0 or 1, a salt 32 bytes")
    return keccak256(task.value + word(level) + word(int(juror, 16)) + word(vote) + salt)


def profile_id(key: str) -> bytes:
    """keccak256 of a limits table's key: the bytes32 that the arbiter counts slashes by."""
    return keccak256(key.encode("ascii"))
