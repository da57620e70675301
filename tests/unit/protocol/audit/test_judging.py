"""Errors, projections, limits and verdicts: what passes, what is flagged, and what may slash."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso_protocol.audit.compare import (
    Branches,
    StepErrors,
    branch_error,
    guided_error,
    residual_cosine,
    rgb_error,
    step_errors,
    tensor,
)
from gesso_protocol.audit.envelope import Look
from gesso_protocol.audit.limits import STRICT, Limit, LimitsTable, shipped_limits
from gesso_protocol.audit.outcomes import AuditVerdict, Ballot, Vote
from gesso_protocol.audit.projection import NOTHING, differ, outputs_of, pack, project, unpack
from gesso_protocol.audit.transitions import Transition, TransitionReport
from gesso_protocol.audit.verdict import Decision, Fault, Inspection, Verdict, judge, projection_wrong, vote
from gesso_protocol.errors import EncodingInvalid

RNG = np.random.default_rng(11)
SHAPE = (1, 4, 8, 8)
LIMIT = shipped_limits().row("fp32/cpu-x86_64", STRICT)
LOOSE = LIMIT.model_copy(update={"calibrated": False})
FINE = StepErrors(0, 3, 2e-6, 1e-6, 4e-6)


def noise(size: float = 1.0) -> Any:
    return (RNG.normal(size=SHAPE) * size).astype(np.float32)


def test_relative_errors() -> None:
    own = noise()
    assert branch_error(own, own) == 0
    assert branch_error(own, own * np.float32(1.01)) == pytest.approx(0.01, rel=1e-3)
    assert branch_error(own, np.zeros_like(own)) == pytest.approx(1)
    assert branch_error(own, own.reshape(1, -1)) == math.inf
    assert branch_error(np.zeros_like(own), own) == math.inf
    for broken in (math.nan, math.inf):
        spoilt = own.copy()
        spoilt[0, 0, 0, 0] = broken
        assert branch_error(own, spoilt) == math.inf


def test_a_push_on_both_branches_shows_in_the_guided_sum() -> None:
    cond, uncond, push = noise(), noise(), noise(1e-3)
    own, theirs = Branches(cond, uncond), Branches(cond + push, uncond - push)
    assert max(branch_error(cond, cond + push), branch_error(uncond, uncond - push)) < 2e-3
    assert guided_error(own, theirs, 7.5) > 1e-3 * 14 / 11
    assert guided_error(own, Branches(cond, None), 7.5) == math.inf
    found = step_errors(1, 2, own, theirs, 7.5)
    assert (found.image, found.step) == (1, 2)
    assert found.branch == max(found.cond, found.uncond) < found.guided
    assert step_errors(0, 0, Branches(cond), Branches(cond), 1.0) == StepErrors(0, 0, 0, 0, 0)
    assert step_errors(0, 0, own, Branches(cond), 7.5).uncond == math.inf


def test_steady_pushes_are_correlated_and_rounding_is_not() -> None:
    push = noise(0.1)
    a, b = noise(), noise()
    assert residual_cosine((a, a + push), (b, b + push)) > 0.99
    assert abs(residual_cosine((a, a + noise(0.1)), (b, b + noise(0.1)))) < 0.3
    assert residual_cosine((a, a), (b, b + push)) == 0


def test_pictures_are_compared_in_grey_levels() -> None:
    assert rgb_error(bytes([0, 10, 255]), bytes([0, 13, 250])) == (5, pytest.approx(8 / 3))
    assert rgb_error(b"", b"") == (255, 255.0)
    assert rgb_error(b"12", b"123") == (255, 255.0)


def test_tensors_from_bytes() -> None:
    assert tensor(np.array([1, 2], "<f4").tobytes(), (2, 1)).tolist() == [[1.0], [2.0]]
    for data, shape in ((b"1234", (2,)), (b"", (0,)), (b"1234", (-1, -1))):
        with pytest.raises(EncodingInvalid):
            tensor(data, shape)


def test_honest_machines_agree_and_idle_ones_do_not() -> None:
    challenge = b"\x05" * 32
    outputs = [noise(), noise()]
    one = project(challenge, outputs)
    other = project(challenge, [output + 1e-3 * noise() for output in outputs])
    assert 0 < differ(one, other) < 64
    assert differ(one, project(challenge, [noise(), noise()])) > 4096
    assert differ(one, project(b"\x06" * 32, outputs)) > 4096
    assert differ(one, NOTHING) > 4096
    assert np.std(one) == pytest.approx(4096, rel=0.35)


def test_a_projection_ignores_scale_and_survives_nonsense() -> None:
    challenge = bytes(31) + b"\x01"
    output = noise()
    assert differ(project(challenge, [output]), project(challenge, [output * np.float32(8)])) <= 1
    assert project(challenge, [np.zeros(3, np.float32)]) == NOTHING
    assert project(challenge, [np.full(3, np.nan, np.float32)]) == NOTHING
    with pytest.raises(EncodingInvalid):
        project(challenge, [])
    assert outputs_of([Branches(output, output), Branches(output)]) == (output, output, output)


@given(values=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=16, max_size=16))
def test_projections_pack(values: list[int]) -> None:
    packed = pack(values)
    assert len(packed) == 32
    assert unpack(packed) == tuple(values)
    assert int.from_bytes(packed[:2], "big", signed=True) == values[0]


@pytest.mark.parametrize("bad", [(0,) * 15, (2**15,) + (0,) * 15, (-(2**15) - 1,) + (0,) * 15])
def test_what_does_not_pack(bad: tuple[int, ...]) -> None:
    with pytest.raises(EncodingInvalid):
        pack(bad)
    with pytest.raises(EncodingInvalid):
        unpack([bytes(32)] * 3)


def test_votes_have_numbers() -> None:
    codes = set()
    for ballot in Ballot:
        for wrong in ((False, False), (True, False), (False, True), (True, True)):
            made = Vote(ballot, wrong)
            assert Vote.of(made.code) == made
            codes.add(made.code)
    assert len(codes) == 12
    assert Vote(Ballot.BAD, (True, False)).code == 6
    for code in (0, 4, 8, 12, 16, -1):
        with pytest.raises(EncodingInvalid):
            Vote.of(code)


def test_the_shipped_table() -> None:
    table = shipped_limits()
    assert LimitsTable.decode(table.encode()) == table
    assert LIMIT.calibrated
    assert LIMIT.tau_hard == pytest.approx(1e-4)
    for row in table.rows:
        assert row.tau_soft_ppb <= row.tau_hard_ppb <= row.guided_ppb


def test_unknown_profiles_are_never_calibrated() -> None:
    table = shipped_limits()
    unknown = table.row("fp16/unheard-of", STRICT)
    assert not unknown.calibrated
    assert unknown.tau_hard == max(row.tau_hard for row in table.rows if row.profile.startswith("fp16/"))
    assert not table.row("fp32/cpu-x86_64", "fp32/unheard-of").calibrated
    assert not table.row("nonsense", "fp32/cpu-x86_64").calibrated


def test_two_machines_get_the_wider_limit() -> None:
    rows = shipped_limits().rows
    one, other = rows[0], rows[-1]
    both = LimitsTable(rows=rows).row(one.profile, other.profile)
    assert both.tau_hard_ppb == max(one.tau_hard_ppb, other.tau_hard_ppb)
    with pytest.raises(ValidationError):
        Limit(**{**one.model_dump(), "profile": "fp8/x"})


def test_an_honest_task_passes() -> None:
    made = judge(Inspection(LIMIT, steps=(FINE,), embeddings=(1e-7, 0.0), rgb=(1,)))
    assert made.passed
    assert made.decision.reveal is AuditVerdict.PASS
    assert made.max_error_of_limit == pytest.approx(0.5)
    assert vote(made) is Ballot.GOOD


CLEAN = Inspection(LIMIT, steps=(FINE,))


@pytest.mark.parametrize(
    ("juror", "ballot"),
    [("fp32/cpu-x86_64", Ballot.BAD), ("fp32/cuda-sm90", Ballot.BAD), ("fp32/rocm-gfx90a", Ballot.CANNOT_TELL),
     ("fp32/cuda-sm120", Ballot.CANNOT_TELL), ("fp32/cpu-aarch64", Ballot.CANNOT_TELL)],
)  # fmt: skip
def test_a_juror_whose_device_nobody_has_measured_cannot_tell(juror: str, ballot: Ballot) -> None:
    limit = shipped_limits().for_juror("fp32/cpu-x86_64", juror)
    assert vote(judge(replace(CLEAN, limit=limit, steps=(replace(FINE, cond=0.01),)))) is ballot
    assert limit.tau_hard == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (replace(CLEAN, steps=(replace(FINE, cond=2e-4),)), Fault.BRANCH),
        (replace(CLEAN, steps=(replace(FINE, uncond=math.inf),)), Fault.BRANCH),
        (replace(CLEAN, steps=(replace(FINE, guided=math.nan),)), Fault.GUIDED),
        (replace(CLEAN, steps=(FINE, replace(FINE, guided=3e-4))), Fault.GUIDED),
        (replace(CLEAN, embeddings=(0.0, 0.5)), Fault.EMBEDDING),
        (replace(CLEAN, rgb=(0, 200)), Fault.DECODE),
    ],
)
def test_measured_faults_slash_where_limits_are_calibrated(found: Inspection, fault: Fault) -> None:
    made = judge(found)
    assert made.decision is Decision.FLAG
    assert fault in {reason.fault for reason in made.reasons}
    assert made.slashable
    assert vote(made) is Ballot.BAD
    scored = judge(replace(found, limit=LOOSE))
    assert scored.decision is Decision.FLAG
    assert not scored.slashable
    assert vote(scored) is Ballot.CANNOT_TELL


def transition(arithmetic: float, strange: float = 0.0, step: int = 5) -> Transition:
    return Transition(0, step, arithmetic, Look(0.5, 1.0, 1.0, 1.0, 1.0, 0.1), strange)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (replace(CLEAN, noise_wrong=(1,)), Fault.NOISE),
        (replace(CLEAN, manifest_wrong="another model"), Fault.MANIFEST),
        (replace(CLEAN, opening_wrong="a bundle that is none"), Fault.OPENING),
        (replace(CLEAN, files_wrong=(0,)), Fault.FILE),
        (replace(CLEAN, transitions=TransitionReport((transition(1e-3),))), Fault.ARITHMETIC),
        (replace(CLEAN, transitions=TransitionReport((transition(math.nan),))), Fault.ARITHMETIC),
    ],
)
def test_exact_faults_need_no_limit(found: Inspection, fault: Fault) -> None:
    made = judge(replace(found, limit=LOOSE))
    assert [reason.fault for reason in made.reasons] == [fault]
    assert made.slashable
    assert vote(made) is Ballot.BAD
    # they count even where the model cannot be run
    assert judge(replace(found, steps=(), cannot_run="no memory")).decision is Decision.FLAG


def test_withholding_is_fraud() -> None:
    made = judge(Inspection(LOOSE, withheld=True))
    assert made.decision.reveal is AuditVerdict.WITHHELD
    assert vote(made) is Ballot.BAD


def test_looks_alone_never_flag_but_ask_for_more() -> None:
    report = TransitionReport((transition(1e-7, 2.0, 4), transition(1e-7, 9.0, 6), transition(1e-7, 0.0, 7)))
    made = judge(replace(CLEAN, transitions=report))
    assert made.passed
    assert made.recheck == ((0, 6), (0, 4))
    again = judge(replace(CLEAN, steps=(FINE, replace(FINE, step=6), replace(FINE, step=4)), transitions=report))
    assert again.passed
    assert again.recheck == ()


def test_whoever_ran_nothing_cannot_tell() -> None:
    made = judge(Inspection(LIMIT, cannot_run="the model is gone"))
    assert made.decision is Decision.CANNOT_TELL
    assert made.decision.reveal is None
    assert vote(made) is Ballot.CANNOT_TELL


def test_a_steady_push_has_half_the_room() -> None:
    hidden = replace(CLEAN, steps=(replace(FINE, cond=7e-5), replace(FINE, step=9, cond=7e-5)))
    assert judge(hidden).passed
    assert judge(replace(hidden, residual_cosine=0.9)).decision is Decision.FLAG


def test_jurors_judge_projections_of_those_who_had_something_to_run() -> None:
    assert projection_wrong(300, 256, AuditVerdict.PASS)
    assert projection_wrong(300, 256, AuditVerdict.FLAG)
    assert not projection_wrong(256, 256, AuditVerdict.PASS)
    assert not projection_wrong(20_000, 256, AuditVerdict.WITHHELD)


errors = st.floats(min_value=0, allow_infinity=True) | st.just(math.nan)


@given(cond=errors, guided=errors, levels=st.integers(0, 255), cosine=st.floats(-1, 1), calibrated=st.booleans())
def test_judging_is_total(cond: float, guided: float, levels: int, cosine: float, calibrated: bool) -> None:
    limit = LIMIT if calibrated else LOOSE
    step = StepErrors(0, 0, 0.0, cond, guided)
    made: Verdict = judge(Inspection(limit, steps=(step,), rgb=(levels,), residual_cosine=cosine))
    assert made.passed == (made.reasons == ())
    assert made.passed == (made.max_error_of_limit <= 1)
    assert (vote(made) is Ballot.BAD) <= calibrated
