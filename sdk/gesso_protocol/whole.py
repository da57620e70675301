"""Whole numbers that documents carry as text, because readers of JSON elsewhere round large ones."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic_core import CoreSchema, core_schema

from gesso_protocol.errors import EncodingInvalid


class Whole(int):
    """0 to 2^`bits`-1; in documents its shortest decimal text. Whoever derives from it says what it counts."""

    __slots__ = ()

    _top: ClassVar[int]
    _form: ClassVar[re.Pattern[str]]
    _what: ClassVar[str]
    _range: ClassVar[str]

    def __init_subclass__(cls, *, bits: int, what: str) -> None:
        cls._top, cls._what = 2**bits, what
        cls._form = re.compile(f"(0|[1-9][0-9]{{0,{len(str(2**bits)) - 1}}})")
        cls._range = f"{what} is an integer from 0 to 2^{bits}-1"

    def __new__(cls, value: int = 0) -> Self:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < cls._top:
            raise EncodingInvalid(cls._range)
        return super().__new__(cls, value)

    def __str__(self) -> str:
        return int.__repr__(self)

    @classmethod
    def validate(cls, value: object) -> Self:
        """An integer or its shortest decimal text; anything else raises `EncodingInvalid`."""
        if isinstance(value, str) and cls._form.fullmatch(value):
            return cls(int(value))
        if isinstance(value, int):
            return cls(value)
        raise EncodingInvalid(f"{cls._what} is a whole number")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.validate,
            json_schema_input_schema=core_schema.str_schema(pattern=f"^{cls._form.pattern}$"),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )
