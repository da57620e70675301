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
_MAX_NODES = 2
"""Before the index shows who claimed a task, somebody else may sign for it too."""


class Checkpoints:
    """Remembers one checkpoint a task and node, bounded; the tasks that were not spoken of for longest leave first."""

    def __init__(self, chain_id: int, board: Address) -> None:
        self._chain_id = chain_id
        self._board = board
        self._kept: OrderedDict[str, OrderedDict[str, Document]] = OrderedDict()

    def note(self, event: ProgressEvent) -> None:
        """Take a node's signed word. Raises UsageError for one that another wallet signed."""
        kept = event.checkpoint
        if kept is None:
            return
        digest = kept.digest(self._chain_id, self._board, event.task)
        if signer_of(digest, bytes.fromhex(kept.signature)) != event.node:
            raise UsageError("the checkpoint is not signed by the node in whose name it comes")
        task, node = str(event.task), str(event.node)
        nodes = self._kept.setdefault(task, OrderedDict())
        nodes[node] = {"node": node, "total": event.total, **kept.model_dump(mode="json")}
        nodes.move_to_end(node)
        self._kept.move_to_end(task)
        if len(nodes) > _MAX_NODES:
            nodes.popitem(last=False)
        while len(self._kept) > _MAX_TASKS:
            self._kept.popitem(last=False)

    def of(self, task: Document) -> Document | None:
        """The checkpoint of the node that the index shows for a task's document; None when it has said nothing."""
        nodes = self._kept.get(str(task["id"]))
        return None if nodes is None else nodes.get(str(task.get("node")))
