"""The key that pays and is paid, kept in a standard keystore v3 file. It signs; it never shows itself."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from coincurve import PrivateKey, PublicKey

from gesso.chain.keystore import decrypted
from gesso.chain.transaction import is_plain, sign
from gesso_protocol.encoding import check_depth
from gesso_protocol.errors import EncodingInvalid, WalletError
from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address

MAX_KEYSTORE_BYTES = 64 * 1024
MAX_SCRYPT_MEMORY = 512 * 1024 * 1024
MAX_PBKDF2_ROUNDS = 10_000_000
SCRYPT_ROUNDS = {"standard": 1 << 18, "light": 1 << 12}
KEY_BYTES = 32
SIGNATURE_BYTES = 65


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """Bytes ready to send, and the hash they will have on chain (0x, lower case)."""

    raw: bytes
    hash: str


class Wallet:
    """An unlocked key in memory. Unlocking costs about a second once; signing costs under a millisecond."""

    __slots__ = ("_key", "address")

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.address = _address_of(key.public_key)

    @classmethod
    def from_key(cls, key: bytes | str) -> Wallet:
        """From 32 raw bytes or their hex. Raises WalletError without repeating what it was given."""
        try:
            raw = bytes.fromhex(key.removeprefix("0x")) if isinstance(key, str) else bytes(key)
            if len(raw) != KEY_BYTES:
                raise ValueError
            return cls(PrivateKey(raw))
        except (ValueError, TypeError):
            pass
        raise WalletError("that is not a private key", hint="a key is 32 bytes, 64 hex digits")

    @classmethod
    def create(
        cls, path: Path, password: str, *, key: bytes | None = None, strength: Literal["standard", "light"] = "standard"
    ) -> Wallet:
        """Make a new key (or keep `key`) and write its keystore, readable by its owner only.

        `light` is for devnets and tests: a fraction of the work, for attackers too. Never overwrites a file.
        """
        wallet = cls.from_key(secrets.token_bytes(KEY_BYTES) if key is None else key)
        from eth_account import Account  # a second to import, and only a new wallet needs it

        document = Account.encrypt(wallet._key.secret, password, kdf="scrypt", iterations=SCRYPT_ROUNDS[strength])
        _write_new(path, json.dumps(document, indent=2) + "\n")
        return wallet

    @classmethod
    def unlock(cls, path: Path, password: str) -> Wallet:
        """Read a keystore v3 file. Raises WalletError; blocks for as long as the file's key derivation takes."""
        document = _read(path)
        try:
            wallet = cls(PrivateKey(decrypted(document, password)))
        except (ValueError, TypeError, KeyError, NotImplementedError):
            wallet = None
        if wallet is None:
            raise WalletError(f"the keystore {path.name} cannot be unlocked", hint="check the password")
        if _said_address(document) not in (None, wallet.address):
            hint = "somebody changed that file: send nothing to the address that it names"
            raise WalletError(f"the keystore {path.name} holds the key of another address than it names", hint=hint)
        return wallet

    @staticmethod
    def address_in(path: Path) -> Address | None:
        """Whose key a keystore says that it holds, which needs no password; None where it does not say. Raises
        WalletError."""
        return _said_address(_read(path))

    def sign_transaction(self, fields: Mapping[str, Any]) -> SignedTransaction:
        """Sign a transaction given in eth-account's field names."""
        if is_plain(fields):
            raw, hashed = sign(fields, self._key)
            return SignedTransaction(raw, "0x" + hashed.hex())
        from eth_account import Account

        signed = Account.from_key(self._key.secret).sign_transaction(dict(fields))
        return SignedTransaction(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())

    def sign_message(self, message: bytes) -> bytes:
        """EIP-191 personal signature: 65 bytes r, s, v."""
        return self._sign(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)

    def sign_typed(self, document: Mapping[str, Any]) -> bytes:
        """EIP-712 signature of a full typed-data document: 65 bytes r, s, v."""
        from eth_account.messages import encode_typed_data

        message = encode_typed_data(full_message=dict(document))
        return self._sign(b"\x19" + message.version + message.header + message.body)

    def derive(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose: the same from the same key on any machine, and no way back to the key."""
        return keccak256(f"gesso/wallet/derive/1/{purpose}/".encode() + self._key.secret)

    def _sign(self, message: bytes) -> bytes:
        signature = self._key.sign_recoverable(keccak256(message), hasher=None)
        return signature[:-1] + bytes([signature[-1] + 27])

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wallet does not leave its process")


def signer_of(digest: bytes, signature: bytes) -> Address | None:
    """Who signed these 32 bytes; None for a signature that nobody can have made. The inverse of `Wallet.sign_typed`."""
    if len(signature) != SIGNATURE_BYTES or signature[-1] not in (27, 28):
        return None
    recoverable = signature[:-1] + bytes([signature[-1] - 27])
    try:
        return _address_of(PublicKey.from_signature_and_message(recoverable, digest, hasher=None))
    except Exception:  # libsecp256k1's words for a signature that is none are of no one type
        return None


def _address_of(key: PublicKey) -> Address:
    return Address.from_bytes(keccak256(key.format(compressed=False)[1:])[-20:])


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEYSTORE_BYTES + 1)
    except OSError as error:
        raise WalletError(f"the keystore {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_KEYSTORE_BYTES:
        raise WalletError(f"{path.name} is too large for a keystore")
    try:
        check_depth(data)
        document = json.loads(data)
        _check_cost(document)
    except (EncodingInvalid, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WalletError(f"{path.name} is not a keystore v3 file") from error
    return dict(document)


def _said_address(document: Mapping[str, Any]) -> Address | None:
    said = document.get("address")
    try:
        return Address("0x" + said.removeprefix("0x")) if isinstance(said, str) else None
    except EncodingInvalid:
        return None


def _check_cost(document: dict[str, Any]) -> None:
    """A hostile file may ask for any amount of memory and time; take what real wallets write, and little more."""
    crypto = document.get("crypto") or document["Crypto"]
    params = crypto["kdfparams"]
    if crypto["kdf"] == "scrypt":
        rounds, block, lanes = (int(params[name]) for name in ("n", "r", "p"))
        costly = not (0 < rounds * block * 128 <= MAX_SCRYPT_MEMORY and 0 < lanes <= 16 and block > 0)
    else:
        costly = not 0 < int(params["c"]) <= MAX_PBKDF2_ROUNDS
    if costly:
        raise WalletError("the keystore asks for an unreasonable amount of work")


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # fails when the name is taken, unlike rename
    except FileExistsError:
        raise WalletError(f"{path} exists already", hint="choose another name; nothing was changed") from None
    except OSError as error:
        raise WalletError(f"the keystore {path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
