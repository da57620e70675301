"""Posting JSON-RPC: what is asked in one breath, or while others are on their way, travels as one batch.

So a quiet client waits for nothing, and a busy one pays for a post once for many requests. An endpoint that takes no
batches is told one request at a time from then on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
from pydantic_core import from_json, to_json

from gesso_protocol.errors import ChainError

MAX_REPLY_BYTES = 64 << 20
"""An answer longer than this is not read: a page of logs is a few megabytes."""
MAX_BATCH = 32
MAX_POSTS = 4
_HEAVY = frozenset({"eth_getLogs"})
"""Long answers, which nobody else should have to wait for."""
_HEADERS = {"Content-Type": "application/json"}


class AnswerTooLong(ChainError):  # noqa: N818 - named like the rest of the tree
    """The endpoint answers more than is read; of a range, less can be asked for."""

    code = "answer-too-long"
    default_message = "the chain's answer is too long"
    default_hint = "ask for less at once: lower chain.max_log_range, or use another endpoint"


class _Crowd:
    """Requests of one caller, which goes on when all of them are answered or have failed."""

    __slots__ = ("_left", "future", "replies")

    def __init__(self, size: int) -> None:
        self.replies: list[Any] = [None] * size
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._left = size

    def take(self, place: int, reply: Any) -> None:
        self.replies[place] = reply
        self._left -= 1
        if self._left == 0 and not self.future.done():
            self.future.set_result(self.replies)


@dataclass(slots=True)
class _Asked:
    method: str
    body: bytes
    id: int
    crowd: _Crowd
    place: int
    answered: bool = False

    def answer(self, reply: Any) -> None:
        """Or the exception that there is instead of one."""
        if not self.answered:
            self.answered = True
            self.crowd.take(self.place, reply)


class Poster:
    """Replies to single requests, as parsed JSON of any shape; the session it posts with is its own."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None
        self._waiting: deque[_Asked] = deque()
        self._posts: set[asyncio.Task[None]] = set()
        self._batches = True
        self._gathering = False
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._closed = True
        for post in list(self._posts):
            post.cancel()
        # Whoever leaves because it is cancelled would be cancelled here again, and the session stay open.
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*self._posts, return_exceptions=True)
            while self._waiting:
                self._waiting.popleft().crowd.future.cancel()
            if self._session is not None:
                await self._session.close()

    async def ask(self, method: str, params: Sequence[Any]) -> Any:
        """Raises what aiohttp raises, ValueError for a body that is no JSON, ChainError for one that is too long."""
        (reply,) = await self.ask_all(method, [params])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_all(self, method: str, many: Sequence[Sequence[Any]]) -> list[Any]:
        """The same of many requests, in their order, each with its reply or the exception that `ask` would raise."""
        ids = [next(self._ids) for _ in many]
        bodies = [
            to_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            for number, params in zip(ids, many, strict=True)
        ]
        if not self._batches or method in _HEAVY:
            return await asyncio.gather(*(self._post(method, body) for body in bodies), return_exceptions=True)
        crowd = _Crowd(len(many))
        for place, (number, body) in enumerate(zip(ids, bodies, strict=True)):
            self._waiting.append(_Asked(method, body, number, crowd, place))
        if not self._gathering:
            # Not at once: what others ask in this turn of the loop may come along.
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._send_waiting)
        return await crowd.future

    def _send_waiting(self) -> None:
        self._gathering = False
        while self._waiting and len(self._posts) < MAX_POSTS:
            wave = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            post = asyncio.create_task(self._deliver([asked for asked in wave if not asked.crowd.future.done()]))
            self._posts.add(post)
            post.add_done_callback(self._posted)

    def _posted(self, post: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        if not post.cancelled() and not self._closed:
            self._send_waiting()

    async def _deliver(self, wave: list[_Asked]) -> None:
        try:
            if len(wave) == 1:
                wave[0].answer(await self._post(wave[0].method, wave[0].body))
            elif wave:
                await self._deliver_batch(wave)
        except Exception as error:
            for asked in wave:
                asked.answer(error)
        finally:
            for asked in wave:
                if not asked.answered:
                    asked.crowd.future.cancel()

    async def _deliver_batch(self, wave: list[_Asked]) -> None:
        replies: Any = None
        with suppress(aiohttp.ClientResponseError):
            replies = await self._post("a batch", b"[" + b",".join(asked.body for asked in wave) + b"]")
        if not isinstance(replies, list):
            self._batches = False
            replies = []
        by_id = {reply.get("id"): reply for reply in replies if isinstance(reply, Mapping)}
        for asked in wave:
            # What a batch leaves out is asked once more by itself; a transaction that arrived twice is known.
            reply = by_id.get(asked.id)
            asked.answer(await self._post(asked.method, asked.body) if reply is None else reply)

    async def _post(self, what: str, body: bytes) -> Any:
        if self._closed:
            raise RuntimeError("Session is closed")  # what aiohttp says where one was open
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        async with self._session.post(self._url, data=body, headers=_HEADERS) as reply:
            reply.raise_for_status()
            data = bytearray()
            async for piece in reply.content.iter_any():
                data += piece
                if len(data) > MAX_REPLY_BYTES:
                    raise AnswerTooLong(f"the chain's answer to {what} is too long")
            # Not the standard library's reader, which a deeply nested answer can end the process with where some
            # library has lifted Python's recursion limit: this one bounds the depth itself.
            return from_json(bytes(data))
