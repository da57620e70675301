"""What a beacon decides: the same by hand, uniform, and out of anybody's reach."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol import sortition
from gesso_protocol.audit.challenge import (
    audit_commitment,
    challenge,
    checks_of,
    draw_seed,
    input_slots,
    jury_entropy,
    may_audit,
    may_judge,
    picked,
    profile_id,
    rate_bps,
    seat_at,
    steps_to_check,
    vote_commitment,
)
from gesso_protocol.audit.compare import tensor
from gesso_protocol.audit.projection import pack, project, unpack
from gesso_protocol.audit.rules import AuditRules
from gesso_protocol.errors import EncodingInvalid
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address, Root, TaskId
from gesso_protocol.terms import AuditMode
from gesso_protocol.trace import Layout, LeafKind, Slot

RULES = AuditRules()
TASK, NODE = TaskId(b"\x01" * 32), Address("0x" + "22" * 20)
words = st.binary(min_size=32, max_size=32)
sizes = st.tuples(st.integers(1, 16), st.integers(1, 200), st.integers(1, 5))


def rows() -> list[dict[str, Any]]:
    columns = json.loads((Path(__file__).parents[3] / "vectors" / "audit.json").read_text())
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.mark.parametrize("row", rows())
def test_vectors_by_hand(row: dict[str, Any]) -> None:
    roots = keccak256(encode(["bytes32", "bytes32"], [raw(row["resultRoot"]), raw(row["traceRoot"])]))
    commitment = int.from_bytes(roots, "big") % 2**184
    drawn = keccak256(encode(["bytes32", "bytes32", "uint184"], [raw(row["seed"]), raw(row["taskId"]), commitment]))
    assert drawn == raw(row["challenge"])
    low = int.from_bytes(drawn[24:], "big") % 10_000
    passed, fee = int(row["passed"], 16), int(row["fee"], 16)
    assert row["rateBps"] == (2000 if passed < 100 else 500 if passed < 1000 else 200)
    always = row["mode"] == 1 or (row["mode"] == 0 and fee >= RULES.large_fee)
    assert row["picked"] == (row["mode"] != 2 and (always or low < row["rateBps"]))
    entropy = keccak256(encode(["bytes32", "bytes32", "uint8"], [raw(row["seed"]), raw(row["taskId"]), row["level"]]))
    assert entropy == raw(row["juryEntropy"])
    for source, seats, at in ((drawn, row["auditorSeats"], row["auditorFrom"]),
                              (entropy, row["jurySeats"], row["jurorFrom"])):  # fmt: skip
        score = int.from_bytes(keccak256(bytes(6) + source[22:] + raw(row["taskId"]) + raw(row["wallet"])), "big")
        total = int(row["totalWeight"], 16)
        start = (2**256 - 1) // total * min(total, row["weight"] * seats)
        step = row["auditStep"] if source is drawn else row["juryStep"]
        assert score <= min(2**256 - 1, start << at // step)
        assert at == 0 or score > start << at // step - 1
        if source is drawn:
            assert row["byLot"] == (score <= start << RULES.lot_doublings)
    parts = [raw(row["taskId"]), row["wallet"], raw(row["projection"]), raw(row["salt"])]
    sealed = encode(["bytes32", "address", "bytes32", "bytes32"], parts)
    assert drawn[-10:] + bytes(12) + keccak256(sealed)[-10:] == raw(row["auditCommitment"])
    types = ["bytes32", "uint8", "address", "uint8", "bytes32"]
    vote = encode(types, [raw(row["taskId"]), row["level"], row["wallet"], row["vote"], raw(row["salt"])])
    assert keccak256(vote) == raw(row["voteCommitment"])
    assert keccak256(row["profile"].encode()) == raw(row["profileId"])
    checks = [tuple(map(int, place.split("/"))) for place in row["checks"].split()]
    assert len(set(checks)) == min(row["k"], row["images"] * row["steps"]) == len(checks)
    data = raw(row["outputs"])
    outputs = [tensor(data[:24], (1, 6)), tensor(data[24:], (1, 6))]
    assert pack(project(drawn, outputs)) == raw(row["projection"])
    packed = raw(row["projection"])
    first = int.from_bytes(packed[:2], "big", signed=True)
    assert unpack(packed)[0] == first


def test_the_vectors_meet_every_case() -> None:
    found = rows()
    assert {row["picked"] for row in found} == {True, False}
    assert {row["rateBps"] for row in found} == {2000, 500, 200}
    assert {row["k"] for row in found} >= {1, 2, 3}
    assert {row["byLot"] for row in found} == {True, False}


@given(seed=words, result=words, trace=words)
def test_every_input_changes_the_challenge(seed: bytes, result: bytes, trace: bytes) -> None:
    if seed in (bytes(32), b"\xff" * 32) or result == trace:
        return
    made = challenge(seed, TASK, Root(result), Root(trace))
    others = [
        challenge(b"\xff" * 32, TASK, Root(result), Root(trace)),
        challenge(seed, TaskId(b"\x02" * 32), Root(result), Root(trace)),
        challenge(seed, TASK, Root(trace), Root(result)),
    ]
    assert made not in others


@given(drawn=words, size=sizes)
def test_steps_are_distinct_and_in_the_trace(drawn: bytes, size: tuple[int, int, int]) -> None:
    images, steps, k = size
    checks = steps_to_check(drawn, images, steps, k)
    assert len(set(checks)) == len(checks) == min(k, images * steps)
    assert list(checks) == sorted(checks)
    assert all(0 <= image < images and 0 <= step < steps for image, step in checks)


def test_every_pair_of_steps_is_equally_likely() -> None:
    trials = 9000
    found = Counter(steps_to_check(keccak256(str(i).encode()), 2, 3, 2) for i in range(trials))
    expected = trials / 15
    assert set(found) == set(itertools.combinations([(i, s) for i in range(2) for s in range(3)], 2))
    chi_square = sum((count - expected) ** 2 / expected for count in found.values())
    assert chi_square < 36.1  # 99.9 % of 14 degrees of freedom


@pytest.mark.parametrize(
    ("images", "steps", "large", "k"),
    [(1, 1, False, 1), (1, 8, False, 1), (2, 4, False, 1), (1, 9, False, 2), (1, 1, True, 1), (1, 2, True, 2),
     (1, 30, True, 3), (16, 200, False, 2)],
)  # fmt: skip
def test_how_many_steps(images: int, steps: int, large: bool, k: int) -> None:
    assert checks_of(images, steps, large=large) == k


@given(drawn=words, size=sizes)
def test_inputs_stand_in_the_trace_and_give_no_output_away(drawn: bytes, size: tuple[int, int, int]) -> None:
    images, steps, k = size
    checks = steps_to_check(drawn, images, steps, k)
    layout = Layout(images, steps, guided=True)
    slots = input_slots(checks)
    assert len(set(slots)) == len(slots) <= 3 + k
    assert all(layout.slot_at(layout.position(slot)) == slot for slot in slots)
    assert not {slot.kind for slot in slots} & {LeafKind.COND, LeafKind.UNCOND, LeafKind.RGB, LeafKind.FILE}
    for image, step in checks:
        assert (Slot(LeafKind.NOISE, image) if step == 0 else Slot(LeafKind.LATENT, image, step - 1)) in slots


def test_rates_fall_as_trust_grows() -> None:
    assert [rate_bps(passed, RULES) for passed in (0, 99, 100, 999, 1000, 10**6)] == [2000, 2000, 500, 500, 200, 200]


def test_a_rate_is_a_frequency() -> None:
    drawn = [keccak256(str(i).encode()) for i in range(20_000)]
    for passed, rate in ((0, 0.2), (100, 0.05), (1000, 0.02)):
        share = sum(picked(one, AuditMode.SAMPLED, 1, passed, RULES) for one in drawn) / len(drawn)
        assert abs(share - rate) < 5 * (rate * (1 - rate) / len(drawn)) ** 0.5


@given(drawn=words, passed=st.integers(0, 2**32 - 1), fee=st.integers(0, 2**96 - 1))
def test_always_and_never(drawn: bytes, passed: int, fee: int) -> None:
    assert picked(drawn, AuditMode.ALWAYS, fee, passed, RULES)
    assert not picked(drawn, AuditMode.NONE, fee, passed, RULES)
    assert picked(drawn, AuditMode.SAMPLED, int(RULES.large_fee), passed, RULES)


def test_two_auditors_are_expected_at_once() -> None:
    wallets = [Address.from_bytes(keccak256(str(i).encode())[:20]) for i in range(50)]
    at_once = []
    for number in range(400):
        drawn = keccak256(b"c%d" % number)
        at_once.append(sum(may_audit(drawn, TASK, wallet, 1, 50, 0, RULES) for wallet in wallets))
    assert np.mean(at_once) == pytest.approx(2.0, abs=0.3)


@given(drawn=words, weight=st.integers(0, 100), extra=st.integers(0, 1000), elapsed=st.integers(0, 10**5))
def test_seats_open_once_and_stay_open(drawn: bytes, weight: int, extra: int, elapsed: int) -> None:
    total = weight + extra
    since = seat_at(drawn, TASK, NODE, weight, total, 2, RULES.audit_step_s)
    assert (since is None) == (weight == 0)
    assert may_audit(drawn, TASK, NODE, weight, total, elapsed, RULES) == (since is not None and elapsed >= since)


def test_a_whole_network_of_one_is_drawn_at_once() -> None:
    assert seat_at(b"\xff" * 32, TASK, NODE, 5, 5, 2, 30) == 0


def test_juries_of_both_levels_differ() -> None:
    seed = b"\x05" * 32
    assert jury_entropy(seed, TASK, 0) != jury_entropy(seed, TASK, 1)
    assert may_judge(jury_entropy(seed, TASK, 0), TASK, NODE, 10, 10, 0, 0, RULES)
    scores = {sortition.score(draw_seed(jury_entropy(seed, TASK, level)), TASK, NODE) for level in (0, 1)}
    assert len(scores) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: challenge(bytes(32), TASK, Root(bytes(32)), Root(bytes(32))),
        lambda: challenge(b"short", TASK, Root(bytes(32)), Root(bytes(32))),
        lambda: steps_to_check(bytes(32), 0, 1, 1),
        lambda: steps_to_check(bytes(32), 17, 1000, 1),
        lambda: steps_to_check(bytes(32), 1, 1, 0),
        lambda: draw_seed(b""),
        lambda: jury_entropy(bytes(32), TASK, 2),
        lambda: jury_entropy(bytes(31), TASK, 0),
        lambda: audit_commitment(bytes(32), TASK, NODE, bytes(31), bytes(32)),
        lambda: audit_commitment(bytes(32), TASK, NODE, bytes(32), bytes(31)),
        lambda: audit_commitment(bytes(31), TASK, NODE, bytes(32), bytes(32)),
        lambda: vote_commitment(TASK, 0, NODE, 256, bytes(32)),
        lambda: vote_commitment(TASK, 2, NODE, 1, bytes(32)),
    ],
)
def test_refused(call: Any) -> None:
    with pytest.raises(EncodingInvalid):
        call()


def test_profiles_have_ids() -> None:
    assert profile_id("fp32/cpu-x86_64") == keccak256(b"fp32/cpu-x86_64")
