"""Seats of event streams: nobody has so many that others have none, and streams of nothing end soon."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from gesso_protocol.errors import RateLimited
from gesso_relay.audience import Audience
from gesso_relay.gate import network_of

from .fakechain import FakeChain, submitted, task_of
from .running import GENEROUS, running, stream
from .test_task_streams import progress


def house(customer: int, number: int) -> str:
    return network_of(f"2001:db8:{customer:x}:{number:x}::1")


def test_a_newcomer_has_the_stream_that_told_nothing_for_longest_of_whoever_has_most() -> None:
    now = [0.0]
    audience = Audience(4, 4, 4, clock=lambda: now[0])
    with ExitStack() as stack:
        seats = []
        for number in range(3):
            now[0] += 1
            seats.append(stack.enter_context(audience.seat(house(1, number))))
        other = stack.enter_context(audience.seat("192.0.2.1"))
        now[0] += 1
        seats[0].tells()
        stack.enter_context(audience.seat("192.0.2.2"))
        assert [seat.ended.is_set() for seat in (*seats, other)] == [False, True, False, False]
        assert audience.taken == 4
        stack.enter_context(audience.seat("192.0.2.3"))
        with pytest.raises(RateLimited):  # nobody has more than the newcomer would have
            stack.enter_context(audience.seat("192.0.2.4"))
        assert audience.taken == 4
    assert (audience.taken, len(audience._clients), len(audience._customers)) == (0, 0, 0)


def test_one_customer_has_its_share_at_most_and_one_client_too() -> None:
    audience = Audience(8, 1, 2)
    with ExitStack() as stack:
        for number in range(2):
            stack.enter_context(audience.seat(house(1, number)))
        for more in (house(1, 0), house(1, 2)):
            with pytest.raises(RateLimited):
                stack.enter_context(audience.seat(more))
        assert audience.taken == 2


@pytest.mark.anyio
async def test_a_stream_that_is_given_up_ends_and_the_newcomer_hears(tmp_path: Path) -> None:
    limits = GENEROUS.model_copy(update={"max_streams": 2})
    path, first, second = (
        f"/v1/progress/{task_of(1)}",
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.2"},
    )
    chain = FakeChain()
    chain.mine([submitted(1)])
    async with running(tmp_path, chain, limits=limits, trust_forwarded_for=True) as relay:
        await relay.indexed()
        with anyio.fail_after(60):
            async with (
                relay.client.stream("GET", path, headers=first) as oldest,
                stream(relay.client, path, **first) as kept,
                stream(relay.client, path, **second) as new,
            ):
                await oldest.aread()  # ends
                await relay.client.post(path, content=progress(1, 1).encode())
                assert [(await anext(one)).data["sequence"] for one in (kept, new)] == [1, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["/v1/progress/{}", "/v1/tasks/{}/events"])
async def test_a_stream_of_what_is_not_on_chain_ends_soon(tmp_path: Path, what: str) -> None:
    limits = GENEROUS.model_copy(update={"unknown_stream_s": 0.05})
    chain = FakeChain()
    chain.mine([submitted(1)])
    async with running(tmp_path, chain, limits=limits) as relay:
        await relay.indexed()
        with anyio.fail_after(60):
            async with relay.client.stream("GET", what.format(task_of(1))) as known:
                assert (await relay.client.get(what.format(task_of(2)))).status_code == 200
                assert (await relay.json("/v1/health"))["streams"] == 1
                assert known.status_code == 200
