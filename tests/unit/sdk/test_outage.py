"""A chain that is away for a while ends no waiting; one that is away for long does."""

from __future__ import annotations

import pytest

from gesso import outage
from gesso.outage import PATIENCE_S, Outage
from gesso_protocol.errors import BlobCorrupt, ChainError, ChainReverted, GasMissing, GessoError, Unreachable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(outage, "time", made)
    return made


def fails(waiter: Outage, error: GessoError) -> None:
    with waiter.borne():
        raise error


@pytest.mark.parametrize("error", [Unreachable("away"), ChainError("not mined"), GasMissing()])
def test_minutes_are_borne_and_no_more(clock: Clock, error: GessoError) -> None:
    waiter = Outage()
    for _ in range(3):
        fails(waiter, error)
        clock.now += PATIENCE_S / 2
    with pytest.raises(type(error)):
        fails(waiter, error)


def test_an_answer_in_between_begins_anew(clock: Clock) -> None:
    waiter = Outage()
    for _ in range(9):
        fails(waiter, Unreachable("away"))
        clock.now += PATIENCE_S
        with waiter.borne():
            pass


def test_each_outage_is_said_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    waiter = Outage()
    for _ in range(5):
        fails(waiter, Unreachable("away"))
    with waiter.borne():
        pass
    fails(waiter, Unreachable("away again"))
    assert [record.getMessage() for record in caplog.records] == [
        "waiting goes on: away",
        "waiting goes on: away again",
    ]


@pytest.mark.parametrize("error", [ChainReverted("No"), BlobCorrupt()])
def test_an_answer_is_no_outage(error: GessoError) -> None:
    with pytest.raises(type(error)):
        fails(Outage(), error)
