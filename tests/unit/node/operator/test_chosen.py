"""Which node a command is about, as the command line is read: by name, by file, and what the hints then name."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from gesso.cli.app import main
from gesso_node.auditing.rests import Rests
from gesso_node.state.journal import Journal
from gesso_protocol.ids import Address, TaskId
from gesso_protocol.spec import TextToImage

ASKING = ("status", "audits")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one node, `atelier`, that never ran and has no fixed status port."""
    monkeypatch.setenv("GESSO_HOME", str(tmp_path))
    folder = tmp_path / "nodes" / "atelier"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"data_dir": str(tmp_path / "data"), "status_port": 0}))
    return tmp_path


@pytest.mark.parametrize("verb", ASKING)
def test_a_node_is_chosen_by_name_or_by_its_file(verb: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(home / "nodes" / "atelier" / "config.json")
    for words in (["atelier"], ["--config", config], [f"--config={config}"], ["other", "--config", config]):
        assert main(["node", verb, *words]) in (3, 7)
        said = capsys.readouterr().err
        assert "there is no node" not in said
        assert "no fixed status port" in said or "has never run" in said


def test_hints_name_the_node_as_it_was_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = home / "nodes" / "atelier" / "config.json"
    assert main(["node", "audits", "atelier"]) == 3
    assert "gesso node run atelier" in capsys.readouterr().err
    assert main(["node", "audits", "--config", str(config)]) == 3
    assert f"gesso node run --config {config}" in capsys.readouterr().err


def test_where_no_node_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "status"]) == 3
    assert "make one with: gesso node init node" in capsys.readouterr().err
    assert main(["node", "status", "--config", str(home / "none.json")]) == 3
    assert "check the path of its settings file" in capsys.readouterr().err


def test_a_name_is_no_option(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "status", "--name", "atelier"]) == 2
    assert "Unknown option" in capsys.readouterr().err


def test_seats_are_taken_again_once_the_operator_has_looked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def failed() -> None:
        async with Journal(home / "data" / "journal.sqlite") as journal:
            for node in (b"\x01", b"\x02"):
                spec = TextToImage(model="tiny@1", prompt="a hill", seed=7, width=64, height=64, steps=4)
                await Rests(journal).failed(spec, TaskId(bytes(32)), Address("0x" + node.hex() * 20), "no kernel", 1)

    anyio.run(failed)
    capsys.readouterr()
    assert main(["node", "audits", "atelier", "--format", "json"]) == 0
    (failing,) = json.loads(capsys.readouterr().out)["failing"]
    assert (failing["model"], failing["reason"]) == ("tiny@1", "no kernel")
    assert main(["node", "audits", "atelier", "--resume"]) == 0
    said = capsys.readouterr()
    assert "seats are taken again for text_to_image tiny@1 fp32" in said.out + said.err
    assert main(["node", "audits", "atelier", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["failing"] == []
