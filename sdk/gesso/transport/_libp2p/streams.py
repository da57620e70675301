"""One request on one stream: length, body; back come status, length, body. Every length is checked before reading."""

from __future__ import annotations

import struct

from libp2p.abc import INetStream

from gesso.transport.exchange import MAX_REASON_BYTES, Reply, Status

_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BI")
_PIECE = 32 * 1024
"""Small enough that one frame crosses a link of tiny packets in few pieces."""


class TooLongError(Exception):
    """The other side announced more bytes than were agreed."""


async def send_request(stream: INetStream, data: bytes) -> None:
    await _write(stream, _LENGTH.pack(len(data)) + data)


async def receive_request(stream: INetStream, *, max_request: int) -> bytes:
    (length,) = _LENGTH.unpack(await _read(stream, _LENGTH.size))
    if length > max_request:
        raise TooLongError
    return await _read(stream, length)


async def send_reply(stream: INetStream, reply: Reply) -> None:
    await _write(stream, _HEAD.pack(reply.status, len(reply.body)) + reply.body)


async def receive_reply(stream: INetStream, *, max_reply: int) -> Reply:
    """Raises ValueError for a status nobody defined."""
    status, length = _HEAD.unpack(await _read(stream, _HEAD.size))
    known = Status(status)
    if length > (max_reply if known is Status.OK else MAX_REASON_BYTES):
        raise TooLongError
    return Reply(known, await _read(stream, length))


async def _write(stream: INetStream, data: bytes) -> None:
    for start in range(0, len(data), _PIECE):
        await stream.write(data[start : start + _PIECE])


async def _read(stream: INetStream, length: int) -> bytes:
    """Our own loop: the library's gives up after 100 reads. The end of the stream raises its own error."""
    body = bytearray()
    while len(body) < length:
        chunk = await stream.read(min(length - len(body), _PIECE))
        if not chunk:
            raise EOFError
        body += chunk
    return bytes(body)
