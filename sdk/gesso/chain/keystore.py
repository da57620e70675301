"""Opening a keystore v3 file, as every command with a wallet does, without the second that eth-account imports for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from Crypto.Cipher import AES

from gesso_protocol.hashing import keccak256

DERIVED_BYTES = 32
KEY_BYTES = 32
SCRYPT_MARGIN = 1 << 20


def decrypted(document: Mapping[str, Any], password: str) -> bytes:
    """The key inside. Raises ValueError, TypeError or KeyError for a wrong password or anything that is not version 3;
    what the file asks for in work must have been bounded before."""
    if document["version"] != 3:
        raise ValueError("not a version 3 keystore")
    crypto = document.get("crypto") or document["Crypto"]
    derived = _derived(crypto["kdf"], crypto["kdfparams"], password.encode())
    sealed = _bytes(crypto["ciphertext"])
    if not hmac.compare_digest(keccak256(derived[16:32] + sealed), _bytes(crypto["mac"])):
        raise ValueError("the password is wrong")
    if crypto["cipher"] != "aes-128-ctr":
        raise ValueError("an unknown cipher")
    start = _bytes(crypto["cipherparams"]["iv"])
    key = bytes(AES.new(derived[:16], AES.MODE_CTR, nonce=b"", initial_value=start).decrypt(sealed))
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return key


def _derived(kind: str, params: Mapping[str, Any], password: bytes) -> bytes:
    size, salt = int(params["dklen"]), _bytes(params["salt"])
    if size != DERIVED_BYTES:
        raise ValueError("an unknown length of the derived key")
    if kind == "scrypt":
        rounds, block, lanes = (int(params[name]) for name in ("n", "r", "p"))
        most = 128 * block * (rounds + lanes) + SCRYPT_MARGIN
        return hashlib.scrypt(password, salt=salt, n=rounds, r=block, p=lanes, maxmem=most, dklen=size)
    if kind == "pbkdf2" and params["prf"] == "hmac-sha256":
        return hashlib.pbkdf2_hmac("sha256", password, salt, int(params["c"]), size)
    raise ValueError("an unknown key derivation")


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("not hexadecimal text")
    return bytes.fromhex(text.removeprefix("0x"))
