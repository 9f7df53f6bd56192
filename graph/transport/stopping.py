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


class Watch:
    """Looks from time to time at all requests of a process that run. A timer for each would cost each 3 us."""

    __slots__ = ("running", "ticking")

    def __init__(self) -> None:
        self.running: dict[Stopping, None] = {}
        """Those that were not looked at yet, in the order in which they began."""
        self.ticking = False

    def tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look."""
        self.ticking = True
        loop.call_later(LOOK_AFTER, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at each request once, when it has run for `LOOK_AFTER` and at most twice as long."""
        before = loop.time() - LOOK_AFTER
        while self.running:
            request = next(iter(self.running))
            if request.began > before:
                break
            del self.running[request]
            request.look()
        self.ticking = False
        if self.running:
            self.tick(loop)


class Stopping:
    """Cancels the block it guards when the request or the operation takes too long, or when the client is gone.

    The block first reads the request, then calls `watch` and runs the operation; each has `timeout` seconds. The
    cancelled block ends in `Stopped`.
    """

    __slots__ = (
        "_deadline",
        "_late",
        "_reading",
        "_reason",
        "_receive",
        "_task",
        "_timeout",
        "_timer",
        "_watch",
        "_watcher",
        "began",
        "loop",
    )

    def __init__(self, receive: Receive, timeout: float, watch: Watch) -> None:
        self._receive, self._timeout, self._watch = receive, timeout, watch
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reason: str | None = None
        self._reading, self._late = True, False
        self._begin()

    def _begin(self) -> None:
        self.began = self.loop.time()
        self._deadline = self.began + self._timeout
        self._watch.running[self] = None
        if not self._watch.ticking:
            self._watch.tick(self.loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._watch.running.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # it refers back, and would leave the request to the garbage collector
        if self._reason is not None and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise Stopped(self._reason) from None

    def watch(self) -> None:
        """The request has been read: from here on `receive` can only say that the client is gone."""
        self._reading = False
        if self._late:
            if self._timer is not None:
                self._timer.cancel()
            self._begin()

    def look(self) -> None:
        """It has been running for a while: from here on somebody keeps an eye on it."""
        if self._reading:
            self._late = True
            self._timer = self.loop.call_at(self._deadline, self._stop, "slow")
        else:
            self._watcher = self.loop.create_task(self._watch_client())

    def _stop(self, reason: str) -> None:
        self._reason = reason
        self._task.cancel()

    async def _watch_client(self) -> None:
        reason = "disconnect"
        try:
            async with asyncio.timeout_at(self._deadline):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            reason = "timeout"
        self._stop(reason)
