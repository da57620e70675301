"""A drand of our own for tests: a key that we know, a server that signs whatever round is asked for.

The contract's code is the shipped one but for the key, which is a constant in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from aiohttp import web
from anyio import to_thread
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, decompress_G2
from py_ecc.optimized_bls12_381.optimized_curve import G2, multiply, normalize

from gesso_contracts import DRAND_BEACON, Contract
from gesso_protocol import drand

SECRET = 0x5EED
DST = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"


@lru_cache(maxsize=64)
def sign(number: int) -> bytes:
    """Our signature of a round, compressed."""
    message = hash_to_G1(hashlib.sha256(number.to_bytes(8, "big")).digest(), DST, hashlib.sha256)  # type: ignore[arg-type]
    return int(compress_G1(multiply(message, SECRET))).to_bytes(48, "big")


class Staged(Contract):
    """The beacon's contract with our key in place of quicknet's."""

    @property
    def bytecode(self) -> str:
        return _ours(super().bytecode.lower())


def staged() -> Contract:
    """What `deploy` makes the beacon of."""
    return Staged(DRAND_BEACON.name)


def _ours(code: str) -> str:
    halves = (int.from_bytes(drand.PUBLIC_KEY[:48], "big"), int.from_bytes(drand.PUBLIC_KEY[48:], "big"))
    theirs, ours = _words(decompress_G2(halves)), _words(multiply(G2, SECRET))  # type: ignore[arg-type]
    assert code.count(theirs) == 1
    return code.replace(theirs, ours)


def _words(point: Any) -> str:
    """As the precompile takes points of G2, in hex."""
    x, y = normalize(point)[:2]
    return "".join(int(part).to_bytes(64, "big").hex() for axis in (x, y) for part in axis.coeffs)


@asynccontextmanager
async def signing() -> AsyncIterator[tuple[str, list[int]]]:
    """The server's address, and which rounds were asked for."""
    asked: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        asked.append(number)
        signature = await to_thread.run_sync(sign, number)
        return web.json_response({"round": number, "signature": signature.hex()})

    app = web.Application()
    app.router.add_get(f"/{drand.CHAIN_HASH}/public/{{number:\\d+}}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", asked
    finally:
        await runner.cleanup()
