"""Whether a node had its time to open something: being late ourselves is no silence of its own."""

from __future__ import annotations

from collections import OrderedDict

from gesso_node.auditing.ask import LEAST_S
from gesso_node.auditing.inspect import CannotRunError
from gesso_protocol.ids import TaskId

MAX_REMEMBERED = 1024
WINDOW_PARTS = 8
"""A node had time when an eighth of the window was left to it, or `MOST_S`."""
MOST_S = 30.0
"""Two thirds of it, which are the node's own, are what one question waits."""
Question = tuple[TaskId, bytes, str]
"""A task, the challenge that was drawn for it, and what is asked about it."""


def fair_s(window_s: float) -> float:
    """How long before its end a question must be asked, in a window of so many seconds, for silence to mean something:
    whoever was busy with a download until the last moment has not given the node its time."""
    return min(max(LEAST_S, window_s / WINDOW_PARTS), MOST_S)


class Silence:
    """Remembers questions that were asked with time left, and answered with nothing. Lost with the process: a node
    that starts again after the time is over cannot tell."""

    def __init__(self) -> None:
        self._fair: OrderedDict[Question, None] = OrderedDict()

    def met(self, question: Question, left: float, fair: float) -> None:
        """Nothing was opened to a question that had `left` seconds when it was asked, where `fair` are enough."""
        if left < fair:
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
