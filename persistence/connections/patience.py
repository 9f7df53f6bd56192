"""How long a server is waited for that gives no sign of life."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SETTLE_SECONDS = 1.0
"""How long a server has to acknowledge that a statement was cancelled, or that a transaction is undone; and to answer
when it is asked whether it is there. After that its connection is given up."""

LOOK_AFTER = 0.1
"""So often, in seconds, it is looked for statements that wait for too long."""


@contextmanager
def bounded(driver: Any) -> Iterator[None]:
    """Give the connection up when the block takes longer than `SETTLE_SECONDS`: what waits for it then fails."""
    timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, driver.terminate)
    try:
        yield
    finally:
        timer.cancel()


class Watch:
    """Tasks whose statement has to be answered by some moment. One timer serves all: a timer for each costs more."""

    __slots__ = ("_looks", "_until")

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._looks = False

    def begin(self, task: "asyncio.Task[Any]", seconds: float) -> None:
        """Cancel the task unless `end` is called for it before."""
        self._until[task] = time.monotonic() + seconds
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LOOK_AFTER, self._look)

    def end(self, task: "asyncio.Task[Any]") -> bool:
        """Whether the task was cancelled by this alone; then it is not cancelled any more."""
        return self._until.pop(task, 0.0) < 0 and task.uncancel() == 0

    def _look(self) -> None:
        now = time.monotonic()
        for task, until in self._until.items():
            if 0 <= until < now:
                self._until[task] = -1.0
                task.cancel()
        self._looks = bool(self._until)
        if self._looks:
            asyncio.get_running_loop().call_later(LOOK_AFTER, self._look)
