"""Reading server-sent events of which only the `data` matters, one line each; bounded, whoever sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from gesso_protocol.errors import EncodingInvalid

TIMEOUT = httpx.Timeout(10, read=60)
"""Relays send a sign of life every 15 s."""


async def data_lines(reply: httpx.Response, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The `data` of each event as it comes. Raises EncodingInvalid for a line of more than `max_bytes`."""
    pending = b""
    async for piece in reply.aiter_raw():
        pending += piece
        *lines, pending = pending.split(b"\n")
        if len(pending) > max_bytes:
            raise EncodingInvalid("the relay sends a line that is too long")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
