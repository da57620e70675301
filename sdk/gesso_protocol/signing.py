"""What wallets sign for gesso: EIP-712 documents under the board's domain, as a digest and as a whole document."""

from __future__ import annotations

from typing import Any

from gesso_protocol.hashing import keccak256
from gesso_protocol.ids import Address

DOMAIN_NAME = "gesso"
DOMAIN_VERSION = "1"
_DOMAIN = (("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address"))
Fields = tuple[tuple[str, str], ...]
"""Name and Solidity type of each field of a signed type, in its order."""


def typed_digest(chain_id: int, board: Address, name: str, fields: Fields, words: bytes) -> bytes:
    """The 32 bytes to sign for type `name`; `words` are its values, 32 bytes each, in the order of its fields."""
    domain = keccak256(
        keccak256(_signature("EIP712Domain", _DOMAIN))
        + keccak256(DOMAIN_NAME.encode())
        + keccak256(DOMAIN_VERSION.encode())
        + chain_id.to_bytes(32, "big")
        + bytes(12)
        + board.raw
    )
    return keccak256(b"\x19\x01" + domain + keccak256(keccak256(_signature(name, fields)) + words))


def typed_document(chain_id: int, board: Address, name: str, fields: Fields, message: dict[str, Any]) -> dict[str, Any]:
    """The same as a full EIP-712 document, for wallets that show what they sign."""
    return {
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": chain_id,
            "verifyingContract": str(board),
        },
        "types": {
            "EIP712Domain": [{"name": field, "type": kind} for field, kind in _DOMAIN],
            name: [{"name": field, "type": kind} for field, kind in fields],
        },
        "primaryType": name,
        "message": message,
    }


def _signature(name: str, fields: Fields) -> bytes:
    return f"{name}({','.join(f'{kind} {field}' for field, kind in fields)})".encode()
