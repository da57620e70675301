"""drand's public servers: where the signature of a round comes from. None of them is trusted.

Answers are bounded before they are parsed, every server has its own time, and whatever looks like a signature is
offered to the caller, who has it checked against drand's one key. A server that is down, slow, late or lying is passed
over. The chain's hash is part of every address, so a server cannot give rounds of another drand network by mistake.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated
from urllib.parse import urlsplit

import anyio
import httpx
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from gesso.answers import body_of
from gesso.chain.settings import DRAND_URLS, MAX_DRAND_SERVERS
from gesso_protocol import drand
from gesso_protocol.errors import EncodingInvalid

_log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 2048
SERVER_S = 4.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class _Answer(BaseModel):
    """What we need of a server's answer; its randomness is the signature's hash, so we compute that."""

    model_config = ConfigDict(frozen=True, strict=True)

    round: int
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{96}$")]


class DrandServers:
    """Asks one server after the other, beginning with the one that was last right."""

    def __init__(self, urls: Sequence[str] = DRAND_URLS, *, server_s: float = SERVER_S) -> None:
        self._urls = [url.rstrip("/") for url in urls[:MAX_DRAND_SERVERS]]
        self._server_s = server_s

    async def signatures(self, round_: int) -> AsyncGenerator[tuple[str, bytes], None]:
        """Server and compressed signature (48 bytes): a point of the curve that may still be a wrong one. Ends without
        any when no server has the round."""
        for url in tuple(self._urls):
            try:
                answer = await self._ask(url, round_)
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                _log.warning("drand server %s is silent about round %d: %s", url, round_, type(error).__name__)
                continue
            signature = read_signature(answer, round_)
            if signature is not None:
                yield url, signature

    def prefer(self, url: str) -> None:
        """It was right: ask it first from now on."""
        if url in self._urls:
            self._urls.remove(url)
            self._urls.insert(0, url)

    async def _ask(self, url: str, round_: int) -> bytes:
        """The answer, empty for one that is no answer. Raises what httpx raises, TimeoutError."""
        # A proxy for the outside world must not come between two processes of one machine.
        outside = urlsplit(url).hostname not in _LOOPBACK
        headers = {"Accept-Encoding": "identity", "User-Agent": "gesso"}
        with anyio.fail_after(self._server_s):
            async with (
                httpx.AsyncClient(timeout=self._server_s, trust_env=outside, headers=headers) as client,
                client.stream("GET", f"{url}/{drand.CHAIN_HASH}/public/{round_}") as reply,
            ):
                if reply.status_code != httpx.codes.OK:
                    return b""
                try:
                    return await body_of(reply, most=MAX_ANSWER_BYTES)
                except EncodingInvalid:
                    return b""


def read_signature(answer: bytes, round_: int) -> bytes | None:
    """The signature in a server's answer; None for another round, another form, or no point of the curve."""
    try:
        said = _Answer.model_validate_json(answer)
        signature = bytes.fromhex(said.signature)
        drand.uncompress(signature)
    except (ValidationError, EncodingInvalid):
        return None
    return signature if said.round == round_ else None
