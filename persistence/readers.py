"""Connections for reads, passed from one statement to the next.

The pool's check-out and check-in cost more than a small statement. So a connection that was taken from the pool for
a read stays out, and the next read of the process takes it, as long as it is fresh and nobody who writes waits.
A read holds a connection for one statement only: nothing is open between them, so any connection will do.
"""

import asyncio
import time
from collections import deque
from typing import Any

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

OUT_SECONDS = 60.0
"""After so long a connection goes back to the pool, which replaces it when its time has come."""


FRESH_SECONDS = 0.5
"""After so long without use a connection goes back to the pool, which tests it before it is used again."""


class Reader:
    """A connection of the pool that is out for reads."""

    __slots__ = ("driver", "idle_since", "proxy", "taken_at")

    def __init__(self, proxy: PoolProxiedConnection) -> None:
        self.proxy = proxy
        self.driver: Any = proxy.driver_connection
        self.taken_at = self.idle_since = time.monotonic()


class Readers:
    """The readers of one engine: at most `limit`, and none is kept idle for longer than `fresh` seconds."""

    def __init__(self, engine: AsyncEngine, *, limit: int, fresh: float, timeout: float) -> None:
        self._engine, self._limit, self._fresh, self._timeout = engine, limit, fresh, timeout
        self._idle: list[Reader] = []
        self._waiting: deque[asyncio.Future[Reader | None]] = deque()
        self._out = 0
        self._wanted = 0

    @property
    def idle(self) -> int:
        """How many connections are out of the pool without being used."""
        return len(self._idle)

    async def take(self) -> Reader:
        """A connection for one statement. Raises `sqlalchemy.exc.TimeoutError` when none is free for too long."""
        if self._idle:
            reader = self._idle.pop()
            now = time.monotonic()
            if now - reader.idle_since <= self._fresh and now - reader.taken_at <= OUT_SECONDS:
                return reader
            self._return(reader)
            self.return_idle()  # these are older
        if self._out >= self._limit:
            return await self._wait()
        self._out += 1
        try:
            return Reader(await self._engine.raw_connection())
        except BaseException:
            self._out -= 1
            raise

    async def _wait(self) -> Reader:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Reader | None] = loop.create_future()
        self._waiting.append(waiter)
        timer = loop.call_later(self._timeout, _give_up, waiter)
        try:
            reader = await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())  # cancelled just when it was handed over
            raise
        finally:
            timer.cancel()
        return await self.take() if reader is None else reader

    def _pass_on(self, reader: Reader | None) -> None:
        if reader is None:
            self._wake()
        else:
            self.give(reader)

    def _wake(self) -> None:
        """Let who waits longest try again: there is room for a connection more."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def give(self, reader: Reader) -> None:
        """Give a connection back after its statement."""
        if self._wanted:
            self._wanted -= 1
            self._return(reader)
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reader)
                return
        reader.idle_since = time.monotonic()
        self._idle.append(reader)

    def make_room(self) -> None:
        """Somebody is about to ask the pool for a connection: let one go back to it."""
        if self._idle:
            self._return(self._idle.pop())
        elif self._out >= self._limit:
            self._wanted += 1

    async def discard(self, reader: Reader, error: BaseException) -> None:
        """A connection broke: so, most likely, have all that are as old, here and in the pool."""
        self._out -= 1
        self.return_idle()
        # What SQLAlchemy does itself when it meets a broken connection: none as old is used again.
        await greenlet_spawn(self._engine.sync_engine.pool._invalidate, reader.proxy, error)
        await greenlet_spawn(reader.proxy.close)
        self._wake()

    def return_idle(self) -> None:
        """Give everything that is not in use back to the pool."""
        while self._idle:
            self._return(self._idle.pop())

    def _return(self, reader: Reader) -> None:
        self._out -= 1
        reader.proxy.close()  # nothing to await: no transaction was begun
        self._wake()


def _give_up(waiter: "asyncio.Future[Reader | None]") -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimeout("no connection was free in time"))


def readers_of(engine: AsyncEngine) -> Readers:
    """The readers of an engine, which all sessions of it share."""
    pool: Any = engine.sync_engine.pool
    if pool.readers is None:
        limit = pool.size() + pool._max_overflow
        pool.readers = Readers(engine, limit=limit, fresh=FRESH_SECONDS, timeout=pool.timeout())
    readers: Readers = pool.readers
    return readers
