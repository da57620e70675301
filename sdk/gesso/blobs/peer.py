"""Blobs straight from the peers we are connected to, over `/gesso/blob/1`: for results when no relay answers.

Read only, a chunk a request, and nothing is believed before the whole content hashes to its name. Meant for results
and manifests; models come over HTTP, which costs a fraction of the CPU.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread

from gesso.blobs.partial import Partial
from gesso.blobs.port import BlobSource, BlobStore, OnProgress
from gesso.transport.port import PeerId, Transport
from gesso_protocol.errors import BlobCorrupt, BlobMissing, BlobTooLarge, EncodingInvalid, GessoError, Unreachable
from gesso_protocol.ids import BlobRef
from gesso_protocol.manifest import CHUNK_BYTES
from gesso_protocol.messages import MAX_BLOB_REPLY_BYTES, PROTOCOL_BLOB, BlobRequest, decode_blob_reply

ASK_TIMEOUT_S = 5.0
MAX_PEERS_ASKED = 32


class PeerBlobs:
    """Asks connected peers in turn. A peer that lacks, breaks or hides the content is passed over."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, source: BlobSource, *, expect: BlobRef | None = None) -> BlobRef:  # noqa: ARG002 - as the port has it
        """Peers take nothing from us; they fetch. Raises Unreachable."""
        raise Unreachable("peers do not store blobs for others")

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""
        worst: GessoError = BlobMissing(f"none of the connected peers has {ref.short}")
        # Most peers are no nodes, or nodes that never had it: only a lie or an excess is worth telling.
        for info in self._transport.peers()[:MAX_PEERS_ASKED]:
            try:
                return await self.get_from(info.peer, ref, max_bytes=max_bytes)
            except (BlobCorrupt, BlobTooLarge) as error:
                worst = error
            except GessoError:
                continue
        raise worst

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: OnProgress | None = None) -> None:
        """See `BlobStore.fetch`; the content passes through memory, so keep `max_bytes` modest."""
        data = await self.get(ref, max_bytes=max_bytes)
        await to_thread.run_sync(_place, data, ref, dest)
        if progress is not None:
            progress(len(data), len(data))

    async def has(self, ref: BlobRef) -> bool:
        """See `BlobStore.has`."""
        try:
            await self.size(ref)
        except BlobMissing:
            return False
        return True

    async def size(self, ref: BlobRef) -> int:
        """See `BlobStore.size`; what the first peer says that claims to have it."""
        for info in self._transport.peers()[:MAX_PEERS_ASKED]:
            try:
                return (await self._ask(info.peer, ref, 0, 0))[0]
            except GessoError:
                continue
        raise BlobMissing(f"none of the connected peers has {ref.short}")

    async def get_from(self, peer: PeerId, ref: BlobRef, *, max_bytes: int) -> bytes:
        """The whole verified content from this connected peer. Raises as `get` does, and what the transport raises."""
        size = await self.size_from(peer, ref, max_bytes=max_bytes)
        data = bytearray()
        async for body in self.stream_from(peer, ref, size):
            data += body
        if BlobRef.of(data) != ref:
            raise BlobCorrupt(f"a peer sent something else than {ref.short}")
        return bytes(data)

    async def fetch_from(self, peer: PeerId, ref: BlobRef, dest: Path, *, max_bytes: int) -> None:
        """The whole verified content as a file, a chunk in memory at a time. Raises as `get_from` does."""
        size = await self.size_from(peer, ref, max_bytes=max_bytes)
        with Partial(ref, dest, size, None) as partial:
            partial.restart()
            async for body in self.stream_from(peer, ref, size):
                await to_thread.run_sync(partial.write, body)
            await to_thread.run_sync(partial.finish)

    async def size_from(self, peer: PeerId, ref: BlobRef, *, max_bytes: int) -> int:
        """What this peer says of its size. Raises BlobTooLarge, BlobMissing."""
        size, _ = await self._ask(peer, ref, 0, 0)
        if size > max_bytes:
            raise BlobTooLarge(f"{ref.short} is said to have {size} bytes; at most {max_bytes} are wanted")
        return size

    async def stream_from(self, peer: PeerId, ref: BlobRef, size: int) -> AsyncIterator[bytes]:
        """`size` bytes in order, unchecked, for whoever hashes them. Raises BlobCorrupt for fewer."""
        at = 0
        while at < size:
            length = min(CHUNK_BYTES, size - at)
            _, body = await self._ask(peer, ref, at, length)
            if len(body) < length:  # whole chunks only, or a byte at a time could hold us up for days
                raise BlobCorrupt(f"a peer stopped in the middle of {ref.short}")
            at += length
            yield body

    async def _ask(self, peer: PeerId, ref: BlobRef, offset: int, length: int) -> tuple[int, bytes]:
        question = BlobRequest(blob=ref, offset=offset, length=length)
        reply = await self._transport.request(
            peer, PROTOCOL_BLOB, question.encode(), timeout_s=ASK_TIMEOUT_S, max_reply=MAX_BLOB_REPLY_BYTES
        )
        header, body = decode_blob_reply(reply)
        if header.status != "ok":
            raise BlobMissing(f"a peer answers {header.status} for {ref.short}")
        if len(body) > length:
            raise EncodingInvalid("a peer sent more than it was asked for")
        return header.size, body


class PeersFirst:
    """A home store for everything, with connected peers asked before it for what is small enough to `get`.

    Peers come first because a node lets go of its requester when the task is over, while a relay that is away is
    tried for seconds before it counts as silent.
    """

    def __init__(self, home: BlobStore, peers: PeerBlobs) -> None:
        self._home = home
        self._peers = peers

    async def put(self, source: BlobSource, *, expect: BlobRef | None = None) -> BlobRef:
        """See `BlobStore.put`."""
        return await self._home.put(source, expect=expect)

    async def get(self, ref: BlobRef, *, max_bytes: int) -> bytes:
        """See `BlobStore.get`."""
        try:
            return await self._peers.get(ref, max_bytes=max_bytes)
        except GessoError:
            return await self._home.get(ref, max_bytes=max_bytes)

    async def fetch(self, ref: BlobRef, dest: Path, *, max_bytes: int, progress: OnProgress | None = None) -> None:
        """See `BlobStore.fetch`."""
        await self._home.fetch(ref, dest, max_bytes=max_bytes, progress=progress)

    async def has(self, ref: BlobRef) -> bool:
        """See `BlobStore.has`."""
        return await self._home.has(ref)

    async def size(self, ref: BlobRef) -> int:
        """See `BlobStore.size`."""
        return await self._home.size(ref)


def _place(data: bytes, ref: BlobRef, dest: Path) -> None:
    # The partial file is shared with other adapters that fetch to the same place; only its lock keeps them apart.
    with Partial(ref, dest, len(data), None) as partial:
        partial.restart()
        for start in range(0, len(data), CHUNK_BYTES):
            partial.write(data[start : start + CHUNK_BYTES])
        partial.finish()
