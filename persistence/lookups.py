"""Rows by id for all requests of the process: who asks at the same time shares a statement.

Most small requests ask for one row, and a statement costs this process as much as 100 rows do. So under load each
statement looks up what was asked for while the one before it ran, which took a third off the CPU of such a request.
Nobody waits for company: the first to come starts a statement at once, and who has waited for a moment starts another.
A statement starts after everybody in it has asked, so who has written sees what was written.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import UUID

from persistence.reading import Statement

AT_ONCE = 4
"""Statements of one shape that run at a time, when they take longer than `PATIENCE`."""
PATIENCE = 0.001
"""How long, in seconds, the next statement waits for the one before it: with a database nearby that is done then."""
AT_MOST = 100
"""Rows that one statement looks up."""
LOOK_AFTER = 0.05
"""So often, in seconds, it is seen to whether anybody still waits for a statement."""


class Asker(Protocol):
    """Who counts the rows that were got."""

    rows: int


Asked = tuple[UUID, UUID, "asyncio.Future[Any]", Asker]
"""The id of a row, the viewer's, and who waits for the row."""

Read = Callable[[Statement[Any], list[Any]], Awaitable[list[Any]]]


class Lookup:
    """Lookups of one shape. `statement` takes `ids` and `viewers`; a row says as `place` which of them it is for."""

    __slots__ = ("_next", "_read", "_running", "_statement", "_waiting", "_watched")

    def __init__(self, read: Read, statement: Statement[Any]) -> None:
        self._read, self._statement = read, statement
        self._waiting: list[Asked] = []
        self._running: dict[asyncio.Task[None], list[Asked]] = {}
        self._next: asyncio.Handle | None = None
        self._watched = False

    def find(self, id: UUID, viewer: UUID, asker: Asker) -> "asyncio.Future[Any]":
        """A future of the row, or of None when there is none for the viewer."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((id, viewer, future, asker))
        if self._next is None:
            if not self._running:
                self._next = loop.call_soon(self._start)  # what has arrived together asks together
            elif len(self._running) < AT_ONCE:
                self._next = loop.call_later(PATIENCE, self._start)
        return future

    def _start(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        waiting = [each for each in self._waiting if not each[2].done()]
        asked, self._waiting = waiting[:AT_MOST], waiting[AT_MOST:]
        if not asked:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(asked))
        self._running[task] = asked
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
        for task, asked in self._running.items():
            if all(future.done() for _, _, future, _ in asked):
                task.cancel()
        self._watched = bool(self._running)
        if self._watched:
            asyncio.get_running_loop().call_later(LOOK_AFTER, self._look)

    async def _run(self, asked: list[Asked]) -> None:
        values = {"ids": [each[0] for each in asked], "viewers": [each[1] for each in asked]}
        try:
            rows = await self._read(self._statement, self._statement.arguments(values))
        except Exception as error:
            for _, _, future, _ in asked:
                if not future.done():
                    future.set_exception(error)
            return
        except asyncio.CancelledError:
            for _, _, future, _ in asked:
                future.cancel()
            raise
        for row in rows:
            _, _, future, asker = asked[row.place - 1]
            if not future.done():
                asker.rows += 1
                future.set_result(row)
        for _, _, future, _ in asked:
            if not future.done():
                future.set_result(None)
