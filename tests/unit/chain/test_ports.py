"""Ports that are chosen before their process listens belong to it from then on."""

from __future__ import annotations

import socket
import sys

import pytest

from gesso_devnet.ports import LOOPBACK, held, held_for
from gesso_protocol.errors import ChainError

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ports cannot be held")


@linux
def test_a_held_port_is_nobody_s_choice_and_its_server_s_to_listen_on() -> None:
    with held(3) as ports, socket.socket() as stranger:
        assert len(set(ports)) == 3
        with pytest.raises(OSError, match="in use"):
            stranger.bind((LOOPBACK, ports[0]))
        with socket.create_server((LOOPBACK, ports[0])), socket.create_connection((LOOPBACK, ports[0])):
            pass
        with held_for(ports[1]) as again:
            assert again == ports[1]
    with socket.socket() as next_one:
        next_one.bind((LOOPBACK, ports[2]))


def test_a_port_on_which_somebody_listens_is_taken() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ChainError, match=f"port {port} is taken"), held_for(port):
            pass
