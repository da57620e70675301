"""Chains that are forked: several at once, each ended by itself, and none that breaks takes the others along."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gesso_devnet.chain.nursery import Nursery
from gesso_devnet.ports import held
from gesso_protocol.errors import ChainError


@pytest.fixture
def ports() -> Iterator[tuple[int, ...]]:
    with held(2) as found:
        yield found


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_ends_or_breaks_leaves_the_others(tmp_path: Path, ports: tuple[int, ...]) -> None:
    nursery = Nursery()
    one, two = (nursery.start(["--port", str(port)], tmp_path / str(port)) for port in ports)
    until(lambda: answers(ports[0]) and answers(ports[1]))
    broken = nursery.start(["--nonsense"], tmp_path / "broken")
    until(lambda: not nursery.alive(broken))
    assert "--nonsense" in (tmp_path / "broken").read_text()
    nursery.stop(one)
    assert (nursery.alive(one), nursery.alive(two)) == (False, True)
    assert (answers(ports[0]), answers(ports[1])) == (False, True)
    assert str(ports[0]) in (tmp_path / str(ports[0])).read_text()
    nursery.stop(two)
    nursery.stop(two)
    nursery.close()


def test_a_killed_nursery_takes_its_chains_along_and_is_said_to_be_gone_once(
    tmp_path: Path, ports: tuple[int, ...]
) -> None:
    nursery, port = Nursery(), ports[0]
    nursery.start(["--port", str(port)], tmp_path / "log")
    until(lambda: answers(port))
    assert nursery._process is not None
    os.kill(nursery._process.pid, signal.SIGSTOP)
    os.kill(nursery._process.pid, signal.SIGKILL)
    with pytest.raises(ChainError):
        nursery.alive(0)
    until(lambda: not answers(port))
    assert nursery.alive(0) is False, "there is a new one"
    nursery.close()
