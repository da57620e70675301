"""Who may claim when, without races and without a coordinator.

Every node has a score for every task, fixed by the task's seed. It may claim once its score is at or below a threshold
that starts at "one node of the whole weight expected" and doubles every step. The contract checks the same in O(1).
"""

from __future__ import annotations

from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, TaskId

MAX_SCORE = 2**256 - 1
SEED_BYTES = 16


def seed_bytes(seed: int) -> bytes:
    """The chain's uint128 seed as the 16 bytes that are hashed."""
    if not 0 <= seed < 1 << 128:
        raise EncodingInvalid("a sortition seed fits 128 bits")
    return seed.to_bytes(SEED_BYTES, "big")


def score(seed: bytes, task: TaskId, node: Address) -> int:
    """uint256(keccak256(seed(16) ++ task(32) ++ node(20))); smaller is earlier."""
    if len(seed) != SEED_BYTES:
        raise EncodingInvalid("a sortition seed is 16 bytes")
    return int.from_bytes(keccak256(seed + task.value + node.raw), "big")


def threshold(total_weight: int, weight: int, elapsed_s: int, step_s: int) -> int:
    """Highest score that may claim `elapsed_s` seconds after the submit.

    (2^256-1) // total_weight * weight, doubled every `step_s` seconds, saturating at 2^256-1.
    No weight or no total: 0, and `may_claim` says no.
    """
    if step_s < 1:
        raise EncodingInvalid("a sortition step is at least one second")
    if weight <= 0 or total_weight <= 0:
        return 0
    start = MAX_SCORE // total_weight * weight
    doublings = max(elapsed_s, 0) // step_s
    if start == 0:
        return 0
    if doublings >= 256 or start > MAX_SCORE >> doublings:
        return MAX_SCORE
    return start << doublings


def may_claim(score_: int, total_weight: int, weight: int, elapsed_s: int, step_s: int) -> bool:
    """Whether a node with this score and weight may claim now. A node without weight never may."""
    return weight > 0 and total_weight > 0 and score_ <= threshold(total_weight, weight, elapsed_s, step_s)


def may_claim_at(score_: int, total_weight: int, weight: int, step_s: int) -> int | None:
    """Seconds after the submit from which `may_claim` holds; None for a node that never may (no weight)."""
    if weight <= 0 or total_weight <= 0 or not 0 <= score_ <= MAX_SCORE:
        return None
    start = MAX_SCORE // total_weight * weight
    if start == 0:
        return None if score_ else 0
    # The fewest doublings that bring `start` up to the score: at least the difference of their lengths less one.
    doublings = max(score_.bit_length() - start.bit_length(), 0)
    return (doublings + (start << doublings < score_)) * step_s
