"""Keccak-256 by pycryptodome's own C code, called directly: half of what its hash object costs for a few words.

A node computes one for every other node of every task, so this is much of what it computes while it waits. Where
pycryptodome is laid out differently one day, its public interface does the same.
"""

from __future__ import annotations

from collections.abc import Callable

from Crypto.Hash import keccak as _crypto

SIZE = 32
_CAPACITY, _ROUNDS, _PADDING = 64, 24, 1


def public(data: bytes) -> bytes:
    """By the library's documented interface."""
    return _crypto.new(digest_bits=8 * SIZE, data=data).digest()


def direct() -> Callable[[bytes], bytes]:
    """The same without the object around it. Raises what an unknown layout of the library raises."""
    from Crypto.Util._raw_api import ffi

    library = _crypto._raw_keccak_lib  # type: ignore[attr-defined]  # not in its stubs
    begin, absorb, end, free = (getattr(library, f"keccak_{name}") for name in ("init", "absorb", "digest", "destroy"))
    new, buffer, holder, room = ffi.new, ffi.buffer, ffi.typeof("void **"), ffi.typeof(f"uint8_t[{SIZE}]")

    def keccak(data: bytes) -> bytes:
        state, out = new(holder), new(room)
        if begin(state, _CAPACITY, _ROUNDS):
            raise MemoryError("no memory for a hash")
        absorb(state[0], data, len(data))
        end(state[0], out, SIZE, _PADDING)
        free(state[0])
        return bytes(buffer(out))

    if keccak(b"gesso") != public(b"gesso"):
        raise ValueError("the library computes something else")
    return keccak


def fastest() -> Callable[[bytes], bytes]:
    """Decided once, by trying."""
    try:
        return direct()
    except (ImportError, AttributeError, TypeError, ValueError):
        return public
