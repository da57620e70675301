"""The test accounts that every local Ethereum chain funds. Their keys are public: never send them anything real."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth_account import Account
from eth_account.hdaccount import seed_from_mnemonic
from eth_account.hdaccount.deterministic import HDPath

PUBLIC_TEST_MNEMONIC = "test test test test test test test test test test test junk"
START_BALANCE = 10_000 * 10**18
MAX_ACCOUNTS = 1000


@dataclass(frozen=True)
class TestAccount:
    """A funded account of a local chain. The key is public knowledge, hidden from logs out of habit."""

    __test__ = False  # the name is not a test case

    address: str
    key: bytes = field(repr=False)


def known_accounts(count: int = 10) -> tuple[TestAccount, ...]:
    """The first `count` accounts of the well-known mnemonic, in the order in which anvil lists them."""
    if not 1 <= count <= MAX_ACCOUNTS:
        raise ValueError(f"a local chain has 1 to {MAX_ACCOUNTS} accounts, not {count}")
    seed = seed_from_mnemonic(PUBLIC_TEST_MNEMONIC, "")
    keys = (HDPath(f"m/44'/60'/0'/0/{index}").derive(seed) for index in range(count))
    return tuple(TestAccount(address=Account.from_key(key).address, key=bytes(key)) for key in keys)
