"""The HTTP face of the embedded chain: JSON-RPC 2.0, single and batched, bounded at every step."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from gesso_devnet.chain.wire import INTERNAL, INVALID_REQUEST, LIMIT_EXCEEDED, PARSE_ERROR, Json, RpcError

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_BATCH = 200
MAX_REPLY_BYTES = 32 * 1024 * 1024

_log = logging.getLogger(__name__)
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)

Method = Callable[[str, list[Json]], Json]


class Front:
    """Serves one method table. Every call runs on `executor`, whose single thread owns the chain."""

    def __init__(self, method: Method, executor: ThreadPoolExecutor) -> None:
        self._method = method
        self._executor = executor

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            problem = f"request larger than {MAX_BODY_BYTES} bytes"
            return _reply(_encode(_error(None, INVALID_REQUEST, problem)), status=413)
        loop = asyncio.get_running_loop()
        return _reply(await loop.run_in_executor(self._executor, self._answer, body))

    def _answer(self, body: bytes) -> bytes:
        if too_deep(body):
            return _encode(_error(None, PARSE_ERROR, f"nested more than {MAX_DEPTH} deep"))
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return _encode(_error(None, PARSE_ERROR, "not JSON"))
        if not isinstance(request, list):
            return _encode(self._one(request))
        if not 1 <= len(request) <= MAX_BATCH:
            problem = f"a batch holds 1 to {MAX_BATCH} requests, this one {len(request)}"
            return _encode(_error(None, INVALID_REQUEST, problem))
        return self._batch(request)

    def _batch(self, requests: list[Json]) -> bytes:
        replies: list[bytes] = []
        left = MAX_REPLY_BYTES
        for request in requests:
            if left > 0:
                replies.append(_encode(self._one(request)))
            else:
                replies.append(_encode(_error(_id(request), LIMIT_EXCEEDED, "the batch's reply grew too large")))
            left -= len(replies[-1])
        return b"[" + b",".join(replies) + b"]"

    def _one(self, request: Json) -> Json:
        if not isinstance(request, dict):
            return _error(None, INVALID_REQUEST, "a request is an object")
        name, params = request.get("method"), request.get("params", [])
        if request.get("jsonrpc") != "2.0" or not isinstance(name, str):
            return _error(_id(request), INVALID_REQUEST, "a request needs jsonrpc 2.0 and a method name")
        if not isinstance(params, list):
            return _error(_id(request), INVALID_REQUEST, "params must be a list")
        try:
            return {"jsonrpc": "2.0", "id": _id(request), "result": self._method(name, params)}
        except RpcError as error:
            return {"jsonrpc": "2.0", "id": _id(request), "error": error.body()}
        except Exception:  # the chain must outlive any request; the log keeps the cause
            _log.exception("embedded chain failed on %s", name[:80])
            return _error(_id(request), INTERNAL, "internal error")


def too_deep(body: bytes) -> bool:
    """Whether brackets nest beyond what any request needs. Python's own guard is not enough here: py-evm raises the
    recursion limit so far that a nested body would overflow the C stack and kill the process."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKENS.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in b"]}":
            depth -= 1
    return False


def _id(request: Json) -> Json:
    value = request.get("id") if isinstance(request, dict) else None
    usable = isinstance(value, int) or (isinstance(value, str) and len(value) <= 128)
    return value if usable else None


def _error(request_id: Json, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}


def _encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _reply(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
