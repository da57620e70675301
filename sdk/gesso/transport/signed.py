"""One gossip message as its author signed it, in the bytes that libp2p uses (pubsub's `Message`).

Whoever holds the bytes can check the author, whoever passed them on: that is what lets a relay carry gossip for users
who have only HTTP, without being trusted. Ours are signed with secp256k1 keys, which can be read out of the peer id.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from gesso.transport.keys import NodeKey, peer_id_bytes, peer_id_of_bytes, verify_gossip
from gesso.transport.port import MAX_GOSSIP_BYTES, PeerId
from gesso_protocol.errors import EncodingInvalid

MAX_TOPIC_TEXT = 128
MAX_SIGNED_BYTES = MAX_GOSSIP_BYTES + 512
_PREFIX = b"libp2p-pubsub:"
_SEQNO_BYTES = 8
_MAX_SIGNATURE_BYTES = 80
_FROM, _DATA, _SEQNO, _TOPIC, _SIGNATURE, _KEY = range(1, 7)


@dataclass(frozen=True, slots=True)
class Signed:
    """`peer` says `data` on `topic`; `seqno` makes it another message than the one before."""

    peer: PeerId
    topic: str
    seqno: bytes
    data: bytes
    signature: bytes

    @classmethod
    def by(cls, key: NodeKey, topic: str, data: bytes) -> Signed:
        """A new message in the name of the key's peer."""
        seqno = secrets.token_bytes(_SEQNO_BYTES)
        said = _said(peer_id_bytes(key.peer_id), data, seqno, topic)
        return cls(key.peer_id, topic, seqno, data, key.sign_gossip(_PREFIX + said))

    @classmethod
    def decode(cls, raw: bytes) -> Signed:
        """Reads bytes from a stranger and checks who signed them. Raises EncodingInvalid."""
        if len(raw) > MAX_SIGNED_BYTES:
            raise EncodingInvalid("this is too long for a signed message")
        fields = _fields(raw)
        try:
            author, seqno = fields[_FROM], fields[_SEQNO]
            topic, signature = fields[_TOPIC].decode(), fields[_SIGNATURE]
        except (KeyError, UnicodeDecodeError):
            raise EncodingInvalid("a signed message has an author, a number, a topic and a signature") from None
        data = fields.get(_DATA, b"")
        if len(seqno) != _SEQNO_BYTES or len(topic) > MAX_TOPIC_TEXT or len(data) > MAX_GOSSIP_BYTES:
            raise EncodingInvalid("a signed message exceeds the limits of gossip")
        message = cls(peer_id_of_bytes(author), topic, seqno, data, signature)
        said = _PREFIX + _said(author, data, seqno, topic)
        if len(signature) > _MAX_SIGNATURE_BYTES or not verify_gossip(message.peer, said, signature):
            raise EncodingInvalid("this message is not signed by the peer that it names")
        return message

    def encode(self) -> bytes:
        said = _said(peer_id_bytes(self.peer), self.data, self.seqno, self.topic)
        return said + _field(_SIGNATURE, self.signature)


def _said(author: bytes, data: bytes, seqno: bytes, topic: str) -> bytes:
    return _field(_FROM, author) + _field(_DATA, data) + _field(_SEQNO, seqno) + _field(_TOPIC, topic.encode())


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _fields(raw: bytes) -> dict[int, bytes]:
    """The fields of a protobuf message whose fields are all byte strings, each at most once."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        number, kind = raw[at] >> 3, raw[at] & 7
        length, at = _read_varint(raw, at + 1)
        if kind != 2 or number in fields or not _FROM <= number <= _KEY or at + length > len(raw):
            raise EncodingInvalid("this is no signed message")
        fields[number] = raw[at : at + length]
        at += length
    return fields


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in (0, 7, 14):
        if at >= len(raw):
            break
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
    raise EncodingInvalid("this is no signed message")
