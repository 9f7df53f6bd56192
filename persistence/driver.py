"""The driver's connection, and what this project needs of it that the driver does otherwise."""

import socket
from typing import Any

import asyncpg

from persistence.patience import SETTLE_SECONDS

AGAIN = 5
"""How often a statement is prepared anew when the schema changes under it: once for each step of a migration."""


QUIET_SECONDS, PROBES = 10, 3
"""After so long without a word the operating system asks whether the other side is there, so often, and as long."""
LOST_SECONDS = 9
"""So long what was sent may go unacknowledged: less than an operation has (`TASKSTORE_OPERATION_TIMEOUT`)."""


def notice_loss(transport: Any) -> None:
    """Have the operating system break a connection whose other side has vanished (RFC 1122, 4.2.3.6; RFC 5482)."""
    given = transport.get_extra_info("socket")
    if given is None or given.family not in (socket.AF_INET, socket.AF_INET6):
        return
    given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": QUIET_SECONDS, "TCP_KEEPINTVL": QUIET_SECONDS // PROBES, "TCP_KEEPCNT": PROBES}
    for name, value in (options | {"TCP_USER_TIMEOUT": LOST_SECONDS * 1000}).items():
        if hasattr(socket, name):  # Linux has them all
            given.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Driver(asyncpg.Connection):
    """A connection whose statements outlive changes of the schema.

    A prepared statement is refused once its result has another type, before anything of it was carried out. Then the
    driver prepares it anew, but forgets the record class of the rows. Inside a transaction the refusal has ended that,
    so it is raised.
    """

    def __init__(self, protocol: Any, transport: Any, *more: Any, **others: Any) -> None:
        super().__init__(protocol, transport, *more, **others)
        notice_loss(transport)

    async def close(self, *, timeout: float | None = None) -> None:
        await super().close(timeout=SETTLE_SECONDS if timeout is None else min(timeout, SETTLE_SECONDS))

    async def _do_execute(self, query: str, executor: Any, timeout: Any, retry: bool = True, **kinds: Any) -> Any:
        execute: Any = super()._do_execute  # type: ignore[misc]  # not in the driver's hints
        for _ in range(AGAIN if retry else 0):
            try:
                return await execute(query, executor, timeout, False, **kinds)
            except asyncpg.InvalidCachedStatementError:
                if self.is_in_transaction():
                    raise
        return await execute(query, executor, timeout, False, **kinds)
