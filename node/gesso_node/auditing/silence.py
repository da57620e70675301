"""Whether a node had its time to open something: being late ourselves is no silence of its own."""

from __future__ import annotations

from collections import OrderedDict

from gesso_node.auditing.ask import LEAST_S
from gesso_node.auditing.inspect import CannotRunError
from gesso_protocol.ids import TaskId

MAX_REMEMBERED = 1024
Question = tuple[TaskId, bytes, str]
"""A task, the challenge that was drawn for it, and what is asked about it."""


class Silence:
    """Remembers questions that were asked with time left, and answered with nothing. Lost with the process: a node
    that starts again after the time is over cannot tell."""

    def __init__(self) -> None:
        self._fair: OrderedDict[Question, None] = OrderedDict()

    def met(self, question: Question, left: float) -> None:
        """Nothing was opened to a question that had `left` seconds when it was asked."""
        if left < LEAST_S:
            return
        self._fair[question] = None
        self._fair.move_to_end(question)
        while len(self._fair) > MAX_REMEMBERED:
            self._fair.popitem(last=False)

    def excuse(self, question: Question) -> CannotRunError | None:
        """Why this silence proves nothing; None where the node had time and used it for silence."""
        if question in self._fair:
            return None
        return CannotRunError("the time for openings was over before we were ready to ask for them", hopeless=False)
