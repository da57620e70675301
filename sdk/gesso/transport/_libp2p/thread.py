"""A trio program in its own thread, spoken to from asyncio. What crosses over is bounded, cancellable and never lost:
a call ends with its result, its error, or the news that the thread has died."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import trio

from gesso_protocol.errors import GessoError, PeerUnreachable, RateLimited

T = TypeVar("T")

MAX_CALLS = 1024
_GRACE_S = 3.0


class TrioThread:
    """`start` runs `main(thread, started)`; `ended` is called in asyncio with the error that ended it, or None."""

    def __init__(
        self,
        main: Callable[[TrioThread, Callable[[], None]], Awaitable[None]],
        *,
        ended: Callable[[BaseException | None], None],
        name: str,
    ) -> None:
        self._main = main
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._finished = asyncio.Event()
        self._calls: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self.stopping = trio.Event()
        """Set in trio when the program shall come to its end."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # --- asyncio side

    async def start(self) -> None:
        """Returns when `main` has called `started`; raises what ended it before that."""
        self._thread.start()
        try:
            await asyncio.shield(self._started)
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Asks the program to end, cancels it when it takes too long, and waits until its thread has ended."""
        if self._thread.ident is None:
            return
        self.soon(self.stopping.set)
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._finished.wait()
        except TimeoutError:
            self.soon(self._scope.cancel)
            await self._finished.wait()

    async def call(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Runs `work(*args)` in trio. Cancelling the caller cancels the work."""
        if self._token is None or self._finished.is_set():
            raise PeerUnreachable("the network side is down; it is being restarted")
        if len(self._calls) >= MAX_CALLS:
            raise RateLimited("too much is waiting for the network already")
        future: asyncio.Future[T] = self._loop.create_future()
        scope = trio.CancelScope()
        self._calls.add(future)
        try:
            self._token.run_sync_soon(self._begin, work, args, scope, future)
            return await future
        except asyncio.CancelledError:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(scope.cancel)
            raise
        except trio.RunFinishedError:
            raise PeerUnreachable("the network side is down; it is being restarted") from None
        finally:
            self._calls.discard(future)

    def soon(self, work: Callable[..., None], *args: Any) -> None:
        """Runs plain `work(*args)` in trio, later; nothing when the thread is down."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(work, *args)

    # --- trio side

    async def ask(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine in asyncio and waits for it in trio. Cancelling the waiter cancels the coroutine."""
        done = trio.Event()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self._loop.create_task(make())
            tasks.append(task)
            self._tasks.add(task)
            task.add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            self.soon(done.set)

        self.tell(begin)
        try:
            await done.wait()
        except trio.Cancelled:
            self.tell(lambda: tasks[0].cancel() if tasks else None)
            raise
        if tasks[0].cancelled():
            raise PeerUnreachable("the answer was called off")
        return tasks[0].result()

    def tell(self, work: Callable[..., object], *args: Any) -> None:
        """Runs plain `work(*args)` in asyncio, later; nothing when its loop has closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(functools.partial(work, *args))

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            trio.run(self._hold)
        except BaseException as raised:
            error = _cause(raised)
        self.tell(self._end, error)

    async def _hold(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._main(self, lambda: self.tell(self._ready))
                nursery.cancel_scope.cancel()

    def _begin(
        self,
        work: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        scope: trio.CancelScope,
        future: asyncio.Future[T],
    ) -> None:
        assert self._nursery is not None
        try:
            self._nursery.start_soon(self._work, work, args, scope, future)
        except RuntimeError:
            # The nursery has closed: the thread is ending and `_end` will fail the call.
            return

    async def _work(
        self,
        work: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        scope: trio.CancelScope,
        future: asyncio.Future[T],
    ) -> None:
        with scope:
            try:
                result = await work(*args)
            except Exception as error:
                self.tell(_fail, future, error)
            else:
                self.tell(_succeed, future, result)

    # --- asyncio side again: the end

    def _ready(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        self._finished.set()
        for task in self._tasks:
            task.cancel()
        for future in tuple(self._calls):
            _fail(future, PeerUnreachable("the network side went down; it is being restarted"))
        if not self._started.done():
            self._started.set_exception(error or PeerUnreachable("the network side ended before it began"))
            return
        self._ended(error)


def _cause(error: BaseException) -> BaseException:
    """Nurseries wrap what ended them; the first of ours in there is what to tell, else the first of any."""
    leaves = list(_leaves(error))
    return next((leaf for leaf in leaves if isinstance(leaf, GessoError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
