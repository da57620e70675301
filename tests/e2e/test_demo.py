"""Real processes over libp2p: what a stranger runs, and what is left on the machine afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from gesso import png

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STAGES = {"submit", "claim", "execute", "commit", "settle", "fetch", "total"}


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "GESSO_HOME": str(home), "TMPDIR": str(home)}


def run(home: Path, *argv: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", *argv],
        capture_output=True,
        text=True,
        env=environment(home),
        cwd=home,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{argv} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def ours(marker: str) -> list[psutil.Process]:
    """Processes whose command line names a path of this test."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(marker in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_the_demo_prints_one_document_and_leaves_nothing_running(tmp_path: Path) -> None:
    picture = tmp_path / "demo.png"
    argv = ["--json", "--chain", "embedded", "--executor", "fake", "--seed", "11", "--output", str(picture)]
    done = run(tmp_path, "gesso_devnet.demo", *argv)

    lines = done.stdout.splitlines()
    assert len(lines) == 1
    document: dict[str, Any] = json.loads(lines[0])
    assert document["conserved"] is True
    assert document["claimed_over"] == "libp2p"
    assert document["chain"] == "embedded"
    assert document["seed"] == 11
    assert set(document["stages_s"]) - {"audit"} == STAGES  # a new node's task is sometimes drawn
    assert all(gas > 20_000 for gas in document["gas"].values())
    assert set(document["gas"]) == {"submit", "claim", "commit", "settle"}
    assert document["node"] in document["credits"]
    assert document["fee"] == "0.01044"
    assert sum(map(Decimal, document["credits"].values())) >= Decimal(document["fee"])  # the pool pays drawn auditors

    data = Path(document["image"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == document["sha256"]
    texts = png.read_text(data)
    assert texts["parameters"].startswith(document["prompt"])
    assert json.loads(texts["gesso"])["executor"] == "fake"
    for stage in ("submitted", "claimed by", "committed", "settled", "balances to the wei"):
        assert stage in done.stderr

    assert ours(str(tmp_path)) == []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("devnet")
    up = run(folder, "gesso.cli", "devnet", "up", "--executor", "fake", "--chain", "embedded", "--format", "json")
    ready = json.loads(up.stdout)
    assert ready["ready"] is True
    yield folder
    run(folder, "gesso.cli", "devnet", "down")
    assert ours(str(folder)) == []


def cli(home: Path, *argv: str, code: int = 0) -> Any:
    done = run(home, "gesso.cli", *argv, "--format", "json", code=code)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout if code == 0 else done.stderr)


def test_a_devnet_serves_the_everyday_commands(home: Path) -> None:
    made = cli(home, "generate", "a red circle", "-o", "out.png", "--seed", "3")
    assert (home / "out.png").is_file()
    task = made["receipt"]["task"]
    assert cli(home, "task", "show", task[:10])["task"] == task
    assert task in [row["task"] for row in cli(home, "task", "ls")]
    assert cli(home, "model", "show", "gesso-tiny")["model"] == "gesso-tiny@1"
    assert float(cli(home, "wallet", "show")["deposit"]) < 1000
    assert {row["state"] for row in cli(home, "devnet", "status")} == {"up"}
    assert cli(home, "generate", "x", "--dry-run")["eligible_nodes"] == 3
    assert cli(home, "generate", "x", "--max-fee", "0.001", code=4)["error"]["code"] == "fee-too-low"
    assert cli(home, "task", "cancel", task, code=5)["error"]["code"] == "task-failed"
    assert cli(home, "devnet", "up", code=3)["error"]["hint"] == "stop it first: gesso devnet down"


def test_the_chain_can_be_warped_funded_and_rewound(home: Path) -> None:
    name = cli(home, "devnet", "snapshot")["snapshot"]
    before = cli(home, "devnet", "warp", "1h")["now"]
    assert cli(home, "devnet", "warp", "1h")["now"] >= before + 3600
    address = "0x" + "42" * 20
    cli(home, "devnet", "fund", address, "--tokens", "5")
    assert cli(home, "devnet", "snapshot", "--restore", name) == {"restored": name}
    assert cli(home, "devnet", "warp", "soon", code=2)["error"]["code"] == "usage"


def test_a_killed_node_does_not_stop_the_network_and_comes_back(home: Path) -> None:
    cli(home, "devnet", "fail", "node-1", "--how", "kill")
    states = {row["actor"]: row["state"] for row in cli(home, "devnet", "status")}
    assert states["node-1"] == "down"
    cli(home, "generate", "two are left", "-o", "two.png", "--settle")
    cli(home, "devnet", "fail", "node-1", "--how", "restart")
    assert {row["state"] for row in cli(home, "devnet", "status")} == {"up"}
    logs = run(home, "gesso.cli", "devnet", "logs", "node-1").stdout
    assert "node-1" in logs


def test_a_staged_fraud_ends_with_the_cheat_slashed_and_nobody_else_harmed(tmp_path: Path) -> None:
    argv = ["--json", "--chain", "embedded", "--executor", "fake", "--cheat", "fewer-steps"]
    done = run(tmp_path, "gesso_devnet.demo", *argv, "--output", str(tmp_path / "fraud.png"))
    document: dict[str, Any] = json.loads(done.stdout)
    audit = document["audit"]
    assert document["conserved"] is True
    assert (audit["status"], audit["caught"], audit["honest_unharmed"]) == ("guilty", True, True)
    assert (audit["cheat"], audit["cheater"]) == ("fewer-steps", "node-3")
    assert {seat["said"] for seat in audit["auditors"]} == {"flag"}
    parts = [int(audit[part]) for part in ("burned", "to_requester", "to_pool")]
    assert sum(parts) == int(audit["slashed"]) > 0
    assert audit["moved"]["node-3"].startswith("-")
    assert set(document["stages_s"]) == STAGES | {"audit", "dispute"}
    for line in ("audit: picked", "FLAGS it", "GUILTY", "burned", "no other node lost anything", "to the wei"):
        assert line in done.stderr
    assert ours(str(tmp_path)) == []


def test_a_lesson_ends_with_a_lora_that_is_sold_used_and_trained_on(tmp_path: Path) -> None:
    grid = tmp_path / "lesson.png"
    argv = ["--train", "--json", "--chain", "embedded", "--executor", "fake", "--output", str(grid)]
    done = run(tmp_path, "gesso_devnet.demo", *argv)
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["conserved"] is True
    assert grid.read_bytes().startswith(b"\x89PNG")
    assert set(document["files"]) == {"lora", "private", "bought", "better"}
    assert all(Path(path).stat().st_size > 0 for path in document["files"].values())
    assert len(document["tasks"]) == 10
    moved = {name: float(change) for name, change in document["moved"].items()}
    assert moved["bob"] < 0 < moved["publisher"]
    assert document["royalties"]["alice/zbx@1"]["to"] == "alice"
    assert (
        float(document["royalties"]["gesso-tiny@1"]["amount"])
        > float(document["royalties"]["alice/zbx@1"]["amount"])
        > 0
    )
    assert sum(moved[name] for name in moved if name.startswith("node")) > 0
    for line in ("alice$ gesso train", "alice$ gesso model publish", "bob$ gesso generate", "to the wei"):
        assert line in done.stderr
    assert ours(str(tmp_path)) == []


def test_a_cheat_that_there_is_not_is_a_sentence_with_the_nearest_name(tmp_path: Path) -> None:
    done = run(tmp_path, "gesso_devnet.demo", "--cheat", "fewer-step", code=2)
    assert "did you mean fewer-steps?" in done.stderr
    assert cli(tmp_path, "devnet", "up", "--cheat", "nothing", code=2)["error"]["code"] == "usage"
    assert "withhold" in [row["cheat"] for row in cli(tmp_path, "devnet", "up", "--cheat", "list")]
