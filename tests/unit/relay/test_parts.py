"""Limits, fan-out, settings and presence: small parts, held to what they promise."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import anyio
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.errors import ConfigError, RateLimited, Unreachable
from gesso_protocol.ids import Address
from gesso_protocol.messages import NodeAdvert
from gesso_protocol.policy import Offer
from gesso_relay import RelaySettings
from gesso_relay.gate import client_of, network_of
from gesso_relay.hub import Hub
from gesso_relay.index.entries import Entry
from gesso_relay.index.follow import News, Rewound
from gesso_relay.index.queries import Queries
from gesso_relay.limits import RateLimit, Seats
from gesso_relay.presence import FRESH_S, Presence
from gesso_relay.streams import task_events

from .fakechain import CHAIN_ID, NODE, SETTINGS, task_of

PEER = "16Uiu2HAm"


@given(st.lists(st.floats(0, 2), max_size=200))
def test_nobody_gets_more_than_burst_and_rate(gaps: list[float]) -> None:
    rate, now, served = RateLimit(10, 5, 100), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            rate.take("a", now)
            served += 1
        except RateLimited:
            continue
    assert served <= 5 + 10 * now + 1e-6


def test_clients_do_not_pay_for_each_other_and_are_forgotten_in_time() -> None:
    rate = RateLimit(1, 1, 3)
    for client in "abcdef":
        rate.take(client, 0.0)
    assert len(rate._buckets) == 3
    with pytest.raises(RateLimited):
        rate.take("f", 0.0)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    rate = RateLimit(1, 1, 3)
    rate.take("a", 100.0)
    with pytest.raises(RateLimited):
        rate.take("a", 0.0)


def test_seats_are_counted_in_total_and_a_client() -> None:
    seats = Seats("streams", 3, 2)
    with seats.seat("a"), seats.seat("a"):
        with pytest.raises(RateLimited), seats.seat("a"):
            pass
        with seats.seat("b"), pytest.raises(RateLimited), seats.seat("c"):
            pass
    assert seats.taken == 0
    assert not seats._taken


def test_all_of_a_customer_s_clients_together_leave_seats_for_others() -> None:
    seats = Seats("streams", 8, 2)
    with ExitStack() as stack:
        for house in range(2):
            stack.enter_context(seats.seat(network_of(f"2001:db8:0:{house:x}::1")))
        with pytest.raises(RateLimited), seats.seat(network_of("2001:db8:0:2::1")):
            pass
        for other in ("2001:db8:1::1", "192.0.2.1", "192.0.2.2"):
            stack.enter_context(seats.seat(network_of(other)))
    assert not seats._taken


@pytest.mark.parametrize(
    ("written", "client"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("[2001:db8::1]:5678", "2001:db8::/64"),
        ("[::ffff:192.0.2.1]", "192.0.2.1"),
        ("[", "unknown"),
        ("1:2", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_client_is_one_however_its_proxy_writes_its_address(written: str, client: str) -> None:
    assert network_of(written) == client


@pytest.mark.anyio
async def test_a_slow_listener_loses_the_oldest_and_the_publisher_never_waits() -> None:
    hub: Hub[int] = Hub(queue=3)
    with hub.listen("t") as listener:
        for item in range(10):
            hub.publish("t", item)
        with anyio.fail_after(60):
            assert [await listener.next() for _ in range(3)] == [7, 8, 9]
        assert listener.lost == 7
    hub.publish("t", 11)
    assert hub._listeners == {}


@pytest.mark.anyio
async def test_a_stream_ends_when_the_fork_that_it_tells_of_has_ended_the_task_already() -> None:
    task, hub = task_of(1), Hub[News]()
    first = Entry(1, "0x" + "11" * 32, 0, "0x" + "22" * 32, 3, "task", str(task), "submitted", {"fee": "1"})
    last = Entry(2, "0x" + "11" * 32, 0, "0x" + "22" * 32, 3, "task", str(task), "cancelled", {"refund": "1"})
    told = [first]

    class History:
        async def history(self, subject: str, key: str, *more: str) -> tuple[Entry, ...]:
            return tuple(told)

    with anyio.fail_after(60):
        stream = task_events(cast("Queries", History()), hub, task, None)
        names = [(await anext(stream)).name]
        told.append(last)
        hub.publish(str(task), Rewound("task", str(task), 0))
        hub.publish(str(task), last)
        names += [event.name async for event in stream]
    assert names == ["submitted", "rewound", "submitted", "cancelled"]


def test_a_hub_remembers_the_last_of_recent_topics_only() -> None:
    hub: Hub[int] = Hub(remembered=2, topics=2)
    for topic in "abc":
        for item in range(3):
            hub.publish(topic, item)
    assert (hub.recent("a"), hub.recent("b"), hub.recent("c")) == ((), (1, 2), (1, 2))


def advert(sent_at: int = 1, peer: str = PEER) -> NodeAdvert:
    return NodeAdvert(chain_id=CHAIN_ID, wallet=NODE, peer=peer, offer=Offer(), sent_at=sent_at)


def test_a_node_is_online_only_through_its_registered_peer() -> None:
    presence = Presence()
    assert not presence.note("16Uother", advert(), 0.0)  # type: ignore[arg-type]
    assert presence.note(PEER, advert(5), 0.0)  # type: ignore[arg-type]
    assert not presence.note(PEER, advert(4), 1.0)  # type: ignore[arg-type]
    assert presence.of(NODE, PEER, FRESH_S - 1) == advert(5)
    assert presence.of(NODE, PEER, FRESH_S + 1) is None
    assert presence.of(NODE, "16Uother", 1.0) is None
    assert presence.of(Address("0x" + "22" * 20), PEER, 1.0) is None


def test_a_stranger_who_names_a_wallet_does_not_hide_its_node() -> None:
    presence = Presence()
    stranger = "16Uother"
    assert presence.note(stranger, advert(2**53 - 1, stranger), 0.0)  # type: ignore[arg-type]
    assert presence.note(PEER, advert(5), 0.0)  # type: ignore[arg-type]
    assert presence.note(stranger, advert(2**53 - 1, stranger), 1.0)  # type: ignore[arg-type]
    assert presence.of(NODE, PEER, 1.0) == advert(5)


@pytest.mark.anyio
async def test_made_up_peers_push_no_registered_node_out() -> None:
    presence, asked = Presence(max_nodes=4), 0

    async def registered(wallet: str) -> str | None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unreachable("the database is away")
        return PEER if wallet == NODE else None

    async with anyio.create_task_group() as group:
        group.start_soon(presence.run, registered)
        for turn in range(2):
            presence.note(PEER, advert(5 + turn), float(turn))  # type: ignore[arg-type]
            await anyio.wait_all_tasks_blocked()
        for letter in "abcdefghijkmnopqrstu":
            other = f"16U{letter}"
            presence.note(other, advert(peer=other), 2.0)  # type: ignore[arg-type]
            await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert presence.of(NODE, PEER, 2.0) == advert(6)
    assert len(presence) == 5


def test_a_clock_that_is_set_right_hides_no_node_for_ever() -> None:
    presence = Presence()
    assert presence.note(PEER, advert(2**40), 0.0)  # type: ignore[arg-type]
    assert not presence.note(PEER, advert(5), 1.0)  # type: ignore[arg-type]
    assert presence.note(PEER, advert(5), FRESH_S + 1)  # type: ignore[arg-type]


def test_presence_is_bounded() -> None:
    presence = Presence(max_nodes=2)
    for number in range(1, 6):
        presence.note(f"{PEER}{number}", advert(peer=f"{PEER}{number}"), 0.0)  # type: ignore[arg-type]
    assert len(presence) == 2


def settings_file(folder: Path, **values: object) -> Path:
    path = folder / "relay.json"
    chain = SETTINGS.model_dump(mode="json")
    path.write_text(json.dumps({"data_dir": str(folder / "data"), "chain": chain, **values}))
    return path


def test_settings_are_read_and_make_their_folder(tmp_path: Path) -> None:
    read = RelaySettings.load(settings_file(tmp_path, listen_port=1234))
    assert (read.listen_port, read.chain) == (1234, SETTINGS)
    assert (tmp_path / "data").is_dir()
    assert read.database().startswith("sqlite+aiosqlite:///")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"listen_prot": 1}, "did you mean 'listen_port'"),
        ({"listen_port": 70_000}, "listen_port"),
        ({"max_blob_bytes": 2 << 30, "blob_quota_bytes": 1 << 30}, "could never be kept"),
        ({"database_url": "mysql://x/y"}, "mysql"),
        ({"database_url": "not a url"}, "cannot be read"),
        ({"index_poll_s": 0}, "index_poll_s"),
        ({"upload_token_file": "does-not-exist"}, "does-not-exist"),
        ({"limits": {"max_streams": 0}}, "max_streams"),
        ({"chain": {}}, "chain"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        RelaySettings.load(settings_file(tmp_path, **values))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="data_dir"):
        RelaySettings.load(settings_file(tmp_path, data_dir=str(tmp_path / "file" / "x")))


@pytest.mark.parametrize(
    "url", ["postgres://u:secret@h/d", "postgresql://u:secret@h/d", "postgresql+asyncpg://u:secret@h/d"]
)
def test_every_way_to_write_postgresql_works(tmp_path: Path, url: str) -> None:
    read = RelaySettings(data_dir=tmp_path, chain=SETTINGS, database_url=url)
    assert read.database() == "postgresql+asyncpg://u:secret@h/d"


@pytest.mark.parametrize(
    ("forwarded", "trusted", "client"),
    [
        (None, True, "unknown"),
        ("1.2.3.4", False, "unknown"),
        ("1.2.3.4", True, "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", True, "1.2.3.4"),
        ("2001:db8::1", True, "2001:db8::/64"),
        ("<script>", True, "unknown"),
    ],
)
def test_who_asks(forwarded: str | None, trusted: bool, client: str) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = make_mocked_request("GET", "/", headers=headers)
    assert client_of(request, trust_forwarded_for=trusted) == client
