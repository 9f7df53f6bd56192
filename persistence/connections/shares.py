"""Shares of the connections: statements that may look at many rows never take all of them.

Three users with very many tasks could keep every connection busy with searches and counts, and everybody else waited
for seconds. So such statements take at most half of the connections, and over the rows of one owner at most a quarter
of these; who comes later waits in the order of coming, as for a connection.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from sqlalchemy import exc


class Shares:
    """Who may run such a statement now."""

    def __init__(self, connections: int, timeout: float) -> None:
        """Of so many connections; `timeout` is how many seconds one waits for a turn."""
        self.most = max(1, connections // 2)
        self.each = max(1, self.most // 4)
        self._timeout = timeout
        self._all = asyncio.Semaphore(self.most)
        self._of: dict[Hashable, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[None]:
        """The turn of a statement over the rows of one owner; None: of everybody, for admins.

        Raises `sqlalchemy.exc.TimeoutError` when it does not come for as long as one waits for a connection.
        """
        own, waiting = self._of.get(owner, (None, 0))
        own = own or asyncio.Semaphore(self.most if owner is None else self.each)
        self._of[owner] = own, waiting + 1
        try:
            async with asyncio.timeout(self._timeout) as limit, own, self._all:
                limit.reschedule(None)  # the statement has a timeout of its own
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise exc.TimeoutError(f"no share of the connections was free for {self._timeout:g} s") from None
        finally:
            own, waiting = self._of.pop(owner)
            if waiting > 1:
                self._of[owner] = own, waiting - 1
