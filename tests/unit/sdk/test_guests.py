"""Whose connection goes when all places are taken."""

from __future__ import annotations

import pytest

from gesso.transport._libp2p.guests import Guests, origin_of


def full(*addresses: str, most_a_client: int = 64, busy: str = "") -> Guests[str]:
    guests: Guests[str] = Guests(len(addresses), most_a_client, lambda guest: guest in busy)
    for guest, address in zip("abcdefgh", addresses, strict=False):
        assert guests.enter(guest, address) is None
    return guests


def test_a_client_has_its_share_and_no_more() -> None:
    guests: Guests[str] = Guests(8, 2, lambda _: False)
    for guest in "ab":
        guests.enter(guest, "2001:db8:0:1::1")
    assert not guests.may_come("2001:db8:0:1:ffff::2")
    with pytest.raises(ValueError, match="has its share"):
        guests.enter("c", "2001:db8:0:1:ffff::2")
    guests.leave("a")
    guests.leave("a")
    assert guests.may_come("2001:db8:0:1:ffff::2")
    assert len(guests) == 1


@pytest.mark.parametrize(("busy", "gone"), [("", "b"), ("b", "c"), ("bcd", "b")])
def test_who_has_most_gives_up_what_is_idle_for_longest(busy: str, gone: str) -> None:
    guests = full("192.0.2.9", "192.0.2.1", "192.0.2.1", "192.0.2.1", busy=busy)
    assert guests.enter("new", "192.0.2.2") == gone
    assert len(guests) == 4


def test_households_of_one_customer_make_room_together() -> None:
    guests = full("192.0.2.9", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", most_a_client=1)
    assert guests.enter("new", "192.0.2.2") == "b"
    with pytest.raises(ValueError, match="all places"):
        guests.enter("more", "2001:db8:0:3::1")


def test_nobody_makes_room_for_whoever_has_as_much() -> None:
    guests = full("192.0.2.1", "192.0.2.2")
    with pytest.raises(ValueError, match="all places"):
        guests.enter("new", "192.0.2.3")
    assert len(guests) == 2


@pytest.mark.parametrize(
    ("address", "client", "customer"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("unknown", "unknown", "unknown"),
    ],
)
def test_an_address_belongs_to_a_household_and_to_a_customer(address: str, client: str, customer: str) -> None:
    origin = origin_of(address)
    assert (origin.client, origin.customer) == (client, customer)
