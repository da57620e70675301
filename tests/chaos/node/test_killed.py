"""Killed with -9 at any journal write, the node wakes up, claims nothing twice and loses no payment."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VICTIM = Path(__file__).with_name("victim.py")
PAID = 9_750_000_000_000_000
WRITES = {"add", "claim", "secret", "outcome", "commit", "settle", "paid", "close"}


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("kills")
    done = subprocess.run(
        [sys.executable, str(VICTIM), str(folder)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_every_write_of_a_task_s_life_was_a_place_to_die(lives: list[dict[str, Any]]) -> None:
    plain, *kills = lives
    assert plain["ended"] == 0
    assert {life["label"].partition("/")[0] for life in kills} >= WRITES
    assert all(life["killed"] == -signal.SIGKILL for life in kills)


@pytest.mark.slow
def test_after_every_kill_the_task_is_settled_once_and_paid_for(lives: list[dict[str, Any]]) -> None:
    for life in lives:
        where = f"killed at {life['label'] or 'nothing'}"
        assert life["ended"] == 0, where
        assert (life["state"], life["open"]) == ("SETTLED", 0), where
        assert (life["balance"], life["earned"]) == (PAID, PAID), where
        assert life["verbs"].count("claim:ok") == 1, where
        assert life["verbs"].count("commit:ok") == 1, where


@pytest.mark.slow
def test_no_kill_makes_the_node_send_a_second_claim_or_commit(lives: list[dict[str, Any]]) -> None:
    for life in lives:
        sent = [verb.partition(":")[0] for verb in life["verbs"]]
        assert (sent.count("claim"), sent.count("commit")) == (1, 1), f"killed at {life['label']}: {life['verbs']}"
