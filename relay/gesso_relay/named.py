"""Which blobs were named as tasks' results before anybody can tell which name is right, and who named them.

Memory is bounded in such a way that who says much pushes out words of its own: never those of somebody who says less.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from heapq import heapify, heappop, heapreplace

from gesso_protocol.ids import BlobRef, TaskId

MAX_NAMES = 16_384
MAX_OF_TASK = 64
MAX_OF_TASK_BY_ONE = 2
_FREED_AT_ONCE = 16
"""A full memory frees one part in so many, so that looking for who has most costs little a name."""


class Named:
    """Names by task and by speaker, each in the order in which they were said."""

    def __init__(self, most: int = MAX_NAMES) -> None:
        self._most = most
        self._count = 0
        self._tasks: dict[TaskId, OrderedDict[tuple[str, BlobRef], None]] = {}
        self._speakers: dict[str, OrderedDict[tuple[TaskId, BlobRef], None]] = {}

    def __len__(self) -> int:
        return self._count

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def add(self, task: TaskId, ref: BlobRef, speaker: str) -> None:
        """One more name for a task's result; who repeats one says nothing new."""
        said = self._tasks.setdefault(task, OrderedDict())
        if (speaker, ref) in said:
            return
        said[speaker, ref] = None
        self._speakers.setdefault(speaker, OrderedDict())[task, ref] = None
        self._count += 1
        by = Counter(who for who, _ in said)
        if by[speaker] > MAX_OF_TASK_BY_ONE:
            self._forget(task, *next(word for word in said if word[0] == speaker))
        elif len(said) > MAX_OF_TASK:
            self._forget(task, *next(word for word in said if by[word[0]] == max(by.values())))
        if self._count > self._most:
            self._make_room()

    def of(self, task: TaskId) -> tuple[BlobRef, ...]:
        """What was named, each once, the first word first."""
        return tuple(dict.fromkeys(ref for _, ref in self._tasks.get(task, ())))

    def drop(self, task: TaskId, ref: BlobRef | None = None) -> None:
        """Forget a name that is wrong, whoever said it; or all of a task whose result is known."""
        for word in [word for word in self._tasks.get(task, ()) if ref in (None, word[1])]:
            self._forget(task, *word)

    def _make_room(self) -> None:
        sizes = [(-len(words), place, who) for place, (who, words) in enumerate(self._speakers.items())]
        heapify(sizes)
        for _ in range(max(1, self._most // _FREED_AT_ONCE)):
            size, place, who = sizes[0]
            task, ref = next(iter(self._speakers[who]))
            self._forget(task, who, ref)
            if size == -1:
                heappop(sizes)
            else:
                heapreplace(sizes, (size + 1, place, who))

    def _forget(self, task: TaskId, speaker: str, ref: BlobRef) -> None:
        del self._tasks[task][speaker, ref], self._speakers[speaker][task, ref]
        self._count -= 1
        if not self._tasks[task]:
            del self._tasks[task]
        if not self._speakers[speaker]:
            del self._speakers[speaker]
