"""Connections for single statements, passed from one to the next.

The pool's check-out and check-in cost more than a small statement. So a connection that was taken from the pool for
a statement stays out, and the next one of the process takes it, as long as it is fresh. Nearly all are reads; some
write, as a transaction of their own. Who waits for the pool, for a statement or for a transaction, stands in one line;
a statement passes its connection on when a statement is next (with 32 clients on 10 connections that halved the CPU
of a small request), and returns it to the pool when a transaction is. Nothing is open between statements, so any
connection will do.
"""

import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

from asyncpg import DeadlockDetectedError
from sqlalchemy import PoolProxiedConnection, exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.queue import Empty

from persistence.failures import ConnectionBroke, NothingDone, is_undone, is_unreachable
from persistence.reading import Statement
from persistence.sharing import Shared

Row = TypeVar("Row")
Asked = TypeVar("Asked")
Kind = TypeVar("Kind", bound=Hashable)

OUT_SECONDS = 60.0
"""After so long a connection goes back to the pool, which replaces it when its time has come."""

FRESH_SECONDS = 0.5
"""After so long without use a connection goes back to the pool, which tests it before it is used again."""

KINDS = 1_000
"""Kinds of shared statements that are remembered."""


class Reader:
    """A connection of the pool that is out for single statements."""

    __slots__ = ("driver", "idle_since", "proxy", "taken_at")

    def __init__(self, proxy: PoolProxiedConnection) -> None:
        self.proxy = proxy
        self.driver: Any = proxy.driver_connection
        self.taken_at = self.idle_since = time.monotonic()

    def fetch(self, statement: Statement[Row], arguments: list[Any]) -> Awaitable[list[Row]]:
        """The rows of one statement."""
        rows: Awaitable[list[Row]] = self.driver.fetch(statement.sql, *arguments, record_class=statement.record)
        return rows


class Readers:
    """The readers of one engine. None is kept idle for longer than `fresh` seconds."""

    def __init__(self, engine: AsyncEngine, *, fresh: float) -> None:
        self._engine, self._fresh = engine, fresh
        self._idle: list[Reader] = []
        self._shared: dict[Hashable, Shared[Any]] = {}
        pool: Any = engine.sync_engine.pool
        self._queue = pool._pool
        self._queue.on_wait = self.make_room
        self._queue.on_unclaimed = self.give
        self._pool = pool

    @property
    def idle(self) -> int:
        """How many connections are out of the pool without being used."""
        return len(self._idle)

    async def read(self, statement: Statement[Row], arguments: list[Any]) -> list[Row]:
        """The rows of one reading statement.

        A connection that broke since its last use is replaced once, and a deadlock with a migration is none of the
        client's business.
        """
        try:
            return await self.once(statement, arguments)
        except (ConnectionBroke, DeadlockDetectedError):
            return await self.once(statement, arguments)

    async def once(self, statement: Statement[Row], arguments: list[Any]) -> list[Row]:
        """The rows of one statement, a transaction of its own, which is not tried again.

        Raises the driver's errors, and `ConnectionBroke` or, where it was certainly not carried out, `NothingDone`.
        """
        reader = await self.take()
        try:
            rows = await reader.fetch(statement, arguments)
        except Exception as error:
            if not is_unreachable(error):
                self.give(reader)
                raise
            await self.discard(reader, error)
            raise (NothingDone if is_undone(error) else ConnectionBroke) from error
        except BaseException:
            self.give(reader)  # cancelled: the driver tells the server, and the next statement waits for that
            raise
        self.give(reader)
        return rows

    def share(
        self,
        kind: Kind,
        run: "Callable[[Kind, Readers, list[Asked]], Awaitable[Sequence[Any]]]",
        asked: Asked,
        apart: frozenset[Hashable] = frozenset(),
    ) -> "Future[Any]":
        """Ask together with who asks for the same kind of thing (`persistence.sharing`); `run` does it."""
        shared = self._shared.get(kind)
        if shared is None:
            if len(self._shared) >= KINDS:
                self._shared.clear()  # what runs goes on by itself
            shared = self._shared[kind] = Shared(partial(run, kind, self))
        return shared.ask(asked, apart)

    async def take(self) -> Reader:
        """A connection for one statement. Raises `sqlalchemy.exc.TimeoutError` when none is free for too long."""
        if self._idle:
            reader = self._idle.pop()
            now = time.monotonic()
            if now - reader.idle_since <= self._fresh and now - reader.taken_at <= OUT_SECONDS:
                return reader
            self.return_idle()  # these are older
            await greenlet_spawn(reader.proxy.close)  # where the pool may close it, when it is one too many
        if self._pool.exhausted:
            try:
                found = await self._queue.wait_to_read(self._pool._timeout)
            except Empty:
                raise exc.TimeoutError(f"no connection was free for {self._pool._timeout:g} s") from None
            if isinstance(found, Reader):
                return found
            self._queue.put_back(found)  # and taken again by the next line, before anybody else
        return Reader(await self._engine.raw_connection())

    def give(self, reader: Reader) -> None:
        """Give a connection back after its statement."""
        now = time.monotonic()
        if not self._queue.awaited:
            reader.idle_since = now
            self._idle.append(reader)
        elif now - reader.taken_at > OUT_SECONDS or not self._queue.pass_on(reader):
            self._return(reader)

    def make_room(self) -> None:
        """Somebody is about to ask the pool for a connection, or waits for one: let one go back to it."""
        if self._idle:
            self._return(self._idle.pop())

    async def discard(self, reader: Reader, error: BaseException) -> None:
        """A connection broke: so, most likely, have all that are as old, here and in the pool."""
        self.return_idle()
        # What SQLAlchemy does itself when it meets a broken connection: none as old is used again.
        await greenlet_spawn(self._engine.sync_engine.pool._invalidate, reader.proxy, error)
        await greenlet_spawn(reader.proxy.close)

    def return_idle(self) -> None:
        """Give everything that is not in use back to the pool."""
        while self._idle:
            self._return(self._idle.pop())

    def _return(self, reader: Reader) -> None:
        reader.proxy.close()  # nothing to await: no transaction was begun


def readers_of(engine: AsyncEngine) -> Readers:
    """The readers of an engine, which all sessions of it share."""
    pool: Any = engine.sync_engine.pool
    if pool.readers is None:
        pool.readers = Readers(engine, fresh=FRESH_SECONDS)
    readers: Readers = pool.readers
    return readers
