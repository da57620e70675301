"""What a relay fetches beside its service may fail with its disk; the relay goes on."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import anyio
import pytest

from gesso.transport.memory import MemoryHub, MemoryTransport
from gesso_protocol.ids import BlobRef
from gesso_protocol.trace import LeafKind
from gesso_relay import evidence
from gesso_relay.cards import Cards
from gesso_relay.evidence import EvidenceKeeper
from gesso_relay.limits import Room
from gesso_relay.mirror import Mirror
from gesso_relay.proofs import OpenedFile

pytestmark = pytest.mark.anyio

REF = BlobRef(b"\x07" * 32)


class BrokenDisk:
    """Says that each blob is here, and cannot read one; or has none, and cannot keep one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def path(self, _: BlobRef) -> Path | None:
        return self._path

    async def get(self, *_: object, **__: object) -> bytes:
        raise OSError(errno.EIO, "the disk is broken")

    put = get


async def test_a_card_that_cannot_be_read_is_passed_over() -> None:
    cache: Any = BrokenDisk(Path("here"))
    database: Any = None
    await Cards(cache, database, None)._try(REF)


async def test_evidence_that_cannot_be_kept_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Peers:
        async def get(self, *_: object, **__: object) -> bytes:
            return b"openings"

    monkeypatch.setattr(evidence, "FIRST_PAUSE_S", 0.0)
    cache: Any = BrokenDisk(None)
    async with MemoryTransport(MemoryHub()) as transport:
        keeper = EvidenceKeeper(transport, cache)
        monkeypatch.setattr(keeper, "_peers", Peers())
        await keeper._keep(REF)


async def test_a_file_that_leaves_while_it_is_looked_at_is_away(tmp_path: Path) -> None:
    cache: Any = BrokenDisk(tmp_path / "left")
    file = OpenedFile(blob=REF, digest=b"\x00" * 32, size=5, kind=LeafKind.FILE)
    async with MemoryTransport(MemoryHub()) as transport:
        mirror = Mirror(cache, transport, Room("files", 1 << 20, 1 << 20), 1 << 20)
        async with anyio.create_task_group() as group:
            group.start_soon(mirror.run)
            await anyio.wait_all_tasks_blocked()
            assert not await mirror.bring("node", transport.peer_id, [file])
            assert mirror._slow == {}
            group.cancel_scope.cancel()
