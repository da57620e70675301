"""Many pictures at once: what one order after the other would give, some under way at a time, failures kept apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from gesso.image import Image
from gesso_protocol.errors import GessoError, TaskFailed, UsageError
from gesso_protocol.spec import TextToImage

if TYPE_CHECKING:
    from gesso.outcome import Result
    from gesso.task import AsyncTask, Until
    from gesso_protocol.ids import TaskId

MAX_AT_ONCE = 64
MAX_MANY = 10_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """What became of one prompt: a result, or the error that kept it from one; neither while it is under way. `task`
    once it was ordered: what is paid for can be fetched by it later, whatever went wrong here."""

    index: int
    spec: TextToImage
    result: Result | None = None
    error: GessoError | None = None
    task: TaskId | None = None

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return self.spec.prompt

    @property
    def images(self) -> tuple[Image, ...]:
        """Its pictures; none when it failed."""
        return () if self.result is None else self.result.images

    @property
    def image(self) -> Image:
        """The first picture. Raises what kept it from being drawn."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise TaskFailed(f"nothing became of {self.prompt[:60]!r}")
        return self.result.image


OnDrawn = Callable[[Drawn], None]


async def draw_many(
    order: Callable[[TextToImage], Awaitable[AsyncTask]],
    specs: Sequence[TextToImage],
    *,
    at_once: int,
    on_ordered: OnDrawn | None = None,
    on_drawn: OnDrawn | None,
    until: Until,
    timeout_s: float | None,
) -> list[Drawn]:
    """Order all, `at_once` under way at a time. An error ends its own order only; what a callback raises is raised when
    all are done, the first of it, as by then all others are paid for too."""
    found: dict[int, Drawn] = {}
    raised: list[Exception] = []
    seats = anyio.CapacityLimiter(at_once)

    async def one(index: int, spec: TextToImage) -> None:
        async with seats:
            task: TaskId | None = None
            try:
                ordered = await order(spec)
                task = ordered.id
                tell(on_ordered, Drawn(index, spec, task=task))
                result = await ordered.result(until=until, timeout_s=timeout_s)
                done = Drawn(index, spec, result, task=task)
            except GessoError as error:
                done = Drawn(index, spec, error=error, task=task)
        found[index] = done
        tell(on_drawn, done)

    def tell(hear: OnDrawn | None, drawn: Drawn) -> None:
        try:
            if hear is not None:
                hear(drawn)
        except Exception as error:  # the caller's own code, which raises whatever it likes
            raised.append(error)

    async with anyio.create_task_group() as group:
        for index, spec in enumerate(specs):
            group.start_soon(one, index, spec)
    if raised:
        raise raised[0]
    return [found[index] for index in sorted(found)]


def checked(prompts: Sequence[str], at_once: int) -> Sequence[str]:
    """Raises UsageError for no prompts, too many, or a number at once that makes no sense."""
    if isinstance(prompts, str) or not prompts:
        raise UsageError("there are no prompts", hint='pass a list, as in ["a red circle", "a blue square"]')
    if len(prompts) > MAX_MANY:
        raise UsageError(f"{len(prompts)} prompts are too many for one call; at most {MAX_MANY}")
    if not 1 <= at_once <= MAX_AT_ONCE:
        raise UsageError(f"at_once is 1 to {MAX_AT_ONCE}, not {at_once}")
    return prompts
