"""Where a result is may be said by anybody; wrong words cost a look, never the result."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_results import NODE, TASK, TERMS, TRACE, manifest, put

from gesso.blobs import BlobStore
from gesso.collecting import FETCH_PATIENCE_S, Collector
from gesso.fetch import Commitment, OtherManifest
from gesso.seen import Seen
from gesso.stream import MAX_HINTS, TaskStream
from gesso_protocol.errors import BlobCorrupt, Unreachable
from gesso_protocol.ids import Address, BlobRef
from gesso_protocol.messages import ProgressEvent
from gesso_protocol.result import ResultManifest, result_root

pytestmark = pytest.mark.anyio

RESULT = manifest()


def told(*refs: BlobRef) -> TaskStream:
    stream = TaskStream(TASK, lambda _: None, lambda _: False)
    for number, ref in enumerate(refs):
        stream.on_progress(ProgressEvent(task=TASK, node=NODE, sequence=number, stage="committed", note=str(ref)))
    return stream


class Collected:
    """A collector of one result that is on chain since a while, over the stores and the relay of a test."""

    def __init__(self, blobs: BlobStore, *, proved: BlobRef | None = None, waited_s: float = 0) -> None:
        self.asked: list[BlobRef] = []
        self._blobs = blobs
        self._proved = proved
        ports: Any = SimpleNamespace(
            blobs=self, directory=self, announcers=(), chain_id=1, board=Address("0x" + "b0" * 20), spec_from=None
        )
        seen = Seen(commitment=Commitment(NODE, result_root(RESULT), TRACE), at={"committed": 0.0})
        params: Any = None
        self.collector = Collector(ports, TASK, TERMS, params, seen, started=time.monotonic() - waited_s)

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        self.asked.append(ref)
        return await self._blobs.get(ref, max_bytes=max_bytes)

    async def result_of(self, _: object) -> BlobRef | None:
        return self._proved


async def test_a_hint_that_names_too_much_is_passed_over(tmp_path: Path) -> None:
    blobs = await put(tmp_path, RESULT)
    big = await blobs.put(b"x" * (ResultManifest.MAX_BYTES + 1))
    delivery = await Collected(blobs).collector.fetch(told(big, RESULT.ref))
    assert delivery is not None
    assert delivery.manifest == RESULT


async def test_a_store_that_gives_other_bytes_is_asked_again(tmp_path: Path) -> None:
    class Broken:
        times = 0

        async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
            self.times += 1
            if self.times == 1:
                raise BlobCorrupt("other bytes")
            return await blobs.get(ref, max_bytes=max_bytes)

    blobs = await put(tmp_path, RESULT)
    broken: Any = Broken()
    collected, stream = Collected(broken), told(RESULT.ref)
    assert await collected.collector.fetch(stream) is None
    assert await collected.collector.fetch(stream) is not None


async def test_strangers_words_do_not_hide_what_a_relay_has_proved(tmp_path: Path) -> None:
    blobs = await put(tmp_path, RESULT)
    wrong = [BlobRef(bytes([number]) * 32) for number in range(MAX_HINTS)]
    delivery = await Collected(blobs, proved=RESULT.ref).collector.fetch(told(RESULT.ref, *wrong))
    assert delivery is not None


async def test_another_manifest_is_read_once_and_still_an_error_in_the_end(tmp_path: Path) -> None:
    blobs = await put(tmp_path, RESULT)
    other = await blobs.put(manifest(executor="diffusers").encode())
    collected, stream = Collected(blobs), told(other)
    for _ in range(3):
        assert await collected.collector.fetch(stream) is None
    assert collected.asked == [other]
    late = Collected(blobs, waited_s=FETCH_PATIENCE_S + 1).collector
    for _ in range(2):
        with pytest.raises(OtherManifest):
            await late.fetch(stream)


async def test_what_no_store_gives_is_out_of_reach_in_the_end(tmp_path: Path) -> None:
    blobs = await put(tmp_path, RESULT)
    late = Collected(blobs, waited_s=FETCH_PATIENCE_S + 1).collector
    with pytest.raises(Unreachable):
        await late.fetch(told(BlobRef(b"\x77" * 32)))
