"""What is handed over before its node's claim is in a block: when a requester believes it.

Nothing binds a node at that point: its claim, and with it its stake, stands behind the pictures from the claim's block
on only. What can be told from here is that the claim is about to be mined, and that it is early enough for an honest
node to have gone ahead.
"""

from __future__ import annotations

from gesso.chain.chain import Chain
from gesso_protocol.handover import Handover
from gesso_protocol.ids import Address
from gesso_protocol.lifecycle import TaskRecord, TaskState, ahead_until
from gesso_protocol.terms import BoardParams, Terms


async def is_about_to_claim(
    chain: Chain, record: TaskRecord, terms: Terms, params: BoardParams, node: Address, handover: Handover
) -> bool:
    """Whether nobody has claimed, honest nodes still go ahead of their claims, and this node's claim would be mined in
    the next block: the board itself, asked in the node's name, says that the draw lets it. Raises Unreachable,
    ChainError."""
    if record.state is not TaskState.SUBMITTED or handover.claim is None:
        return False
    last = ahead_until(record.view(terms, params), await chain.block_interval_s())
    if last is None or await chain.now() > last:
        return False
    return await chain.claim_waits(handover.claim, node, terms)
