"""Statements that requests share: who asks for the same kind of thing at the same time gets it from one statement.

A statement for one row costs this process and the database nearly as much as one for ten. So under load each
statement does what was asked for while the one before it ran. Nobody waits for company: the first to come starts a
statement at once, and who has waited for a moment starts another. A statement starts after everybody in it has asked,
so who has written sees what was written.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeout

Asked = TypeVar("Asked")

AT_ONCE = 3
"""Statements of one kind that run at a time, when they take longer than `PATIENCE`."""
PATIENCE = 0.002
"""How long, in seconds, the next statement waits for the one before it: with a database nearby that is done then."""
ENOUGH = 12
"""So many that wait start a statement without waiting for more: the database works on it while others still ask."""
AT_MOST = 100
"""How many share one statement."""
LOOK_AFTER = 0.05
"""So often, in seconds, it is seen to whether anybody still waits for a statement."""


class Shared(Generic[Asked]):
    """What is asked for of one kind. `run` does it for all that share a statement.

    Its answers have their order; one that is an exception is raised for who asked.
    """

    __slots__ = ("_next", "_run", "_running", "_waiting", "_watched")

    def __init__(self, run: Callable[[list[Asked]], Awaitable[Sequence[Any]]]) -> None:
        self._run = run
        self._waiting: list[tuple[Asked, frozenset[Hashable], asyncio.Future[Any]]] = []
        self._running: dict[asyncio.Task[None], list[asyncio.Future[Any]]] = {}
        self._next: asyncio.Handle | None = None
        self._watched = False

    def ask(self, asked: Asked, apart: frozenset[Hashable] = frozenset()) -> "asyncio.Future[Any]":
        """A future of the answer. What has a member of `apart` in common never shares a statement.

        An error is told to all that shared the statement, and that no connection is free to all who wait.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((asked, apart, future))
        if len(self._waiting) >= ENOUGH and len(self._running) < AT_ONCE:
            self._start()
        elif self._next is None:
            if not self._running:
                self._next = loop.call_soon(self._start)  # what has arrived together asks together
            elif len(self._running) < AT_ONCE:
                self._next = loop.call_later(PATIENCE, self._start)
        return future

    def _start(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        asked: list[Asked] = []
        futures: list[asyncio.Future[Any]] = []
        left, taken = [], set[Hashable]()
        for each in self._waiting:
            what, apart, future = each
            if future.done():
                continue
            if len(asked) == AT_MOST or (apart and not taken.isdisjoint(apart)):
                left.append(each)
                continue
            taken |= apart
            asked.append(what)
            futures.append(future)
        self._waiting = left
        if not asked:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._answer(asked, futures))
        self._running[task] = futures
        task.add_done_callback(self._ended)
        if not self._watched:
            self._watched = True
            loop.call_later(LOOK_AFTER, self._look)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        if self._waiting:
            self._start()

    def _look(self) -> None:
        """Cancel statements for which nobody waits any more."""
        for task, futures in self._running.items():
            if all(future.done() for future in futures):
                task.cancel()
        self._watched = bool(self._running)
        if self._watched:
            asyncio.get_running_loop().call_later(LOOK_AFTER, self._look)

    async def _answer(self, asked: list[Asked], futures: "list[asyncio.Future[Any]]") -> None:
        try:
            answers = await self._run(asked)
        except Exception as error:
            if isinstance(error, PoolTimeout):  # then there is no connection for who waits behind them, either
                futures += [future for _, _, future in self._waiting]
                self._waiting = []
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        for future, answer in zip(futures, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
