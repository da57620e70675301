"""Whose fault it is that a training cannot be run: its requester's, where what it handed in is of use to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gesso_protocol.errors import ModelInvalid


class InputInvalid(ModelInvalid):
    """Data set, start, state or settings with which no node could train."""


@contextmanager
def from_requester() -> Iterator[None]:
    """What proves invalid inside the block came from whoever ordered the run."""
    try:
        yield
    except InputInvalid:
        raise
    except ModelInvalid as error:
        raise InputInvalid(error.message, hint=error.hint) from error
