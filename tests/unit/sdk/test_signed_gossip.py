"""Gossip messages in libp2p's bytes: what the library signs we can check, what we sign it accepts, the rest falls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX, signature_validator

from gesso.transport.keys import NodeKey, peer_id_bytes
from gesso.transport.port import MAX_GOSSIP_BYTES
from gesso.transport.signed import MAX_TOPIC_TEXT, Signed
from gesso_protocol.errors import EncodingInvalid

KEY = NodeKey(b"\x07" * 32)
TOPIC = "gesso/test/1"
WORDS = Signed.by(KEY, TOPIC, b"some words").encode()


@given(st.binary(max_size=300), st.text(min_size=1, max_size=30))
def test_the_library_accepts_what_we_sign(data: bytes, topic: str) -> None:
    ours = Signed.by(KEY, topic, data)
    theirs = rpc_pb2.Message.FromString(ours.encode())
    assert signature_validator(theirs)
    assert (theirs.data, list(theirs.topicIDs)) == (data, [topic])
    assert Signed.decode(ours.encode()) == ours


@pytest.mark.parametrize("with_key", [True, False])
def test_we_accept_what_the_library_signs(with_key: bool) -> None:
    pair = create_new_key_pair(KEY.secret)
    message = rpc_pb2.Message(
        data=b"theirs", topicIDs=[TOPIC], from_id=peer_id_bytes(KEY.peer_id), seqno=b"\x00" * 7 + b"\x01"
    )
    signature = pair.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.signature = signature
    if with_key:
        message.key = pair.public_key.serialize()
    read = Signed.decode(message.SerializeToString())
    assert (read.peer, read.topic, read.data) == (KEY.peer_id, TOPIC, b"theirs")


@given(st.data())
def test_a_message_with_any_byte_changed_or_missing_is_refused(data: st.DataObject) -> None:
    raw = bytearray(WORDS)
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= data.draw(st.integers(1, 255))
    else:
        del raw[at]
    with pytest.raises(EncodingInvalid):
        Signed.decode(bytes(raw))


@given(st.binary(max_size=200))
def test_rubbish_is_refused(raw: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        Signed.decode(raw)


@pytest.mark.parametrize(("topic", "data"), [("t" * (MAX_TOPIC_TEXT + 1), b""), (TOPIC, b"x" * (MAX_GOSSIP_BYTES + 1))])
def test_what_exceeds_the_limits_of_gossip_is_refused(topic: str, data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        Signed.decode(Signed.by(KEY, topic, data).encode())
