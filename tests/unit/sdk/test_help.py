"""What `--help` says: of every command and of every option."""

from __future__ import annotations

import pytest
from cyclopts import App

from gesso.cli import app

COMMANDS = [(name,) for name in app._TOP] + [(noun, verb) for noun, (_, verbs) in app._NOUNS.items() for verb in verbs]


def command(words: tuple[str, ...]) -> App:
    found = app.build()
    for word in words:
        found = found[word]
    return found


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is(words: tuple[str, ...]) -> None:
    arguments = command(words).assemble_argument_collection(parse_docstring=True)
    silent = [argument.name for argument in arguments if argument.show and not argument.parameter.help]
    assert silent == []


def test_a_command_explains_itself_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Lists have a line for each; what else its page could say was nowhere."""
    assert app.main(["node", "--help"]) == 0
    assert "no seats" not in capsys.readouterr().out
    assert app.main(["node", "pause", "--help"]) == 0
    told = capsys.readouterr().out
    assert "no seats" in told
    assert "devnet up" not in told  # where to start is said where one starts
    assert app.main(["--help"]) == 0
    assert "Start here" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("devnet", "down"), ("node", "stake"), ("wallet", "new"), ("join",)], ids=" ".join)
def test_a_network_is_not_asked_for_where_it_would_change_nothing(words: tuple[str, ...]) -> None:
    names = {name for argument in command(words).assemble_argument_collection() for name in argument.names}
    assert "--format" in names
    assert "--network" not in names
