"""Programs leave what they begin with out of the collector's walks; what comes later is still collected."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from gesso.heap import keep_for_good


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me: Any = self


def test_what_is_there_is_walked_no_more_and_later_garbage_goes() -> None:
    before = gc.get_freeze_count()
    keep_for_good()
    assert gc.get_freeze_count() > before
    ring = weakref.ref(Ring())
    gc.collect()
    assert ring() is None
