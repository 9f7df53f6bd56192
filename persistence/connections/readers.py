"""Connections for single statements, passed from one to the next.

The pool's check-out and check-in cost more than a small statement. So a connection that was taken from the pool for
a statement stays out, and the next one of the process takes it, as long as it is fresh. Nearly all are reads; some
write, as a transaction of their own. Who waits for the pool, for a statement or for a transaction, stands in one line;
a statement passes its connection on when a statement is next (with 32 clients on 10 connections that halved the CPU
of a small request), and returns it to the pool when a transaction is. Nothing is open between statements, so any
connection will do.
"""

import asyncio
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from asyncpg import DeadlockDetectedError, QueryCanceledError
from sqlalchemy import PoolProxiedConnection, exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.queue import Empty

from persistence.connections.failures import FAILURES, ConnectionBroke, NothingDone, is_undone, is_unreachable
from persistence.connections.patience import SETTLE_SECONDS, Watch, bounded
from persistence.connections.shares import Shares
from persistence.connections.sharing import Shared
from persistence.connections.troubles import Troubles
from persistence.rows.reading import Statement

Row = TypeVar("Row")
Asked = TypeVar("Asked")
Kind = TypeVar("Kind", bound=Hashable)

OUT_SECONDS = 60.0
"""After so long a connection goes back to the pool, which replaces it when its time has come."""

FRESH_SECONDS = 0.5
"""After so long without use a connection goes back to the pool, which tests it before it is used again."""

TRIES: tuple[float | None, ...] = (None,)
QUICK_TRIES = 1.0, 2.0, 4.0
"""How long, in seconds, a statement may be without an answer that is tried again then; the last try is not among them.
Quick ones take some milliseconds."""

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
        rows: Awaitable[list[Row]] = self.driver.rows(statement.sql, arguments, statement.record)
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
        self._watch = Watch()
        self.troubles = Troubles()
        self.turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._apart: dict[asyncio.Task[None], Reader] = {}
        self._closed = False
        self.shares = Shares(pool.size() + max(pool._max_overflow, 0), pool._timeout)

    @property
    def idle(self) -> int:
        """How many connections are out of the pool without being used."""
        return len(self._idle)

    async def read(self, statement: Statement[Row], arguments: list[Any], *, quick: bool = False) -> list[Row]:
        """The rows of one reading statement.

        A connection that broke since its last use is replaced once. A deadlock with a migration and a cancellation
        that was meant for another statement are none of the client's business. A `quick` one, which takes some
        milliseconds and for which many may wait, is sent over other connections while there is no answer.
        """
        began = time.monotonic()
        for patience in QUICK_TRIES if quick else TRIES:
            try:
                return await self.once(statement, arguments, patience)
            except (ConnectionBroke, DeadlockDetectedError):
                pass
            except QueryCanceledError:
                if time.monotonic() - began > SETTLE_SECONDS:
                    raise
        return await self.once(statement, arguments)

    async def once(self, statement: Statement[Row], arguments: list[Any], patience: float | None = None) -> list[Row]:
        """The rows of one statement, a transaction of its own, which is not tried again.

        Raises the driver's errors, and `ConnectionBroke` or, where it was certainly not carried out, `NothingDone`.
        After `patience` seconds without an answer, the connection counts as broken.
        """
        try:
            reader = await self.take()
        except Exception as error:
            self.troubles.note(error)
            raise
        task = None
        if patience is not None:
            task = asyncio.current_task()
            assert task is not None
            self._watch.begin(task, patience)
        try:
            rows = await reader.fetch(statement, arguments)
        except Exception as error:
            if task is not None:
                self._watch.end(task)
            self.troubles.note(error)
            if not is_unreachable(error):
                self.give(reader)
                raise
            self.discard(reader)
            raise (NothingDone if is_undone(error) else ConnectionBroke) from error
        except BaseException as error:
            self._put_aside(reader, self._settle(reader))
            if task is not None and self._watch.end(task):
                self.distrust()
                raise ConnectionBroke from error
            raise
        if task is not None:
            self._watch.end(task)
        self.give(reader)
        return rows

    def share(
        self,
        kind: Kind,
        run: "Callable[[Kind, Readers, list[Asked]], Awaitable[Sequence[Any]]]",
        asked: Asked,
        apart: frozenset[Hashable] = frozenset(),
    ) -> "Future[Any]":
        """Ask together with who asks for the same kind of thing (`persistence.connections.sharing`); `run` does it."""
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

    def discard(self, reader: Reader) -> None:
        """A connection broke, or leads to where one cannot write: so, most likely, do all that are as old."""
        self.renew()
        self._put_aside(reader, self._drop(reader))

    def renew(self) -> None:
        """None of the connections is used again, neither here nor in the pool."""
        self.return_idle()
        self._pool._invalidate_time = time.time()  # what SQLAlchemy does when it meets a broken connection

    def distrust(self) -> None:
        """A server gives no answer: before another of these connections is used, it is tested."""
        self.return_idle()
        self._pool.distrusted_since = time.monotonic()

    def close(self) -> None:
        """Give everything back to the pool, which is about to close it."""
        self._closed = True
        self.return_idle()
        for reader in self._apart.values():
            reader.driver.terminate()

    def _put_aside(self, reader: Reader, work: Coroutine[Any, Any, None]) -> None:
        """Do with a connection what nobody should wait for. Nobody gets it meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._apart[task] = reader
        task.add_done_callback(self._apart.pop)

    async def _settle(self, reader: Reader) -> None:
        """Give a connection on whose statement was cancelled, when the server has acknowledged that, or drop it.

        The driver sends the next statement after the acknowledgement. It is an empty one, of nobody: should the
        cancellation come late, by way of a pooler, it meets that.
        """
        try:
            with bounded(reader.driver):
                await reader.driver.execute("SELECT")
        except FAILURES:
            await self._drop(reader)
        else:
            if self._closed:
                await self._drop(reader)
            else:
                self.give(reader)

    async def _drop(self, reader: Reader) -> None:
        reader.driver.terminate()
        await greenlet_spawn(reader.proxy.invalidate)

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
