"""Node keys and peer ids. A node key names a peer and signs its gossip; it never holds funds.

A peer id is the base58 text of an identity multihash over the secp256k1 public key, so the key can be read back
out of the id. The key file holds 64 hex digits and belongs to its owner alone (mode 0600).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from gesso.transport.port import PeerId
from gesso_protocol.errors import ConfigError, EncodingInvalid

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_HEADER = bytes.fromhex("002508021221")
"""Identity multihash of 37 bytes: protobuf key type secp256k1, then 33 bytes of compressed public key."""
_PEER_ID_BYTES = len(_HEADER) + 33
_MAX_PEER_ID_TEXT = 64
_SIGN_DOMAIN = b"gesso node signature 1\x00"


class NodeKey:
    """A secp256k1 key of 32 bytes. Its `repr` does not show it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ConfigError("a node key is 32 bytes")
        self.secret = secret
        try:
            self.public_key = _coincurve().PrivateKey(secret).public_key.format(compressed=True)
        except ValueError:
            raise ConfigError("this is no secp256k1 key") from None
        self.peer_id = peer_id_of_public_key(self.public_key)

    @classmethod
    def create(cls) -> NodeKey:
        return cls(secrets.token_bytes(32))

    def sign(self, data: bytes) -> bytes:
        """64 bytes over `data`, for carriers other than gossip."""
        digest = hashlib.sha256(_SIGN_DOMAIN + data).digest()
        return bytes(_coincurve().PrivateKey(self.secret).sign_recoverable(digest, hasher=None)[:64])

    def sign_gossip(self, data: bytes) -> bytes:
        """As libp2p's pubsub signs: DER over the SHA-256 of `data`."""
        return bytes(_coincurve().PrivateKey(self.secret).sign(data))

    def __repr__(self) -> str:
        return f"NodeKey({self.peer_id})"


def verify(peer: PeerId, data: bytes, signature: bytes) -> bool:
    """Whether the holder of `peer`'s key signed `data` (see `NodeKey.sign`). Never raises for hostile input."""
    if len(signature) != 64:
        return False
    curve = _coincurve()
    digest = hashlib.sha256(_SIGN_DOMAIN + data).digest()
    try:
        public_key = curve.PublicKey(public_key_of(peer))
        encoded = _der(signature)
        return bool(public_key.verify(encoded, digest, hasher=None))
    except (ValueError, EncodingInvalid):
        return False


def verify_gossip(peer: PeerId, data: bytes, signature: bytes) -> bool:
    """The same for `NodeKey.sign_gossip`."""
    try:
        return bool(_coincurve().PublicKey(public_key_of(peer)).verify(signature, data))
    except (ValueError, EncodingInvalid):
        return False


def load_or_create_key(path: Path) -> NodeKey:
    """Reads the key file, or makes it (0600, whole or not at all). Raises ConfigError when others may read it."""
    if path.exists():
        return load_key(path)
    key = NodeKey.create()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key.secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            # Another process was faster; its key is the node's key.
            return load_key(path)
    finally:
        fresh.unlink(missing_ok=True)
    return key


def load_key(path: Path) -> NodeKey:
    """Raises ConfigError when the file is missing, readable by others, or no key."""
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigError(f"{path.name} can be read by others", hint=f"chmod 600 {path.name}")
        text = path.read_text("ascii")[:200].strip()
        secret = bytes.fromhex(text)
    except OSError as error:
        raise ConfigError(f"the node key {path.name} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path.name} holds no node key") from None
    return NodeKey(secret)


def peer_id_of_public_key(public_key: bytes) -> PeerId:
    """From a compressed secp256k1 public key of 33 bytes."""
    if len(public_key) != 33:
        raise EncodingInvalid("a compressed public key is 33 bytes")
    return PeerId(base58_encode(_HEADER + public_key))


def public_key_of(peer: PeerId) -> bytes:
    return peer_id_bytes(peer)[len(_HEADER) :]


def peer_id_bytes(peer: PeerId) -> bytes:
    """The raw form that the node registry keeps. Raises EncodingInvalid."""
    if len(peer) > _MAX_PEER_ID_TEXT:
        raise EncodingInvalid("this is too long for a peer id")
    return _checked(base58_decode(peer))


def peer_id_of_bytes(raw: bytes) -> PeerId:
    """From the raw form. Raises EncodingInvalid."""
    return PeerId(base58_encode(_checked(raw)))


def base58_encode(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    letters: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    zeros = len(raw) - len(raw.lstrip(b"\x00"))
    return "1" * zeros + "".join(reversed(letters))


def base58_decode(text: str) -> bytes:
    number = 0
    for letter in text:
        value = _VALUES.get(letter)
        if value is None:
            raise EncodingInvalid("this is no base58 text")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return b"\x00" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _checked(raw: bytes) -> bytes:
    if len(raw) != _PEER_ID_BYTES or not raw.startswith(_HEADER) or raw[len(_HEADER)] not in (2, 3):
        raise EncodingInvalid("this is no peer id of a secp256k1 key")
    return raw


def _der(signature: bytes) -> bytes:
    """coincurve verifies DER only; ours are the plain 64 bytes r and s."""

    def integer(raw: bytes) -> bytes:
        body = raw.lstrip(b"\x00") or b"\x00"
        if body[0] & 0x80:
            body = b"\x00" + body
        return b"\x02" + bytes([len(body)]) + body

    body = integer(signature[:32]) + integer(signature[32:])
    return b"\x30" + bytes([len(body)]) + body


def _coincurve() -> Any:
    # Imported late: most who import this room sign nothing, and reading peer ids needs no curve.
    import coincurve

    return coincurve
