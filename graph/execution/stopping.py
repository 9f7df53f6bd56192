"""Stops a request that takes too long or whose client has gone away."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

# Most operations are over before; only then is it worth to start looking at the connection.
LOOK_AFTER = 0.02


class Stopped(Exception):
    """The request was stopped: `reason` is "slow" (it did not arrive in time), "timeout" or "disconnect"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopping:
    """Cancels the block it guards when the request or the operation takes too long, or when the client is gone.

    The block first reads the request, then calls `watch` and runs the operation; each has `timeout` seconds. The
    cancelled block ends in `Stopped`. It costs one timer as long as nothing happens, which is why it is no task group.
    """

    __slots__ = (
        "_deadline",
        "_handle",
        "_late",
        "_loop",
        "_reading",
        "_reason",
        "_receive",
        "_task",
        "_timeout",
        "_watcher",
    )

    def __init__(self, receive: Receive, timeout: float) -> None:
        self._receive, self._timeout = receive, timeout
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._watcher: asyncio.Task[None] | None = None
        self._reason: str | None = None
        self._reading, self._late = True, False
        self._deadline = self._loop.time() + timeout
        self._handle = self._loop.call_later(min(LOOK_AFTER, timeout), self._look)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # it refers back, and would leave the request to the garbage collector
        if self._reason is not None and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise Stopped(self._reason) from None

    def watch(self) -> None:
        """The request has been read: from here on `receive` can only say that the client is gone."""
        self._reading = False
        if self._late:
            self._handle.cancel()
            self._deadline = self._loop.time() + self._timeout
            self._handle = self._loop.call_later(min(LOOK_AFTER, self._timeout), self._look)

    def _look(self) -> None:
        if self._reading:
            self._late = True
            self._handle = self._loop.call_at(self._deadline, self._stop, "slow")
        else:
            self._watcher = self._loop.create_task(self._watch())

    def _stop(self, reason: str) -> None:
        self._reason = reason
        self._task.cancel()

    async def _watch(self) -> None:
        reason = "disconnect"
        try:
            async with asyncio.timeout_at(self._deadline):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            reason = "timeout"
        self._stop(reason)
