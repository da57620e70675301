"""Nodes of one machine share its cores: each would take all of them and spend them on waiting for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gesso_devnet.cores import executor_section, threads_each
from gesso_node.settings import NodeSettings


@pytest.mark.parametrize(
    ("cores", "nodes", "threads"), [(2, 1, 2), (2, 3, 2), (16, 3, 5), (1, 3, 1), (4, 9, 2), (4, 0, 4)]
)
def test_each_has_its_share_and_what_one_needs_that_draws_alone(
    cores: int, nodes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gesso_devnet.cores.os.sched_getaffinity", lambda _: set(range(cores)))
    assert threads_each(nodes) == threads


def test_who_cheats_has_the_same_and_what_it_cheats_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gesso_devnet.cores.os.sched_getaffinity", lambda _: {0, 1})
    for engine in ("fake", "diffusers"):
        for cheat in (None, "wrong-model"):
            section = executor_section(engine, 3, cheat)
            made = NodeSettings.verified({"data_dir": str(tmp_path), "executor": section}).executor
            assert (made.engine, made.cheat, made.child.threads, made.child.wait) == (engine, cheat, 2, "passive")
            assert bool(made.child.options) is (cheat is not None and engine == "diffusers")
