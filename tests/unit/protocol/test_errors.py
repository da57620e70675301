"""The error tree: codes are stable and unique, every leaf says what to do next."""

from __future__ import annotations

import re

import pytest

from gesso_protocol import errors
from gesso_protocol.errors import ChainReverted, GessoError, MissingExtra, error_tree

ALL = list(error_tree())


def make(kind: type[GessoError]) -> GessoError:
    if kind is MissingExtra:
        return MissingExtra("node")
    if kind is ChainReverted:
        return ChainReverted("FeeTooLow", (1, 2))
    return kind()


def test_codes_are_unique_and_kebab_case() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_speaks(kind: type[GessoError]) -> None:
    error = make(kind)
    assert str(error) == error.message != ""
    assert error.hint
    assert error.exit_code in range(1, 8)
    assert kind.__doc__


def test_given_words_replace_the_defaults() -> None:
    error = errors.FeeTooLow("0.01 offered, 0.02 asked", hint="use --max-fee 0.02")
    assert (str(error), error.hint, error.code, error.exit_code) == (
        "0.01 offered, 0.02 asked", "use --max-fee 0.02", "fee-too-low", 4
    )  # fmt: skip


def test_the_drawing_is_the_tree() -> None:
    drawn = re.findall(r"([A-Z]\w+) +([0-9])\b", (errors.__doc__ or "").split("`code` is stable")[0])
    assert ("UsageError", "2") in drawn
    real = {(kind.__name__, str(kind.exit_code)) for kind in ALL if kind is not GessoError}
    assert set(drawn) == real


def test_a_revert_keeps_its_name_and_values() -> None:
    error = ChainReverted("FeeTooLow", (5, 7))
    assert (error.name, error.arguments) == ("FeeTooLow", (5, 7))
    assert "FeeTooLow(5, 7)" in str(error)
    assert isinstance(error, errors.ChainError)


def test_a_missing_extra_names_the_install_command() -> None:
    assert MissingExtra("node").hint == "pip install 'gesso[node]'"


def test_a_class_of_another_package_is_not_in_the_tree() -> None:
    elsewhere = type("Elsewhere", (errors.ChainError,), {})
    assert elsewhere not in set(error_tree())
