"""Strangers' texts reach a terminal without what it would obey, and a program to the letter."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.cli import app
from gesso.cli.failure import Failure
from gesso.cli.harmless import REPLACED, escaped, harmless
from gesso.cli.output import Output

EVIL = "nice\x9b2J\x9d0;title\x07\x1b[2J\x1b]0;t\x7f\r\u202eyltsenoh\u2066\u2028\ud800"
OBEYED = ("\x9b", "\x9d", "\x07", "\x1b", "\x7f", "\r", "\u202e", "\u2066", "\u2028", "\ud800")
FINE = "línea\n\tعربي \u200f日本 👩\u200d🎨 ✓ │ …"


def printed(form: str) -> str:
    """Everything that a command can print of a stranger's text."""
    stdout, stderr = io.StringIO(), io.StringIO()
    out = Output(form, stdout=stdout, stderr=stderr)  # type: ignore[arg-type]
    out.result({"summary": EVIL, "card": {"text": EVIL}, EVIL: [EVIL]})
    out.result({"human": 1}, EVIL)
    out.table([{"prompt": EVIL}], ["prompt"], empty="")
    out.table([], ["prompt"], empty=EVIL)
    out.say(EVIL)
    out.ask(EVIL)
    out.hint(EVIL, EVIL)
    return stdout.getvalue() + stderr.getvalue()


@pytest.mark.parametrize("form", ["human", "json"])
def test_nothing_that_a_terminal_obeys_is_printed(form: str) -> None:
    text = printed(form)
    assert not [mark for mark in OBEYED if mark in text]
    assert text.count("yltsenoh") >= 6


def test_a_line_that_is_drawn_anew_obeys_us_alone() -> None:
    stderr = io.StringIO()
    Output("human", stderr=stderr).redraw(EVIL)
    assert stderr.getvalue().startswith("\r\x1b[2Knice")
    assert not [mark for mark in OBEYED if mark in stderr.getvalue().removeprefix("\r\x1b[2K")]


def test_errors_carry_strangers_words_too(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        app._tell(Failure("unreachable", EVIL, EVIL, 7), as_json=as_json)
        said = capsys.readouterr().err
        assert "nice" in said
        assert not [mark for mark in OBEYED if mark in said]


def test_what_is_no_harm_stays_with_our_own_colours() -> None:
    ours = "\x1b[1mbold\x1b[0m \x1b[2mdim\x1b[0m \x1b[32m✓\x1b[0m \x1b[31m✗\x1b[0m"
    assert harmless(FINE) == FINE
    assert harmless(ours) == ours
    assert escaped(FINE) == FINE


@given(st.text())
def test_programs_read_what_was_written(text: str) -> None:
    document = escaped(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(document) == {"text": text}
    assert not [letter for letter in document if unicodedata.category(letter) in ("Cc", "Cs")]
    shown = harmless(text)
    assert len(shown) == len(text)
    assert {letter for letter in shown if unicodedata.category(letter) == "Cc"} <= {"\n", "\t", "\x1b"}
    assert all(now in (was, REPLACED) for was, now in zip(text, shown, strict=True))
