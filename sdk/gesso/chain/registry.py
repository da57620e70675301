"""Nodes: joining with a stake, pausing, leaving, and what the registry says of one."""

from __future__ import annotations

from gesso.chain.calls import ZERO, Calls, receipt_of
from gesso.chain.records import NodeRecord, NodeState, TxReceipt
from gesso_contracts import NODE_REGISTRY
from gesso_protocol.ids import Address
from gesso_protocol.money import Wei


class Registry(Calls):
    """Stakes, peer ids, weights."""

    async def register_node(self, peer_id: bytes, capabilities: bytes, stake: Wei) -> TxReceipt:
        """Join with stake from the wallet. `peer_id` 1 to 64 bytes, `capabilities` 32."""
        registry = self._contracts.node_registry
        await self._require_tokens(stake)
        if await self._allowance(registry) >= stake:
            return receipt_of(await self._send(NODE_REGISTRY, "register", peer_id, capabilities, int(stake)))
        permit = await self._permits.sign(self._signing_wallet(), registry, stake, await self.now())
        if permit is None:
            await self._allow(registry, stake)
            return receipt_of(await self._send(NODE_REGISTRY, "register", peer_id, capabilities, int(stake)))
        arguments = (peer_id, capabilities, int(stake), permit.deadline, permit.v, permit.r, permit.s)
        return receipt_of(await self._send(NODE_REGISTRY, "registerWithPermit", *arguments))

    async def update_node(self, peer_id: bytes, capabilities: bytes) -> TxReceipt:
        return receipt_of(await self._send(NODE_REGISTRY, "update", peer_id, capabilities))

    async def add_stake(self, amount: Wei) -> TxReceipt:
        """More stake from the wallet, for a node that is active or paused."""
        await self._allow(self._contracts.node_registry, amount)
        return receipt_of(await self._send(NODE_REGISTRY, "addStake", int(amount)))

    async def pause_node(self) -> TxReceipt:
        return receipt_of(await self._send(NODE_REGISTRY, "pause"))

    async def resume_node(self) -> TxReceipt:
        return receipt_of(await self._send(NODE_REGISTRY, "resume"))

    async def begin_unbond(self) -> TxReceipt:
        return receipt_of(await self._send(NODE_REGISTRY, "beginUnbond"))

    async def withdraw_stake(self) -> TxReceipt:
        return receipt_of(await self._send(NODE_REGISTRY, "withdrawStake"))

    async def node(self, address: Address) -> NodeRecord:
        """A node's record; state NONE when it never registered."""
        values = await self._read(NODE_REGISTRY, "nodeOf", str(address))
        peer_id, capabilities, stake, weight, state, standing, unbond_at = values
        return NodeRecord(
            address=address,
            peer_id=peer_id,
            capabilities=capabilities,
            stake=Wei(stake),
            weight=weight,
            state=NodeState(state),
            standing=standing,
            unbond_at=unbond_at,
        )

    async def node_of_peer(self, peer_id: bytes) -> Address | None:
        """The wallet that a peer id is bound to."""
        (wallet,) = await self._read(NODE_REGISTRY, "walletOf", peer_id)
        return None if wallet == ZERO else Address(wallet)

    async def stake_per_weight(self) -> Wei:
        """How much stake makes one unit of sortition weight."""
        return Wei((await self._read(NODE_REGISTRY, "params"))[1])

    async def total_weight(self) -> int:
        return int((await self._read(NODE_REGISTRY, "totalWeight"))[0])

    async def weight_of(self, node: Address) -> int:
        return int((await self._read(NODE_REGISTRY, "weightOf", str(node)))[0])
