"""Settings: precedence, and errors that name the file, the key and the likely spelling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gesso.settings import Network, Settings, read_network, write_network
from gesso_protocol.errors import ConfigError

ADDRESS = "0x" + "11" * 20


def network(**changes: object) -> Network:
    fields: dict[str, object] = {
        "name": "devnet",
        "chain_id": 31337,
        "rpc_url": "http://127.0.0.1:8545",
        "relay_url": "http://127.0.0.1:8720",
        "contracts": dict.fromkeys(("task_board", "node_registry", "marketplace", "token"), ADDRESS),
    }
    return Network.model_validate({**fields, **changes})


def env(home: Path, **more: str) -> dict[str, str]:
    return {"GESSO_HOME": str(home), **more}


def test_a_written_network_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = write_network(tmp_path, network())
    assert read_network(tmp_path, "devnet") == read_network(tmp_path, str(path)) == network()


def test_environment_beats_the_user_file_and_an_argument_beats_both(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_network(tmp_path, network(name=name))
    (tmp_path / "config.toml").write_text('network = "one"\n')
    assert Settings.load(environ=env(tmp_path)).network.name == "one"
    assert Settings.load(environ=env(tmp_path, GESSO_NETWORK="two")).network.name == "two"
    assert Settings.load(network="three", environ=env(tmp_path, GESSO_NETWORK="two")).network.name == "three"


def test_urls_can_be_overridden(tmp_path: Path) -> None:
    write_network(tmp_path, network())
    settings = Settings.load(environ=env(tmp_path, GESSO_RPC_URL="http://elsewhere:1"))
    assert settings.network.rpc_url == "http://elsewhere:1"
    assert settings.network.relay_url == "http://127.0.0.1:8720"


def test_a_devnet_names_its_wallet_and_its_password_file(tmp_path: Path) -> None:
    write_network(tmp_path, network(wallet="submitter"))
    (tmp_path / "wallets").mkdir()
    (tmp_path / "wallets/submitter.json").write_text("{}")
    (tmp_path / "wallets/submitter.password").write_text("devnet")
    source = Settings.load(environ=env(tmp_path)).wallet
    assert source is not None
    assert source.keystore.name == "submitter.json"
    assert source.password_file is not None


def test_no_network_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load(environ=env(tmp_path))
    assert "gesso devnet up" in str(caught.value.hint)


def test_a_missing_wallet_says_how_to_make_one(tmp_path: Path) -> None:
    write_network(tmp_path, network())
    with pytest.raises(ConfigError) as caught:
        Settings.load(wallet="mine", environ=env(tmp_path))
    assert "gesso wallet new mine" in str(caught.value.hint)


def test_misspelt_keys_are_named_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('netwrk = "devnet"\n')
    with pytest.raises(ConfigError, match="did you mean 'network'"):
        Settings.load(environ=env(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 3}', "\x00", "{" * 1000])
def test_a_broken_network_file_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_network(tmp_path, str(path))


def test_an_unknown_key_in_a_network_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.json"
    document = json.loads(network().model_dump_json())
    document["relay_ulr"] = "x"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="did you mean 'relay_url'"):
        read_network(tmp_path, str(path))


def test_an_absurdly_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "n.json"
    path.write_bytes(b" " * (300 * 1024))
    with pytest.raises(ConfigError, match="larger than"):
        read_network(tmp_path, str(path))


def test_a_network_that_nobody_named_here_is_joined_and_a_devnet_started(tmp_path: Path) -> None:
    for name, way in (("nope", "gesso join RELAY --name nope"), ("devnet", "gesso devnet up")):
        with pytest.raises(ConfigError) as unknown:
            read_network(tmp_path, name)
        assert way in unknown.value.hint
