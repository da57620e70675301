"""Settings are verified before anything opens, and a misspelt key is answered with the right one."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_node.parts import open_executor
from gesso_node.settings import NodeSettings
from gesso_protocol.errors import ConfigError


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
        ({}, "data_dir: Field required"),
        ([], "the settings: "),
    ],
)
def test_what_is_wrong_is_named(value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NodeSettings.verified(value)
    assert said in caught.value.message


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
