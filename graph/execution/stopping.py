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

    def __init__(self) -> None:
        self._running: dict[Stopping, None] = {}
        self._ticking = False

    def begin(self, request: "Stopping") -> None:
        self._running[request] = None
        if not self._ticking:
            self._ticking = True
            request.loop.call_later(LOOK_AFTER, self._look, request.loop)

    def end(self, request: "Stopping") -> None:
        self._running.pop(request, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at each request once, when it has run for `LOOK_AFTER` and at most twice as long."""
        before = loop.time() - LOOK_AFTER
        while self._running:
            request = next(iter(self._running))
            if request.began > before:
                break
            del self._running[request]
            request.look()
        self._ticking = bool(self._running)
        if self._ticking:
            loop.call_later(LOOK_AFTER, self._look, loop)


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
        self.began = self.loop.time()
        self._deadline = self.began + timeout

    def __enter__(self) -> Self:
        self._watch.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._watch.end(self)
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
            self.began = self.loop.time()
            self._deadline = self.began + self._timeout
            self._watch.begin(self)

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
