"""A network whose audits are drawn by drand: nodes fetch the round, check it, and prove it on chain when it counts."""

from __future__ import annotations

import pytest
from audit_acts import ALWAYS, RULES, arbiter_of, ended, filing_of, happened, order, outcome, said
from drand_stage import sign, signing, staged

from gesso.chain import deploy
from gesso.chain.audit_events import AuditOpened, SeedFixed
from gesso_devnet import Devnet
from gesso_protocol import drand
from gesso_protocol.audit.challenge import challenge
from gesso_protocol.audit.outcomes import AuditOutcome, AuditVerdict
from gesso_protocol.lifecycle import TaskState

pytestmark = pytest.mark.anyio
assert RULES.audits is not None
SLOW = {"audit_commit_window_s": 130, "audit_reveal_window_s": 60}
DRAWN = RULES.model_copy(
    update={
        "beacon": "drand",
        "drand_lag_s": 0,
        "drand_stride": 2,
        "challenge_window_s": 120,
        "hold_window_s": 600,
        "unbonding_period_s": 600,
        "audits": RULES.audits.model_copy(update=SLOW),
    }
)
"""The embedded chain computes pairings in Python, a second each and nothing beside. Audits end when all is said."""


async def test_an_audit_is_drawn_by_a_round_of_drand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "DRAND_BEACON", staged())
    async with (
        signing() as (url, asked),
        Devnet.open(nodes=1, watchers=2, rules=DRAWN, audit_rate=ALWAYS, drand_urls=["http://127.0.0.1:9", url]) as net,
    ):
        assert await arbiter_of(net).is_drand()
        task = await order(net, "a lighthouse at the source of randomness")
        assert await ended(net, task) is TaskState.SETTLED
        assert await outcome(net, task) is AuditOutcome.PASSED
        assert set((await said(net, task)).values()) == {AuditVerdict.PASS}
        told = await happened(net)
        (fixed,) = (event for event in told if isinstance(event, SeedFixed))
        assert fixed.seed == drand.seed_of(sign(2 * fixed.round))
        assert set(asked) == {2 * fixed.round}
        (opened,) = (event for event in told if isinstance(event, AuditOpened))
        filing = await filing_of(net, task)
        assert opened.challenge == challenge(fixed.seed, task, filing.result_root, filing.trace_root)
        assert await net.balanced()
