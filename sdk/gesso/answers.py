"""Bodies of answers, bounded while they arrive: no server chooses how much memory it takes here."""

from __future__ import annotations

import httpx
from pydantic_core import from_json

from gesso_protocol.errors import EncodingInvalid


async def body_of(reply: httpx.Response, *, most: int) -> bytes:
    """As it was sent: nothing is unpacked. Raises EncodingInvalid for one of more than `most` bytes."""
    body = bytearray()
    async for piece in reply.aiter_raw():
        body += piece
        if len(body) > most:
            raise EncodingInvalid(f"the answer of {reply.url.host} is longer than {most} bytes")
    return bytes(body)


async def json_of(reply: httpx.Response, *, most: int) -> object:
    """What the body says. Raises EncodingInvalid for what is too long, no JSON, or nested without an end."""
    raw = await body_of(reply, most=most)
    try:
        return from_json(raw)  # bounded in depth, unlike the standard library's parser
    except ValueError as error:
        raise EncodingInvalid(f"the answer of {reply.url.host} is not JSON") from error
