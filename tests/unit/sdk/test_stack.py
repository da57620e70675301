"""Two that start a devnet in one home at once: the second is told, and takes nothing away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gesso_devnet.stack import Stack, StackSettings
from gesso_protocol.errors import ConfigError, Unreachable

pytestmark = pytest.mark.anyio


class Second(Stack):
    """One that must not get so far."""

    async def _bring_up(self, *_: Any) -> Any:
        raise AssertionError("it starts beside the first")


class Starting(Stack):
    """One that has written its first log when another comes, and then does not start."""

    async def _bring_up(self, *_: Any) -> Any:
        log = self.folder / "logs" / "chain.log"
        log.parent.mkdir()
        log.write_text("ours")
        with pytest.raises(ConfigError, match="is at work here"):
            await Second(self.home).up(StackSettings(), print)
        assert log.read_text() == "ours"
        raise Unreachable("the chain did not start")


async def test_a_second_start_leaves_the_first_alone(tmp_path: Path) -> None:
    for _ in range(2):  # whoever failed has given the home back
        with pytest.raises(Unreachable, match="did not start"):
            await Starting(tmp_path / "new").up(StackSettings(), print)
