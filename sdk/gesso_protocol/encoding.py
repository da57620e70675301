"""Canonical bytes: one document, one byte string, one hash.

The form is the integer-only, ASCII-key subset of RFC 8785 (JSON Canonicalization Scheme): keys sorted, no spaces,
UTF-8, shortest escapes, integers within ±(2^53-1), no floats. Text is taken as it is: no Unicode normalisation.
A reader rejects anything that does not encode back to the same bytes, so no two byte strings mean the same document.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, NoReturn, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from gesso_protocol.errors import EncodingInvalid, GessoError

Json: TypeAlias = bool | int | str | list["Json"] | dict[str, "Json"] | None

MAX_SAFE_INT = 2**53 - 1
MAX_DEPTH = 16
MAX_VALUES = 40_000
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
_KEY = re.compile(r"[!-~]{1,128}\Z")
_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
"""A whole text (also one that never ends), or a bracket outside of texts."""


def canonical(value: Json) -> bytes:
    """The canonical bytes of a JSON value. Raises `EncodingInvalid` for floats, huge integers, odd keys, depth > 16."""
    _check(value, MAX_DEPTH)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise EncodingInvalid("text holds a lone surrogate") from None


def parse(data: bytes, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Json:
    """Read canonical bytes; anything too large, malformed or not canonical raises `EncodingInvalid`."""
    if not isinstance(data, bytes):
        raise EncodingInvalid("a document is bytes")
    if len(data) > max_bytes:
        raise EncodingInvalid(f"the document has {len(data)} bytes; at most {max_bytes} are allowed")
    # a byte of text can become a hundred bytes of objects, so the count is bounded before anything is built
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise EncodingInvalid(f"the document holds more than {MAX_VALUES} values")
    check_depth(data)
    try:
        value: Json = json.loads(
            data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float, parse_int=_small_int
        )
    except ValueError as error:
        raise error if isinstance(error, EncodingInvalid) else EncodingInvalid("the document is not JSON") from None
    if canonical(value) != data:
        raise EncodingInvalid("the document is not in canonical form")
    return value


def check_depth(data: bytes) -> None:
    """Refuse JSON text that nests too deeply, before it is parsed. Raises `EncodingInvalid`."""
    # The parser's own bound is the interpreter's recursion limit, which other libraries lift for the whole process.
    depth = 0
    for found in _BRACKET.finditer(data):
        bracket = found[0]
        if bracket in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise EncodingInvalid("the document is nested too deeply")
        elif bracket in (b"]", b"}"):
            depth -= 1


def _check(value: object, depth: int) -> None:
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if not -MAX_SAFE_INT <= value <= MAX_SAFE_INT:
            raise EncodingInvalid("integers in documents stay within 2^53-1; larger ones are decimal text")
    elif depth == 0:
        raise EncodingInvalid("the document is nested too deeply")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not _KEY.match(key):
                raise EncodingInvalid("keys are 1 to 128 printable ASCII characters")
            _check(item, depth - 1)
    else:
        raise EncodingInvalid(f"a document cannot hold a {type(value).__name__}")


def _no_float(_text: str) -> NoReturn:
    raise EncodingInvalid("documents hold no fractional numbers")


def _small_int(text: str) -> int:
    # int() on megabytes of digits is quadratic; sixteen digits and a sign are all that is allowed anyway
    if len(text) > 17:
        raise EncodingInvalid("integers in documents stay within 2^53-1; larger ones are decimal text")
    return int(text)


class Document(BaseModel):
    """A frozen model with canonical bytes. Subclasses set their size limit and the error their reader raises."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    MAX_BYTES: ClassVar[int] = 16 * 1024
    INVALID: ClassVar[type[GessoError]] = EncodingInvalid

    def encode(self) -> bytes:
        """Canonical bytes; raises `INVALID` when they exceed `MAX_BYTES`."""
        data = canonical(self._to_json())
        if len(data) > self.MAX_BYTES:
            raise self.INVALID(f"{type(self).__name__} has {len(data)} bytes; at most {self.MAX_BYTES} are allowed")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read canonical bytes from anyone. Raises `INVALID`; never anything else, whatever the bytes are."""
        try:
            value = parse(data, max_bytes=cls.MAX_BYTES)
            document = cls._from_json(value)
            if document.encode() != data:
                raise EncodingInvalid("the document leaves out or adds fields")
        except ValidationError as error:
            raise cls.INVALID(explain(error)) from None
        except GessoError as error:
            raise error if isinstance(error, cls.INVALID) else cls.INVALID(error.message) from None
        return document

    def _to_json(self) -> Json:
        dumped: Json = self.model_dump(mode="json")
        return dumped

    @classmethod
    def _from_json(cls, value: Json) -> Self:
        return cls.model_validate(value)


def explain(error: ValidationError, limit: int = 3) -> str:
    """The first few complaints of pydantic as one sentence, without the offending values (they may be private)."""
    complaints = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [_complaint(item) for item in complaints[:limit]]
    more = len(complaints) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _complaint(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])[:200]
    what = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
