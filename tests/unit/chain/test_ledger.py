"""The embedded chain's rules, without its network front: pool, blocks, time, snapshots, reorganisations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.chain.wallet import Wallet
from gesso_devnet.chain.accounts import known_accounts
from gesso_devnet.chain.evm import Message, TransactionError
from gesso_devnet.chain.ledger import Ledger
from gesso_protocol.ids import Address

GWEI = 10**9
RICH = 10**20
ALICE, BOB = (Wallet.from_key(account.key) for account in known_accounts(2))
# PUSH1 0 SLOAD, PUSH1 1 ADD, DUP1, PUSH1 0 SSTORE, PREVRANDAO, LOG1 of nothing: counts, and logs the random word.
COUNTER = bytes.fromhex("60005460010160005544600060 00a1".replace(" ", ""))
DEPLOY = bytes.fromhex(f"60{len(COUNTER):02x}600c60003960{len(COUNTER):02x}6000f3") + COUNTER


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return fresh(clock)


def fresh(clock: Clock, *, automine: bool = False) -> Ledger:
    balances = {bytes.fromhex(wallet.address[2:]): RICH for wallet in (ALICE, BOB)}
    return Ledger(chain_id=31337, balances=balances, clock=clock, automine=automine)


def raw(nonce: int, *, to: bytes | str = BOB.address, data: bytes = b"", value: int = 0, **changes: Any) -> bytes:
    fields: dict[str, object] = {
        "type": 2,
        "chainId": 31337,
        "nonce": nonce,
        "to": to,
        "data": data,
        "value": value,
        "gas": 200_000,
        "maxFeePerGas": 10 * GWEI,
        "maxPriorityFeePerGas": GWEI,
    }
    return ALICE.sign_transaction(fields | changes).raw


def key(wallet: Wallet) -> bytes:
    return wallet.address.raw


def test_transactions_wait_for_their_turn_whatever_order_they_came_in(ledger: Ledger) -> None:
    for nonce in (2, 0, 3, 1):
        ledger.submit(raw(nonce))
    assert ledger.pending_nonce(key(ALICE)) == 4
    block = ledger.mine()
    assert [entry.tx.nonce for entry in block.transactions] == [0, 1, 2, 3]
    assert len(ledger.pool) == 0


def test_a_gap_holds_back_what_is_behind_it(ledger: Ledger) -> None:
    ledger.submit(raw(1))
    assert ledger.mine().transactions == ()
    assert ledger.pending_nonce(key(ALICE)) == 0
    ledger.submit(raw(0))
    assert [entry.tx.nonce for entry in ledger.mine().transactions] == [0, 1]


@settings(deadline=None)
@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_a_block_takes_exactly_the_unbroken_run(order: list[int], missing: set[int]) -> None:
    ledger = fresh(Clock())
    for nonce in order:
        if nonce not in missing:
            ledger.submit(raw(nonce))
    run = min(missing, default=8)
    assert [entry.tx.nonce for entry in ledger.mine().transactions] == list(range(run))
    assert len(ledger.pool) == len(set(range(8)) - missing) - run


def test_replacements_must_pay_a_tenth_more(ledger: Ledger) -> None:
    first = ledger.submit(raw(0))
    with pytest.raises(TransactionError, match="underpriced"):
        ledger.submit(raw(0, value=1, maxFeePerGas=10 * GWEI + 1))
    second = ledger.submit(raw(0, value=1, maxFeePerGas=11 * GWEI, maxPriorityFeePerGas=11 * GWEI // 10))
    assert ledger.pool.get(first.hash) is None
    assert [entry.tx.hash for entry in ledger.mine().transactions] == [second.hash]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chainId": 1}, "invalid chain id"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"gas": 40_000_000}, "exceeds block gas limit"),
        ({"value": RICH}, "insufficient funds"),
        ({"maxPriorityFeePerGas": 11 * GWEI}, "max priority fee"),
        ({"nonce": 5000}, "nonce too high"),
    ],
)
def test_what_can_never_be_mined_is_refused_at_the_door(ledger: Ledger, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TransactionError, match=message):
        ledger.submit(raw(changes.pop("nonce", 0), **changes))
    assert len(ledger.pool) == 0


def test_replays_are_refused(ledger: Ledger) -> None:
    ledger.submit(raw(0))
    with pytest.raises(TransactionError, match="already imported"):
        ledger.submit(raw(0))
    ledger.mine()
    with pytest.raises(TransactionError, match="already known"):
        ledger.submit(raw(0))
    with pytest.raises(TransactionError, match="nonce too low"):
        ledger.submit(raw(0, value=1))


def test_what_pays_less_than_the_base_fee_waits(ledger: Ledger) -> None:
    ledger.submit(raw(0, maxFeePerGas=GWEI // 2, maxPriorityFeePerGas=1))
    assert ledger.mine().transactions == ()
    for _ in range(8):  # empty blocks lower the base fee by an eighth each
        ledger.mine()
    assert len(ledger.pool) == 0


def test_a_full_block_leaves_the_rest_for_the_next(ledger: Ledger) -> None:
    for nonce in range(3):
        ledger.submit(raw(nonce, gas=14_000_000))
    assert [len(ledger.mine().transactions) for _ in range(2)] == [3, 0]
    for nonce in range(3, 6):
        ledger.submit(raw(nonce, gas=29_990_000))
    assert [len(ledger.mine().transactions) for _ in range(3)] == [1, 1, 1]


def test_money_is_conserved_less_what_gas_burns(ledger: Ledger) -> None:
    ledger.submit(raw(0, value=12_345))
    block = ledger.mine()
    (entry,) = block.transactions
    state = ledger.state_at(block)
    assert state.get_balance(key(BOB)) == RICH + 12_345
    assert state.get_balance(key(ALICE)) == RICH - 12_345 - entry.done.gas_used * entry.gas_price
    assert state.get_balance(bytes(20)) == entry.done.gas_used * (entry.gas_price - block.env.base_fee)


def test_the_random_word_differs_from_block_to_block(ledger: Ledger) -> None:
    ledger.submit(raw(0, to="", data=DEPLOY))
    where = ledger.mine().transactions[0].done.created
    assert where is not None
    words = set()
    for nonce in range(1, 6):
        ledger.submit(raw(nonce, to=Address.from_bytes(where)))
        (entry,) = ledger.mine().transactions
        words.add(entry.done.logs[0].topics[0])
    assert len(words) == 5
    assert ledger.state_at(ledger.head).get_storage(where, 0) == 5
    assert ledger.state_at(ledger.block(3)).get_storage(where, 0) == 2


def test_an_estimate_is_enough_and_not_much_more(ledger: Ledger) -> None:
    deployment = Message(sender=key(ALICE), to=b"", data=DEPLOY, value=0, gas=30_000_000)
    gas, done = ledger.estimate(deployment, ledger.head)
    assert done.success
    ledger.submit(raw(0, to="", data=DEPLOY, gas=gas))
    (entry,) = ledger.mine().transactions
    assert entry.done.success
    assert entry.done.gas_used <= gas <= entry.done.gas_used * 1.1 + 2_300


def test_time_follows_the_clock_and_the_tests_hand(ledger: Ledger, clock: Clock) -> None:
    clock.now += 10
    assert ledger.mine().timestamp == 1_700_000_010
    ledger.shift_time(100)
    assert ledger.mine().timestamp == 1_700_000_110
    assert ledger.mine(1_700_009_999).timestamp == 1_700_009_999
    assert ledger.mine().timestamp == 1_700_009_999  # never backwards
    with pytest.raises(ValueError, match="must not be before"):
        ledger.mine(5)


def test_a_snapshot_brings_back_blocks_pool_and_clock(ledger: Ledger) -> None:
    ledger.submit(raw(0, value=7))
    saved = ledger.snapshot()
    later = ledger.snapshot()
    ledger.shift_time(1000)
    mined = ledger.mine()
    assert ledger.revert(saved)
    assert ledger.head.number == 0
    assert ledger.find(mined.transactions[0].tx.hash) is None
    assert len(ledger.pool) == 1
    assert ledger.mine().timestamp == 1_700_000_000
    assert not ledger.revert(saved)
    assert not ledger.revert(later)


def test_a_reorganisation_changes_hashes_and_loses_what_was_mined(ledger: Ledger) -> None:
    ledger.mine()
    ledger.submit(raw(0, value=7))
    old = [ledger.mine(), ledger.mine()]
    ledger.reorganise(2)
    new = [ledger.block(2), ledger.block(3)]
    assert {block.hash for block in old}.isdisjoint(block.hash for block in new)
    assert [block.timestamp for block in old] == [block.timestamp for block in new]
    assert new[1].parent == new[0].hash
    assert ledger.state_at(ledger.head).get_nonce(key(ALICE)) == 0
    ledger.reorganise(1, [(raw(0, value=9), 0)])
    assert ledger.state_at(ledger.head).get_balance(key(BOB)) == RICH + 9
    with pytest.raises(ValueError, match="deeper"):
        ledger.reorganise(9)
