"""Settings are verified before anything opens, and a misspelt key is answered with the right one."""

from __future__ import annotations

import errno
import json
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.chain.settings import ContractAddresses
from gesso.cli.output import Common
from gesso.settings import Network, write_network
from gesso_node.alone import alone
from gesso_node.cli.app import init
from gesso_node.parts import open_executor
from gesso_node.settings import NodeSettings
from gesso_protocol.errors import ConfigError
from gesso_protocol.ids import Address


def test_the_shortest_settings_are_a_folder() -> None:
    settings = NodeSettings.verified({"data_dir": "here"})
    assert settings.executor.engine == "diffusers"
    assert settings.policy.dtypes == ("fp32",)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"data_dir": "x", "stakes": 1}, "stakes is not a setting; did you mean stake?"),
        ({"data_dir": "x", "policy": {"max_step": 3}}, "policy.max_step is not a setting; did you mean max_steps?"),
        ({"data_dir": "x", "policy": {"zzzz": 3}}, "policy.zzzz is not a setting"),
        ({"data_dir": "x", "executor": {"child": {"stal_s": 1}}}, "did you mean stall_s?"),
        ({"data_dir": "x", "policy": {"max_steps": 0}}, "policy.max_steps: "),
        ({"data_dir": "x", "name": "No Spaces"}, "name: "),
        ({"data_dir": "x", "chain": {"rpc_url": "ftp://x"}}, "chain.rpc_url: "),
        ({"data_dir": "x", "transport": {"announce": ["203.0.113.7:4001"]}}, "transport.announce.0: "),
        ({}, "data_dir: Field required"),
        ([], "the settings: "),
    ],
)
def test_what_is_wrong_is_named(value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NodeSettings.verified(value)
    assert said in caught.value.message


def test_a_folder_and_a_wallet_have_one_process_each(tmp_path: Path) -> None:
    keystore = tmp_path / "wallet.json"
    keystore.write_text("{}")
    wallet = {"keystore": str(keystore), "password_file": str(keystore)}
    settings = NodeSettings.verified({"data_dir": str(tmp_path / "data")})
    with alone(settings):
        with pytest.raises(ConfigError, match="with the folder"), alone(settings):
            pass
        with alone(NodeSettings.verified({"data_dir": str(tmp_path / "other"), "wallet": wallet})):
            third = NodeSettings.verified({"data_dir": str(tmp_path / "third"), "wallet": wallet})
            with pytest.raises(ConfigError, match="with the wallet"), alone(third):
                pass
    with alone(settings):  # whoever ends gives them back
        pass
    keystore.unlink()
    with alone(NodeSettings.verified({"data_dir": str(tmp_path / "other"), "wallet": wallet})):
        pass  # what is wrong with the wallet is said by whoever unlocks it
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        alone(NodeSettings.verified({"data_dir": str(tmp_path / "file" / "x")})),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks_keeps_nobody_from_starting(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "as NFS says it")

    monkeypatch.setattr("fcntl.flock", flock)
    said = pytest.raises(ConfigError, match="as NFS") if number == errno.EIO else nullcontext()
    with said, alone(NodeSettings.verified({"data_dir": str(tmp_path)})):
        pass


def test_what_init_writes_is_what_a_node_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    board = Address("0x" + "11" * 20)
    contracts = ContractAddresses(task_board=board, node_registry=board, marketplace=board, token=board)
    urls = ("https://drand.example.org",)
    network = Network(name="far", chain_id=5, rpc_url="http://rpc.example.org", contracts=contracts, drand_urls=urls)
    write_network(tmp_path, network)
    way = "/dns4/node.example.org/tcp/4100"
    init("one", listen_port=4100, announce=(way,), trainings=500, stake="7", common=Common("json", "far"))
    settings = NodeSettings.load(tmp_path / "nodes" / "one" / "config.json")
    assert settings.chain is not None
    assert (settings.chain.chain_id, settings.chain.drand_urls) == (5, urls)
    assert (settings.transport.listen_port, settings.transport.announce) == (4100, (way,))
    assert (settings.policy.max_training_steps, settings.stake) == (500, 7 * 10**18)
    with pytest.raises(ConfigError, match="there is a node"):
        init("one", common=Common("json", "far"))


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    for content in (b"{", b"\xff\xff", b"[" * 100_000, b" " * 300_000):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(ConfigError):
            NodeSettings.load(tmp_path / "config.json")
    with pytest.raises(ConfigError):
        NodeSettings.load(tmp_path / "absent.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*NodeSettings.model_fields, "odd"]), json_values, max_size=5))
def test_any_document_is_settings_or_a_config_error(value: dict[str, Any]) -> None:
    try:
        settings = NodeSettings.verified(json.loads(json.dumps(value)))
    except ConfigError:
        return
    assert settings.data_dir is not None


@pytest.mark.anyio
async def test_no_cheat_slips_in_through_the_childs_options(tmp_path: Path) -> None:
    child = {"options": {"cheat": "int4"}}
    hidden = NodeSettings.verified({"data_dir": str(tmp_path), "executor": {"engine": "fake", "child": child}})
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match="loses its stake"):
            await open_executor(stack, hidden)
