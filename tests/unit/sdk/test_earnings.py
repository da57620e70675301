"""An account's books, event by event: what is counted, for whom, and how a difference shows."""

from __future__ import annotations

from typing import Any

from gesso.chain import audit_events as audits
from gesso.chain import events as on_chain
from gesso.earnings.books import Books
from gesso.earnings.statement import statement
from gesso_protocol.ids import ZERO_ADDRESS, Address, BlobRef, ListingId, TaskId
from gesso_protocol.money import Wei
from gesso_protocol.terms import AuditMode, Terms

ME, OTHER, HOME = (Address("0x" + pair * 20) for pair in ("11", "22", "33"))
PLACE: dict[str, Any] = {"block": 1, "block_hash": "0x" + "00" * 32, "log_index": 0, "tx_hash": "0x" + "00" * 32}
TASKS = [TaskId(bytes([number]) * 32) for number in range(1, 6)]
AUDIT_FEE = 7


def terms(requester: Address, fee: int, audit: AuditMode = AuditMode.SAMPLED) -> Terms:
    return Terms(
        requester=requester, fee=Wei(fee), spec=BlobRef.of(b"spec"), model=ListingId(1), claim_window_s=60,
        commit_window_s=60, nonce=1, audit=audit,
    )  # fmt: skip


def submit(task: TaskId, made: Terms) -> object:
    return on_chain.TaskSubmitted(task=task, requester=made.requester, terms=made, seed=1, at=1, **PLACE)


def settle(task: TaskId, node: Address, paid: int, protocol: int = 3) -> object:
    return on_chain.TaskSettled(
        task=task,
        node=node,
        paid=Wei(paid),
        royalty=Wei(0),
        royalty_to=ZERO_ADDRESS,
        protocol_fee=Wei(protocol),
        **PLACE,
    )


def books(*events: object, account: Address = ME, treasury: Address = HOME) -> Books:
    made = Books(account, AUDIT_FEE, treasury, HOME)
    for event in events:
        made.take(event)
    return made


def test_a_requester_pays_and_gets_back() -> None:
    mine, always = terms(ME, 100), terms(ME, 100, AuditMode.ALWAYS)
    found = books(
        on_chain.Deposited(account=ME, amount=Wei(1000), **PLACE),
        on_chain.Deposited(account=OTHER, amount=Wei(5), **PLACE),
        submit(TASKS[0], mine),
        submit(TASKS[1], always),
        submit(TASKS[2], mine),
        submit(TASKS[3], terms(OTHER, 50)),
        settle(TASKS[0], OTHER, 90),
        on_chain.TaskCancelled(task=TASKS[1], refund=Wei(100), **PLACE),
        on_chain.AuditFeeReturned(task=TASKS[1], amount=Wei(AUDIT_FEE), **PLACE),
        on_chain.TaskRestReturned(task=TASKS[2], refund=Wei(40), **PLACE),
        on_chain.TaskExpired(task=TASKS[3], node=ME, refund=Wei(50), **PLACE),
        on_chain.Withdrawn(account=ME, amount=Wei(1), **PLACE),
    )
    assert found.board_balance == 1000 - 100 - 100 - AUDIT_FEE - 100 + 100 + AUDIT_FEE + 40 - 1
    assert found.tasks_done == 0


def test_a_node_a_publisher_an_auditor_and_a_juror() -> None:
    found = books(
        on_chain.NodeRegistered(node=ME, peer_id=b"p", capabilities=bytes(32), stake=Wei(500), **PLACE),
        on_chain.NodeStakeChanged(node=ME, stake=Wei(600), **PLACE),
        settle(TASKS[0], ME, 90),
        settle(TASKS[1], OTHER, 90),
        on_chain.RoyaltyPaid(listing=ListingId(4), owner=ME, amount=Wei(11), **PLACE),
        on_chain.RoyaltyPaid(listing=ListingId(4), owner=OTHER, amount=Wei(11), **PLACE),
        audits.Credited(account=ME, amount=Wei(20), reason=1, **PLACE),
        audits.Credited(account=ME, amount=Wei(30), reason=2, **PLACE),
        audits.Credited(account=ME, amount=Wei(5), reason=99, **PLACE),
        audits.CreditWithdrawn(account=ME, amount=Wei(25), **PLACE),
        on_chain.NodeSlashed(node=ME, amount=Wei(50), beneficiary=HOME, **PLACE),
        audits.AuditorPenalised(task=TASKS[2], auditor=ME, amount=Wei(50), reason=1, **PLACE),
        on_chain.NodeSlashed(node=ME, amount=Wei(70), beneficiary=HOME, **PLACE),
    )
    shown = statement(found, {4: "me/zbx@1"}, block=9, balance=101, stake=480, credit=30)
    assert shown.reconciled
    assert dict(shown.earned) == {"node pay": 90, "royalties": 11, "auditor fee": 20, "juror fee": 30}
    assert dict(shown.royalties) == {"me/zbx@1": 11}
    assert dict(shown.penalties) == {"found guilty": 70, "as auditor": 50}
    assert (shown.total_earned, shown.total_lost, shown.tasks) == (151, 120, 1)


def test_a_stake_that_left_and_came_back() -> None:
    register = on_chain.NodeRegistered(node=ME, peer_id=b"p", capabilities=bytes(32), stake=Wei(500), **PLACE)
    found = books(register, on_chain.NodeStakeWithdrawn(node=ME, amount=Wei(500), **PLACE), register)
    assert (found.stake_held, found.stake["staked"], found.stake["unstaked"]) == (500, 1000, -500)


def test_the_arbiters_own_account() -> None:
    asked = terms(OTHER, 100, AuditMode.ALWAYS)
    found = books(
        submit(TASKS[0], asked),
        on_chain.TaskHeld(task=TASKS[0], release_at=9, **PLACE),
        submit(TASKS[1], terms(OTHER, 100)),
        on_chain.TaskHeld(task=TASKS[1], release_at=9, **PLACE),
        settle(TASKS[0], OTHER, 90, protocol=3),
        on_chain.Withdrawn(account=HOME, amount=Wei(10), **PLACE),
        account=HOME,
    )
    assert found.board_balance == AUDIT_FEE + 3 - 10


def test_a_base_unit_too_much_shows() -> None:
    found = books(settle(TASKS[0], ME, 90))
    shown = statement(found, {}, block=1, balance=91, stake=0, credit=None)
    assert not shown.reconciled
    assert [check.difference for check in shown.checks] == [1, 0]
    assert shown.document()["books"]["board"]["difference in base units"] == 1
