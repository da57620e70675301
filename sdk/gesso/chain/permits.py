"""EIP-2612 permits: an allowance by signature, so that a deposit is one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gesso.chain.abi import function
from gesso.chain.rpc import Rpc
from gesso.chain.wallet import Wallet
from gesso_contracts import DEV_TOKEN
from gesso_protocol.errors import ChainError, ChainReverted
from gesso_protocol.ids import Address

VALID_FOR_S = 3600
_FIELDS = (("owner", "address"), ("spender", "address"), ("value", "uint256"), ("nonce", "uint256"))
_DOMAIN = (("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address"))


@dataclass(frozen=True, slots=True)
class Permit:
    """The last five arguments of `depositWithPermit` and `registerWithPermit`."""

    deadline: int
    v: int
    r: bytes
    s: bytes


class Permits:
    """Signs permits for one token. The token's domain is asked of it once (EIP-5267)."""

    def __init__(self, rpc: Rpc, token: Address, chain_id: int) -> None:
        self._rpc = rpc
        self._token = token
        self._chain_id = chain_id
        self._domain: dict[str, Any] | None = None
        self._unsupported = False

    async def sign(self, wallet: Wallet, spender: Address, amount: int, now: int) -> Permit | None:
        """A permit that holds for an hour of chain time, or None when the token knows no permits."""
        domain = await self._known_domain()
        if domain is None:
            return None
        nonces = function(DEV_TOKEN, "nonces")
        (nonce,) = nonces.decode(await self._rpc.call(self._token, nonces.encode(wallet.address)))
        deadline = now + VALID_FOR_S
        message = {"owner": str(wallet.address), "spender": str(spender), "value": int(amount), "nonce": nonce}
        signature = wallet.sign_typed(
            {
                "types": {
                    "EIP712Domain": [{"name": name, "type": kind} for name, kind in _DOMAIN],
                    "Permit": [{"name": name, "type": kind} for name, kind in (*_FIELDS, ("deadline", "uint256"))],
                },
                "primaryType": "Permit",
                "domain": domain,
                "message": message | {"deadline": deadline},
            }
        )
        return Permit(deadline=deadline, v=signature[64], r=signature[:32], s=signature[32:64])

    async def _known_domain(self) -> dict[str, Any] | None:
        if self._domain is None and not self._unsupported:
            asked = function(DEV_TOKEN, "eip712Domain")
            try:
                values = asked.decode(await self._rpc.call(self._token, asked.encode()))
            except (ChainReverted, ChainError):
                self._unsupported = True
                return None
            _, name, version, chain_id, contract, _, _ = values
            # The endpoint says what is signed here: it must not get an allowance for anything else.
            if chain_id != self._chain_id or Address(contract) != self._token:
                raise ChainError("the token's signing domain is of another chain or contract; nothing was signed")
            self._domain = {"name": name, "version": version, "chainId": chain_id, "verifyingContract": contract}
        return self._domain
