"""Keystores: standard, private, bounded, and silent about what they hold."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path
from typing import Literal

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from gesso.chain.wallet import MAX_KEYSTORE_BYTES, Wallet
from gesso_protocol.errors import WalletError

KEY = bytes(range(1, 33))


def test_what_was_created_can_be_unlocked_and_signs_as_itself(tmp_path: Path) -> None:
    made = Wallet.create(tmp_path / "deep" / "wallet.json", "secret", strength="light")
    again = Wallet.unlock(tmp_path / "deep" / "wallet.json", "secret")
    assert again.address == made.address
    signature = again.sign_message(b"hello")
    assert Account.recover_message(encode_defunct(primitive=b"hello"), signature=signature) == made.address


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_what_others_wrote_is_unlocked_by_its_password_alone(tmp_path: Path, kdf: Literal["scrypt", "pbkdf2"]) -> None:
    document = Account.encrypt(KEY, "pässword", kdf=kdf, iterations=1 << 10)
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(document))
    assert Wallet.unlock(path, "pässword").address == Account.from_key(KEY).address
    with pytest.raises(WalletError, match="cannot be unlocked"):
        Wallet.unlock(path, "password")


def test_whose_keystore_it_is_can_be_read_without_its_password(tmp_path: Path) -> None:
    made = Wallet.create(tmp_path / "wallet.json", "secret", strength="light")
    assert Wallet.address_in(tmp_path / "wallet.json") == made.address
    document = json.loads((tmp_path / "wallet.json").read_text())
    for said in (None, 7, "", "0x12", ["00" * 20]):
        (tmp_path / "silent.json").write_text(json.dumps(document | {"address": said}))
        assert Wallet.address_in(tmp_path / "silent.json") is None
        assert Wallet.unlock(tmp_path / "silent.json", "secret").address == made.address
    with pytest.raises(WalletError, match="cannot be read"):
        Wallet.address_in(tmp_path / "none.json")


def test_a_keystore_that_names_another_address_is_not_used(tmp_path: Path) -> None:
    document = Account.encrypt(KEY, "x", kdf="pbkdf2", iterations=1 << 10)
    (tmp_path / "changed.json").write_text(json.dumps(document | {"address": "11" * 20}))
    with pytest.raises(WalletError, match="another address than it names"):
        Wallet.unlock(tmp_path / "changed.json", "x")


@pytest.mark.parametrize(
    ("place", "value"),
    [("cipher", "aes-256-ctr"), ("ciphertext", ""), ("ciphertext", "zz"), ("ciphertext", 7), ("mac", "00" * 32),
     ("kdf", "argon2"), ("cipherparams", {}), ("cipherparams", {"iv": "00"})],
    ids=str,
)  # fmt: skip
def test_a_damaged_file_is_a_wallet_error(tmp_path: Path, place: str, value: object) -> None:
    document = Account.encrypt(KEY, "x", kdf="pbkdf2", iterations=1 << 10)
    document["crypto"][place] = value  # type: ignore[literal-required]
    (tmp_path / "damaged.json").write_text(json.dumps(document))
    with pytest.raises(WalletError):
        Wallet.unlock(tmp_path / "damaged.json", "x")


def test_the_file_is_keystore_v3_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    Wallet.create(path, "secret", key=KEY, strength="light")
    document = json.loads(path.read_text())
    assert document["version"] == 3
    assert document["crypto"]["kdf"] == "scrypt"
    assert KEY.hex() not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_wallet_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    Wallet.create(path, "secret", strength="light")
    before = path.read_bytes()
    with pytest.raises(WalletError, match="exists already"):
        Wallet.create(path, "other", strength="light")
    assert path.read_bytes() == before


def test_the_wrong_password_says_nothing_of_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    Wallet.create(path, "correct horse", strength="light")
    with pytest.raises(WalletError, match="cannot be unlocked") as caught:
        Wallet.unlock(path, "battery staple")
    assert "battery" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("key", ["", "0x12", b"\x00" * 32, b"\xff" * 32, "zz" * 32, b"short"])
def test_what_is_no_key_is_refused_and_not_repeated(key: bytes | str) -> None:
    with pytest.raises(WalletError) as caught:
        Wallet.from_key(key)
    assert caught.value.message == "that is not a private key"
    assert caught.value.__cause__ is None


def test_a_wallet_does_not_show_or_pickle_its_key() -> None:
    wallet = Wallet.from_key(KEY)
    assert KEY.hex() not in repr(wallet) + str(wallet)
    assert repr(wallet) == f"Wallet({wallet.address})"
    with pytest.raises(TypeError):
        pickle.dumps(wallet)


def scrypt(**changes: object) -> dict[str, object]:
    params = {"dklen": 32, "n": 4096, "p": 1, "r": 8, "salt": "00" * 32} | changes
    crypto = {"cipher": "aes-128-ctr", "cipherparams": {"iv": "00" * 16}, "ciphertext": "00" * 32}
    return {"version": 3, "crypto": crypto | {"kdf": "scrypt", "kdfparams": params, "mac": "00" * 32}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"crypto": 5}',
        b"[" * 60_000,
        b"x" * (MAX_KEYSTORE_BYTES + 1),
        json.dumps(scrypt(n=2**30)).encode(),
        json.dumps(scrypt(r=2**20)).encode(),
        json.dumps(scrypt(p=10**6)).encode(),
        json.dumps(scrypt(n="many")).encode(),
        json.dumps(scrypt()).encode(),
    ],
)
def test_a_hostile_file_is_refused_before_it_costs_anything(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wallet.json"
    path.write_bytes(content)
    with pytest.raises(WalletError):
        Wallet.unlock(path, "secret")


def test_a_missing_file_is_a_wallet_error(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="cannot be read"):
        Wallet.unlock(tmp_path / "none.json", "secret")
