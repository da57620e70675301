"""The small parts under both transports: rates, inboxes, keys, bindings, outcomes."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import anyio
import pytest
from hostile import damaged
from hypothesis import given
from hypothesis import strategies as st

from gesso.transport import PeerId, Rate
from gesso.transport._libp2p.addresses import split_address
from gesso.transport.binding import PeerBinding
from gesso.transport.exchange import Reply, Serving, Status, answer, unwrap
from gesso.transport.inbox import Inbox
from gesso.transport.keys import (
    NodeKey,
    base58_decode,
    base58_encode,
    load_key,
    load_or_create_key,
    peer_id_bytes,
    peer_id_of_bytes,
    public_key_of,
    verify,
)
from gesso.transport.rates import Bucket, KeyedRates, Strikes
from gesso_protocol.errors import ConfigError, EncodingInvalid, PeerUnreachable, RateLimited, TransportError
from gesso_protocol.ids import Address

WALLET = Address("0x" + "11" * 20)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


# --- rates


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 20), st.floats(0.5, 50))
def test_a_bucket_never_gives_more_than_burst_and_rate(gaps: list[float], burst: int, per_s: float) -> None:
    bucket, now_s, taken = Bucket.full(Rate(per_s, burst), 0.0), 0.0, 0
    for gap in gaps:
        now_s += gap
        taken += bucket.take(now_s)
    assert taken <= burst + per_s * now_s + 1e-6


def test_a_bucket_survives_a_clock_that_jumps_back() -> None:
    bucket = Bucket.full(Rate(1, 1), 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.1)


@given(st.lists(st.text(max_size=4), max_size=300))
def test_a_flood_of_names_stays_bounded(names: list[str]) -> None:
    rates = KeyedRates(Rate(1, 1), max_keys=16)
    for name in names:
        rates.take(name, 0.0)
    assert len(rates) <= 16


def test_strikes_end_in_a_ban_that_ends() -> None:
    strikes = Strikes(Rate(1, 2), ban_s=60)
    assert [strikes.strike("a", 0.0) for _ in range(3)] == [False, False, True]
    assert strikes.is_banned("a", 59.9)
    assert not strikes.is_banned("b", 0.0)
    assert not strikes.is_banned("a", 60.1)


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_lets_nothing_through_is_a_mistake(per_s: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate"):
        Rate(per_s, burst)


# --- inbox


@pytest.mark.anyio
async def test_an_inbox_filled_from_a_thread_wakes_its_reader() -> None:
    inbox: Inbox[int] = Inbox(1000)

    def fill() -> None:
        for number in range(500):
            inbox.put(number)
        inbox.close()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, fill)
            assert [number async for number in inbox] == list(range(500))


@pytest.mark.anyio
async def test_an_inbox_keeps_the_newest() -> None:
    inbox: Inbox[int] = Inbox(3)
    for number in range(10):
        inbox.put(number)
    inbox.close()
    assert [number async for number in inbox] == [7, 8, 9]
    assert (inbox.dropped, inbox.delivered) == (7, 3)


@pytest.mark.anyio
async def test_a_reader_that_gives_up_loses_nothing() -> None:
    inbox: Inbox[int] = Inbox(3)
    with anyio.move_on_after(0.01):
        await anext(inbox)
    inbox.put(1)
    with anyio.fail_after(60):
        assert await anext(inbox) == 1


# --- keys


def test_the_key_file_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "node.key"
    key = load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path).peer_id == key.peer_id
    assert [entry.name for entry in path.parent.iterdir()] == ["node.key"]
    assert key.secret.hex() not in repr(key)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_or_create_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="read by others"):
        load_key(path)


@pytest.mark.parametrize("text", ["", "zz", "00" * 31, "00" * 32, "ff" * 32, "00" * 500, "é"])
def test_a_file_that_holds_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.key"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_key(path)
    with pytest.raises(ConfigError):
        load_key(tmp_path / "missing")


def test_our_peer_id_is_the_library_s() -> None:
    from libp2p.crypto.secp256k1 import create_new_key_pair
    from libp2p.peer.id import ID

    key = NodeKey.create()
    theirs = ID.from_pubkey(create_new_key_pair(key.secret).public_key)
    assert str(theirs) == key.peer_id
    assert theirs.to_bytes() == peer_id_bytes(key.peer_id)
    assert peer_id_of_bytes(theirs.to_bytes()) == key.peer_id
    assert public_key_of(key.peer_id) == key.public_key


@given(st.binary(max_size=80))
def test_base58_there_and_back(raw: bytes) -> None:
    assert base58_decode(base58_encode(raw)) == raw


@given(st.text(max_size=100))
def test_hostile_peer_ids_are_typed_errors(text: str) -> None:
    with pytest.raises(EncodingInvalid):
        peer_id_bytes(PeerId(text))


@given(st.text(max_size=60) | damaged(b"/ip4/1.2.3.4/tcp/4001/p2p").map(lambda raw: raw.decode("latin-1")))
def test_hostile_addresses_are_typed_errors_or_addresses(text: str) -> None:
    peer = NodeKey(b"\x07" * 32).peer_id
    for address in (text, f"/ip4/1.2.3.4/tcp/4001/p2p/{text}", f"{text}/p2p/{peer}", f"{text}/{peer}"):
        with contextlib.suppress(PeerUnreachable):
            assert len(split_address(address)) == 2


@given(st.binary(max_size=80))
def test_hostile_raw_peer_ids_are_typed_errors(raw: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        peer_id_of_bytes(raw)


def test_signatures_bind_key_and_data() -> None:
    key, other = NodeKey.create(), NodeKey.create()
    signature = key.sign(b"data")
    assert len(signature) == 64
    assert verify(key.peer_id, b"data", signature)
    assert not verify(key.peer_id, b"datb", signature)
    assert not verify(other.peer_id, b"data", signature)
    assert not verify(PeerId("nonsense"), b"data", signature)


@given(st.binary(max_size=70))
def test_a_random_signature_never_verifies_nor_raises(signature: bytes) -> None:
    assert not verify(_KEY.peer_id, b"data", signature)


_KEY = NodeKey(b"\x07" * 32)


# --- binding


@pytest.mark.anyio
async def test_a_peer_speaks_for_the_wallet_that_registered_it() -> None:
    asked: list[bytes] = []

    async def registry(raw: bytes) -> Address | None:
        asked.append(raw)
        return WALLET if raw == peer_id_bytes(_KEY.peer_id) else None

    clock = Clock()
    binding = PeerBinding(registry, ttl_s=100, stranger_ttl_s=5, clock=clock)
    assert await binding.speaks_for(_KEY.peer_id, WALLET)
    assert not await binding.speaks_for(_KEY.peer_id, Address("0x" + "22" * 20))
    stranger = NodeKey.create().peer_id
    assert not await binding.speaks_for(stranger, WALLET)
    assert await binding.wallet_of(PeerId("no peer id")) is None
    assert len(asked) == 2
    clock.now_s = 6
    await binding.wallet_of(stranger)
    await binding.wallet_of(_KEY.peer_id)
    assert len(asked) == 3  # the stranger is asked about again, the wallet is still known
    binding.forget(_KEY.peer_id)
    await binding.wallet_of(_KEY.peer_id)
    assert len(asked) == 4


@pytest.mark.anyio
async def test_bindings_stay_bounded() -> None:
    async def registry(_raw: bytes) -> Address | None:
        return None

    binding = PeerBinding(registry, max_peers=4)
    for number in range(10):
        await binding.wallet_of(NodeKey(bytes([number + 1]) * 32).peer_id)
    assert len(binding._known) == 4


# --- outcomes


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_bad_outcome_is_a_typed_error(status: Status) -> None:
    with pytest.raises(TransportError):
        unwrap(Reply(status, b"\xff reason"), "/x/1", max_reply=10)


@pytest.mark.anyio
async def test_a_handler_that_never_ends_is_busy() -> None:
    async def forever(_peer: PeerId, _data: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(60):
        reply = await answer(forever, PeerId("p"), b"", timeout_s=0.05)
    with pytest.raises(RateLimited):
        unwrap(reply, "/x/1", max_reply=10)


def test_admission_is_given_back() -> None:
    async def handler(_peer: PeerId, _data: bytes) -> bytes:
        return b""

    serving = Serving(handler, 10, 1, Rate(100, 100), Clock())
    assert serving.admit(PeerId("a")) is None
    assert serving.admit(PeerId("a")) == Reply(Status.BUSY)
    serving.release()
    assert serving.admit(PeerId("a")) is None
