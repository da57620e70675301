"""Where trainings can go on: the newest checkpoint that a node has signed for, task by task, for who asks later.

A requester that was away when its node died finds here what the node had said. Only the wallet's signature counts.
"""

from __future__ import annotations

from collections import OrderedDict

from gesso.chain.wallet import signer_of
from gesso_protocol.errors import UsageError
from gesso_protocol.ids import Address
from gesso_protocol.messages import ProgressEvent
from gesso_relay.index.entries import Document

_MAX_TASKS = 16_384


class Checkpoints:
    """Remembers the furthest checkpoint of a task's claimant, bounded; the tasks that went no further for longest leave
    first. A word that was heard before changes nothing, and strangers' words are not kept at all."""

    def __init__(self, chain_id: int, board: Address) -> None:
        self._chain_id = chain_id
        self._board = board
        self._kept: OrderedDict[str, tuple[int, Document]] = OrderedDict()

    def note(self, event: ProgressEvent, known: Document | None) -> None:
        """Take a signed word; `known` is the task in the index. Raises UsageError where another wallet signed it."""
        kept = event.checkpoint
        if kept is None:
            return
        digest = kept.digest(self._chain_id, self._board, event.task)
        if signer_of(digest, bytes.fromhex(kept.signature)) != event.node:
            raise UsageError("the checkpoint is not signed by the node in whose name it comes")
        task, node = str(event.task), str(event.node)
        if known is None or known.get("node") != node:
            return  # the claim is not indexed yet, or never will be: its node tells again with its next checkpoint
        before = self._kept.get(task)
        if before is not None and before[1]["node"] == node and before[0] >= kept.step:
            return
        said: Document = {"node": node, "total": event.total, **kept.model_dump(mode="json")}
        self._kept[task] = (kept.step, said)
        self._kept.move_to_end(task)
        while len(self._kept) > _MAX_TASKS:
            self._kept.popitem(last=False)

    def of(self, task: Document) -> Document | None:
        """The checkpoint of the node that the index shows for a task's document; None when it has said nothing."""
        _, said = self._kept.get(str(task["id"]), (0, None))
        return said if said is not None and said["node"] == task.get("node") else None
