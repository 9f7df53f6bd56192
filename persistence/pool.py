"""A pool that serves those who wait in the order in which they came, and keeps its connections while they are busy.

SQLAlchemy's own pool for asyncio is unfair and restless under load: who has just come takes the connection that was
given back for somebody who waits, so a few wait for seconds; and a connection beyond `pool_size` is closed as soon as
it is given back and opened again a moment later. Both come from its queue, which is what is replaced here.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TypeVar

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_
from sqlalchemy.util.queue import Empty, Full, QueueCommon

from persistence.readers import Readers

T = TypeVar("T")

KEEP_SECONDS = 30.0
"""After so long without use a connection beyond `pool_size` is one too many."""


class FairQueue(QueueCommon[T]):
    """Idle connections, the one used last on top, and who waits for one. Never both."""

    def __init__(self, maxsize: int = 0, use_lifo: bool = True) -> None:
        self.maxsize, self.use_lifo = maxsize, use_lifo
        self._idle: deque[tuple[T, float]] = deque()
        self._waiting: deque[asyncio.Future[T]] = deque()

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
        if self.full() and now - self._idle[0][1] > KEEP_SECONDS:
            raise Full
        self._idle.append((item, now))

    def _hand_over(self, item: T) -> bool:
        while self._waiting:
            waiter = self._waiting.popleft()
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
        return await_(self._wait(timeout))

    async def _wait(self, timeout: float | None) -> T:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        self._waiting.append(waiter)
        timer = None if timeout is None else loop.call_later(timeout, _give_up, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Cancelled just when it was handed over.
                if not self._hand_over(waiter.result()):
                    self._idle.append((waiter.result(), time.monotonic()))
            else:
                with suppress(ValueError):
                    self._waiting.remove(waiter)
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

    def dispose(self) -> None:
        if self.readers is not None:
            self.readers.return_idle()
        super().dispose()
