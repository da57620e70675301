"""Canonical bytes: one document, one byte string; everything else is refused with a typed error."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso_protocol.encoding import MAX_SAFE_INT, MAX_VALUES, Json, canonical, parse
from gesso_protocol.errors import EncodingInvalid

keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=10)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-MAX_SAFE_INT, MAX_SAFE_INT) | text
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


@given(value=values)
def test_round_trip(value: Json) -> None:
    data = canonical(value)
    assert parse(data) == value
    assert canonical(parse(data)) == data


@given(value=values)
def test_any_json_reader_agrees(value: Json) -> None:
    assert json.loads(canonical(value)) == value


@given(value=st.dictionaries(keys, scalars, min_size=2, max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, Json]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(value=values, data=st.data())
def test_no_other_bytes_mean_the_same(value: Json, data: st.DataObject) -> None:
    good = canonical(value)
    styles: list[dict[str, Any]] = [
        {"indent": 1},
        {"separators": (", ", ": ")},
        {"separators": (",", ": ")},
        {"ensure_ascii": True, "separators": (",", ":")},
        {"sort_keys": False, "separators": (",", ":")},
    ]
    style = {"ensure_ascii": False, "sort_keys": True, **data.draw(st.sampled_from(styles))}
    other = json.dumps(value, **style).encode()
    if other == good:
        other += b"\n"
    with pytest.raises(EncodingInvalid):
        parse(other)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"1 ",
        b"\xef\xbb\xbf1",
        b"\xff",
        b'"\\/"',
        b'"\\u0041"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"a\nb"',
        b"-0",
        b"01",
        b"1.0",
        b"1e2",
        b"1E400",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"9007199254740992",
        b"-9007199254740992",
        b"9" * 5000,
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"":1}',
        '{"é":1}'.encode(),
        b'{"a b":1}',
        b'{"' + b"k" * 129 + b'":1}',
        b"[" * 17 + b"]" * 17,
        b"[" * 39_000 + b"]" * 39_000,
        b'{"a":' * 39_000,
        b"'a'",
        b"[1,]",
        b"// comment",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_refused(data: bytes) -> None:
    with pytest.raises(EncodingInvalid):
        parse(data)


@given(data=st.binary(max_size=200) | st.text(st.sampled_from('{}[]",:0123456789.eE+-\\u nulltrefas'), max_size=60))
def test_hostile_bytes_give_a_typed_error(data: bytes | str) -> None:
    raw = data if isinstance(data, bytes) else data.encode()
    try:
        value = parse(raw)
    except EncodingInvalid:
        return
    assert canonical(value) == raw


@pytest.mark.parametrize("value", [None, "text", 5, bytearray(b"1"), memoryview(b"1")])
def test_only_bytes_are_read(value: Any) -> None:
    with pytest.raises(EncodingInvalid):
        parse(value)


@pytest.mark.parametrize("value", [1.5, float("nan"), b"x", (1,), {1: 2}, {"a": {1}}, MAX_SAFE_INT + 1, "\ud800"])
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(EncodingInvalid):
        canonical(value)


def test_size_is_checked_before_anything_is_read() -> None:
    with pytest.raises(EncodingInvalid, match="at most 10"):
        parse(b'"' + b"a" * 100 + b'"', max_bytes=10)
    assert parse(b'"' + b"a" * 8 + b'"', max_bytes=10) == "a" * 8


def test_a_flood_of_tiny_values_costs_no_memory() -> None:
    flood = b"[" + b"[]," * 1_000_000 + b"[]]"
    tracemalloc.start()
    with pytest.raises(EncodingInvalid, match=str(MAX_VALUES)):
        parse(flood)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_depth_16_is_the_limit() -> None:
    deepest: Json = 1
    for _ in range(16):
        deepest = [deepest]
    assert parse(canonical(deepest)) == deepest
    with pytest.raises(EncodingInvalid, match="deep"):
        canonical([deepest])


@pytest.mark.parametrize("text", ["[" * 39_000, '{"a":' * 39_000, '["[{",' + "[" * 39_000 + "1" + "]" * 39_001])
def test_depth_is_bounded_without_the_interpreters_recursion_limit(text: str) -> None:
    # In a process of its own: web3 lifts the limit, and then a deep document ends the process where nothing else does.
    program = f"""
import sys, threading
sys.setrecursionlimit(10**9)
threading.stack_size(256 * 1024)
from gesso_protocol.encoding import parse
from gesso_protocol.errors import EncodingInvalid
def read():
    try:
        parse({text!r}.encode())
    except EncodingInvalid as error:
        print(error)
reader = threading.Thread(target=read)
reader.start()
reader.join()
"""
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "the document is nested too deeply\n"), done.stderr


def test_brackets_in_texts_are_no_depth() -> None:
    value: Json = {"a": '[{"' * 40, "b": "\\" * 3 + "]" * 40, "c": ['"', '\\\\"[[[[']}
    assert parse(canonical(value)) == value
