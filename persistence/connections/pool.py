"""A pool that serves those who wait in the order in which they came, and keeps its connections while they are busy.

SQLAlchemy's own pool for asyncio is unfair and restless under load: who has just come takes the connection that was
given back for somebody who waits, so a few wait for seconds; and a connection beyond `pool_size` is closed as soon as
it is given back and opened again a moment later. Both come from its queue, which is what is replaced here.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_
from sqlalchemy.util.concurrency import in_greenlet
from sqlalchemy.util.queue import Empty, Full, QueueCommon

from persistence.connections.readers import Readers

T = TypeVar("T")

goes_on: ContextVar[bool] = ContextVar("goes_on", default=False)
"""Whether a connection is asked for by work that had one before. It goes first: else what needs three statements
would stand in line three times, and under load take three times as long as the rest."""

KEEP_SECONDS = 30.0
"""After so long without use a connection beyond `pool_size` is one too many."""


class FairQueue(QueueCommon[T]):
    """Idle connections, the one used last on top, and who waits for one. Never both."""

    def __init__(self, maxsize: int = 0, use_lifo: bool = True) -> None:
        self.maxsize, self.use_lifo = maxsize, use_lifo
        self._idle: deque[tuple[T, float]] = deque()
        # Who goes on, and who begins; and whether it takes what another read passes on.
        self._lines: tuple[deque[tuple[asyncio.Future[Any], bool]], ...] = (deque(), deque())
        self.on_wait: Callable[[], None] | None = None
        """Called when somebody has to wait."""
        self.on_unclaimed: Callable[[Any], None] | None = None
        """Called with what was passed on to a read that was cancelled just then."""

    @property
    def awaited(self) -> bool:
        """Whether somebody waits."""
        if not (self._lines[0] or self._lines[1]):
            return False
        for line in self._lines:
            while line and line[0][0].done():
                line.popleft()
        return any(self._lines)

    def pass_on(self, reader: Any) -> bool:
        """Give what a read no longer needs to who waits longest, if that is a read too."""
        if not self.awaited:
            return False
        line = self._lines[0] or self._lines[1]
        if not line[0][1]:
            return False
        line.popleft()[0].set_result(reader)
        return True

    def empty(self) -> bool:
        return not self._idle

    def full(self) -> bool:
        return len(self._idle) >= self.maxsize

    def qsize(self) -> int:
        return len(self._idle)

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        self.put_nowait(item)

    def put_nowait(self, item: T) -> None:
        """Hand it to who waits longest, or keep it. Raises Full when it is one too many; then the pool closes it."""
        if self._hand_over(item):
            return
        now = time.monotonic()
        # Outside of SQLAlchemy's greenlets closing would fail, and the connection stay open, known to nobody.
        if self.full() and now - self._idle[0][1] > KEEP_SECONDS and in_greenlet():
            raise Full
        self._idle.append((item, now))

    def _hand_over(self, item: T) -> bool:
        for line in self._lines:
            while line:
                waiter, _ = line.popleft()
                if not waiter.done():
                    waiter.set_result(item)
                    return True
        return False

    def get_nowait(self) -> T:
        if not self._idle:
            raise Empty
        item, _ = self._idle.pop() if self.use_lifo else self._idle.popleft()
        return item

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        if self._idle or not block:
            return self.get_nowait()
        item: T = await_(self._wait(timeout))
        return item

    async def wait_to_read(self, timeout: float | None) -> Any:
        """What another read passes on, or an item. Raises Empty after `timeout` seconds."""
        return await self._wait(timeout, reads=True)

    def put_back(self, item: T) -> None:
        """An item that `wait_to_read` got: the next `get` will find it."""
        self._idle.append((item, time.monotonic()))

    async def _wait(self, timeout: float | None, *, reads: bool = False) -> Any:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()
        line = self._lines[0 if goes_on.get() else 1]
        line.append((waiter, reads))
        timer = None if timeout is None else loop.call_later(timeout, _give_up, waiter)
        if self.on_wait is not None:
            self.on_wait()
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Cancelled just when it was handed over.
                if not isinstance(waiter.result(), ConnectionPoolEntry) and self.on_unclaimed is not None:
                    self.on_unclaimed(waiter.result())
                elif not self._hand_over(waiter.result()):
                    self._idle.append((waiter.result(), time.monotonic()))
            else:
                with suppress(ValueError):
                    line.remove((waiter, reads))
            raise
        finally:
            if timer is not None:
                timer.cancel()


def _give_up(waiter: "asyncio.Future[T]") -> None:
    if not waiter.done():
        waiter.set_exception(Empty())


class FairPool(AsyncAdaptedQueuePool):
    """The pool of `create_engine`, and the connections of it that are out for reads."""

    _queue_class: type[QueueCommon[ConnectionPoolEntry]] = FairQueue
    readers: Readers | None = None
    distrusted_since = float("-inf")
    """Connections that were not used since then (monotonic seconds) are tested before they are."""

    @property
    def exhausted(self) -> bool:
        """Whether who asks for a connection has to wait."""
        return self._pool.empty() and 0 <= self._max_overflow <= self._overflow

    def dispose(self) -> None:
        if self.readers is not None:
            self.readers.close()
        super().dispose()
