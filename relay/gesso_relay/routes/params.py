"""Reading what comes in an address: every parameter is named, bounded and checked; unknown ones are errors."""

from __future__ import annotations

from aiohttp import web

from gesso.settings import suggestion
from gesso_protocol.errors import EncodingInvalid, UsageError
from gesso_protocol.ids import Address, TaskId
from gesso_relay.index.queries import MAX_PAGE

DEFAULT_PAGE = 50


def known(request: web.Request, *names: str) -> None:
    """Raises UsageError for a parameter that this endpoint does not have, or has twice."""
    for name in request.query:
        if name not in names:
            raise UsageError(f"unknown parameter {name[:64]!r}{suggestion(name[:64], names)}")
        if len(request.query.getall(name)) > 1:
            raise UsageError(f"the parameter {name!r} is given twice")


def one_of(request: web.Request, name: str, allowed: tuple[str, ...]) -> str | None:
    """One of a few words, or None when it is not given."""
    value = request.query.get(name)
    if value is not None and value not in allowed:
        raise UsageError(f"{name} is one of: {', '.join(allowed)}")
    return value


def flag(request: web.Request, name: str) -> bool:
    """`true` or `false`; false when it is not given."""
    return one_of(request, name, ("true", "false")) == "true"


def address(request: web.Request, name: str) -> Address | None:
    """An account address, or None when it is not given."""
    value = request.query.get(name)
    return None if value is None else _account(value)


def number(request: web.Request, name: str, *, low: int, high: int) -> int | None:
    """A decimal number in the range, or None when it is not given."""
    value = request.query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 20 and low <= int(value) <= high):
        raise UsageError(f"{name} is a number from {low} to {high}")
    return int(value)


def limit(request: web.Request) -> int:
    """How many items a page shall have."""
    return number(request, "limit", low=1, high=MAX_PAGE) or DEFAULT_PAGE


def before(request: web.Request) -> int | None:
    """Where a page begins: the `next` of the page that came before."""
    return number(request, "before", low=0, high=2**63 - 1)


def task_in_path(request: web.Request) -> TaskId:
    """The task that the path names."""
    try:
        return TaskId.parse(request.match_info["task"])
    except EncodingInvalid:
        raise UsageError("that is no task", hint="a task is named by 0x and 64 lower-case hex digits") from None


def address_in_path(request: web.Request, name: str) -> Address:
    """The account that the path names."""
    return _account(request.match_info[name])


def _account(text: str) -> Address:
    try:
        return Address(text)
    except EncodingInvalid:
        raise UsageError("that is no account", hint="an account is 0x and 40 hex digits") from None
