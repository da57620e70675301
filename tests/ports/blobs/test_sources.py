"""Many sources for one content: one that lies, refuses or shares a partial file must not spoil the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gesso.blobs import BlobStore, LayeredBlobs, LocalBlobs
from gesso.blobs.partial import Partial
from gesso.blobs.peer import PeerBlobs
from gesso.transport.port import Transport
from gesso_protocol.errors import BlobTooLarge, ConfigError, GessoError, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.messages import BlobReply, BlobRequest, encode_blob_reply

pytestmark = pytest.mark.anyio
DATA = b"0123456789" * 150_000
REF = BlobRef.of(DATA)


class Refusing:
    """A store that answers every question with one error."""

    def __init__(self, error: GessoError) -> None:
        self._error = error

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        raise self._error

    async def has(self, ref: BlobRef) -> bool:
        raise self._error


class Peers:
    """A transport with one honest peer that has one blob."""

    def peers(self) -> tuple[SimpleNamespace, ...]:
        return (SimpleNamespace(peer="16Uiu2HAm"),)

    async def request(self, peer: str, protocol: str, data: bytes, **_limits: Any) -> bytes:
        asked = BlobRequest.decode(data)
        body = DATA[asked.offset : asked.offset + asked.length]
        return encode_blob_reply(BlobReply(status="ok", size=len(DATA), length=len(body)), body)


@pytest.mark.parametrize("error", [BlobTooLarge("of any size"), ConfigError("a token"), Unreachable("away")])
async def test_a_store_that_refuses_is_passed_over(tmp_path: Path, error: GessoError) -> None:
    local = LocalBlobs(tmp_path)
    await local.put(DATA)
    refusing = cast("BlobStore", Refusing(error))
    assert await LayeredBlobs([refusing, local]).get(REF, max_bytes=len(DATA)) == DATA
    with pytest.raises(type(error)):
        await LayeredBlobs([refusing, LocalBlobs(tmp_path / "empty")]).get(REF, max_bytes=len(DATA))


@pytest.mark.parametrize("error", [BlobTooLarge("of any size"), ConfigError("a token"), Unreachable("away")])
async def test_a_store_that_refuses_to_say_what_it_has_is_passed_over(tmp_path: Path, error: GessoError) -> None:
    local = LocalBlobs(tmp_path)
    await local.put(DATA)
    refusing = cast("BlobStore", Refusing(error))
    assert await LayeredBlobs([refusing, local]).has(REF)
    assert not await LayeredBlobs([refusing, LocalBlobs(tmp_path / "empty")]).has(REF)
    with pytest.raises(Unreachable):
        await LayeredBlobs([refusing, refusing]).has(REF)


async def test_peers_leave_another_writers_partial_file_alone(tmp_path: Path) -> None:
    peers = PeerBlobs(cast("Transport", Peers()))
    with Partial(REF, tmp_path / "dest", len(DATA), None) as other:
        other.write(DATA[: 1 << 20])
        await peers.fetch(REF, tmp_path / "dest", max_bytes=len(DATA))
        assert (tmp_path / "dest").read_bytes() == DATA
        other.write(DATA[1 << 20 :])
        other.finish()
    assert (tmp_path / "dest").read_bytes() == DATA
    assert not (tmp_path / "dest.part").exists()
