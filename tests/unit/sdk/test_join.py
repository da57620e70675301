"""What a relay says of its network is a stranger's word: bounded, checked, and never the name of somebody's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gesso.chain.settings import ContractAddresses
from gesso.cli import app
from gesso.cli.join import beside_known, changes, network_in
from gesso.settings import DEFAULT_NETWORK, Network, write_network
from gesso_protocol.errors import ConfigError, GessoError, UsageError
from gesso_protocol.ids import Address

RELAY = "https://relay.example.org"


def told(**changes: Any) -> dict[str, Any]:
    board = Address("0x" + "11" * 20)
    network = Network(
        name="far",
        chain_id=5,
        rpc_url="https://rpc.example.org",
        relay_url="http://10.0.0.1:8720",
        contracts=ContractAddresses(task_board=board, node_registry=board, marketplace=board, token=board),
    )
    return {"network": {**network.model_dump(mode="json", exclude={"wallet"}), **changes}, "params": {}}


def read(document: Any, **options: Any) -> Network:
    return network_in(json.dumps(document).encode(), RELAY, **options)


def test_a_relay_s_network_is_read_and_reached_where_it_was_found() -> None:
    network = read(told(news="later versions may say more"))
    assert (network.name, network.chain_id, network.rpc_url) == ("far", 5, "https://rpc.example.org")
    assert network.relay_url == RELAY
    ours = read(told(rpc_url=""), name="mine", rpc_url="http://127.0.0.1:8545")
    assert (ours.name, ours.rpc_url) == ("mine", "http://127.0.0.1:8545")


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"network": "far"},
        {"network": {}},
        told(name="../../.ssh/config"),
        told(name="a/b"),
        told(chain_id=-1),
        told(rpc_url=""),
        told(contracts={"task_board": "0x1"}),
        told(bootstrap=["x"] * 99),
    ],
    ids=lambda document: json.dumps(document)[:24],
)
def test_what_is_no_network_is_refused(document: Any) -> None:
    with pytest.raises(GessoError) as refused:
        read(document)
    assert refused.value.hint


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 60_000, b"\xff"])
def test_noise_is_refused(body: bytes) -> None:
    with pytest.raises(ConfigError):
        network_in(body, RELAY)


def test_a_relay_names_nobody_s_wallet() -> None:
    assert read(told(wallet="/home/you/.gesso/wallets/cold.json")).wallet is None


def test_another_network_of_that_name_stays(tmp_path: Path) -> None:
    first = read(told()).model_copy(update={"wallet": "mine"})
    path = write_network(tmp_path, first)
    again = beside_known(path, read(told(bootstrap=[])))
    assert (again.rpc_url, again.wallet) == ("https://rpc.example.org", "mine")
    with pytest.raises(ConfigError, match="another network is known as 'far'"):
        beside_known(path, read(told(chain_id=6)))


def test_a_second_relay_does_not_replace_the_endpoint_that_is_trusted(tmp_path: Path) -> None:
    """What the chain says would be that relay's word from then on."""
    path = write_network(tmp_path, read(told(), rpc_url="https://mine.example.org"))
    second = json.dumps(told(rpc_url="https://liar.example.org")).encode()
    other = "https://relay-2.example.org"
    again = beside_known(path, network_in(second, other))
    assert (again.rpc_url, again.relay_url) == ("https://mine.example.org", other)
    named = "https://another.example.org"
    assert beside_known(path, network_in(second, other, rpc_url=named), rpc_url=named).rpc_url == named


def test_no_relay_makes_its_network_the_one_that_commands_use_unasked() -> None:
    with pytest.raises(UsageError) as refused:
        read(told(name=DEFAULT_NETWORK))
    assert "--name" in refused.value.hint
    assert read(told(name=DEFAULT_NETWORK), name="far").name == "far"


def test_who_joins_again_is_told_what_is_another_now() -> None:
    known = read(told())
    assert changes(None, known) == []
    assert "nothing of it has changed" in changes(known, known)[0]
    other = known.model_copy(update={"relay_url": "https://second.example.org", "bootstrap": ("/ip4/10.0.0.1/tcp/1",)})
    assert changes(known, other) == [
        f"relay: https://second.example.org, instead of {RELAY}",
        "peers to begin with: those that the relay names now",
    ]
    (endpoint,) = changes(known, known.model_copy(update={"rpc_url": "http://127.0.0.1:8545"}))
    assert endpoint == "JSON-RPC endpoint: http://127.0.0.1:8545, instead of https://rpc.example.org"


def test_an_address_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["join", "relay.example.org"]) == 2
    assert "gesso join https://" in capsys.readouterr().err
