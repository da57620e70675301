"""Shares and names as people type them, checked before anything is sent."""

from __future__ import annotations

import pytest

from gesso.market.listing import parse_royalty
from gesso.training import parse_use, spec_fields
from gesso_protocol.errors import UsageError


@pytest.mark.parametrize(("text", "bps"), [("5%", 500), ("0.01%", 1), ("0%", 0), ("0.05", 500), (" 12.5% ", 1250)])
def test_shares(text: str, bps: int) -> None:
    assert parse_royalty(text) == bps


@pytest.mark.parametrize("text", ["", "five", "-1%", "100%", "0.001%", "nan", "inf%", "1e99", "5%%"])
def test_no_shares(text: str) -> None:
    with pytest.raises(UsageError):
        parse_royalty(text)


@pytest.mark.parametrize(
    ("text", "name", "milli"),
    [("zbx@1:0.8", "zbx@1", 800), ("zbx", "zbx", 1000), ("a/b.safetensors:-1.5", "a/b.safetensors", -1500),
     ("c:x.safetensors", "c:x.safetensors", 1000)],
)  # fmt: skip
def test_strengths(text: str, name: str, milli: int) -> None:
    assert parse_use(text) == (name, milli)


@pytest.mark.parametrize(
    "text", ["zbx:0", "zbx:6", "zbx:-5.1", ":0.5", "z.safetensors:fast", "zbx@1:", "zbx@1:inf", "zbx@1:nan"]
)
def test_no_strengths(text: str) -> None:
    with pytest.raises(UsageError):
        parse_use(text)


def test_plain_numbers_become_fields() -> None:
    fields = spec_fields({"learning_rate": 1e-4, "prior": 0.5, "min_snr": 5, "steps": 3, "rank": None})
    assert fields == {"learning_rate_nano": 100_000, "prior_milli": 500, "min_snr_milli": 5000, "steps": 3}
    assert spec_fields({"rank": 4, "text_encoder": False, "max_grad_norm": 0.5, "targets": ("b", "a", "b")}) == {
        "rank": 4, "alpha": 4, "text_encoder": False, "text_learning_rate_nano": 0, "max_grad_norm_milli": 500,
        "targets": ("a", "b"),
    }  # fmt: skip
    assert spec_fields({"rank": 4, "alpha": 9})["alpha"] == 9
