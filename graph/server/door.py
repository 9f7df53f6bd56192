"""Who may hold a connection: so many in all and of one client, and nobody who owes something for too long.

One door for each process. Connections tell it when they come and go; it looks at all of them once a second, which costs
a request nothing. When there are too many, those are closed first that wait for their client, the oldest first; only
when all are at work is the new one refused.
"""

import asyncio
from dataclasses import dataclass
from math import inf
from typing import Protocol

from graph.transport.addresses import Proxies, client_of
from persistence.settings import Settings

DOOR = "door"
"""Where the state of the application's lifespan has the door."""
LOOK_EVERY = 1.0
CLOSE_SECONDS = 5.0
"""For a client to take what was sent before its connection was closed."""
KEEP_ALIVE_SECONDS = 5.0
"""How long uvicorn keeps a connection on which nothing comes after an answer (`timeout_keep_alive`)."""
OTHER_FILES = 200
"""Open files of a process that are no clients: its database connections, the libraries', the log."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a client may take. Sizes are in bytes, times in seconds."""

    head: int = 65_536
    headers: int = 100
    head_seconds: float = 10.0
    """From the first byte of a request, or from the connection, to the end of its head."""
    body_seconds: float = 15.0
    """From there to the end of its body. The application answers those that are too slow before."""
    connections: int = 2_000
    connections_per_address: int = 500

    @classmethod
    def of(cls, settings: Settings) -> "Allowance":
        return cls(
            head=settings.max_head,
            headers=settings.max_headers,
            head_seconds=settings.head_timeout,
            body_seconds=settings.operation_timeout + CLOSE_SECONDS,
            connections=allowed_connections(settings.max_connections),
            connections_per_address=settings.max_connections_per_address,
        )


class Connection(Protocol):
    """What the door knows of a connection."""

    due: float
    """When the client must have done what it owes (a request, a body, to take an answer); infinite while it owes none.

    In seconds of the loop's clock.
    """

    def is_closing(self) -> bool: ...

    def overdue(self, now: float) -> None:
        """The client is late. Close, or set a later `due`."""
        ...

    def abort(self) -> None:
        """Close at once, whatever was not sent yet."""
        ...


class Door:
    """The connections of one process."""

    def __init__(self, bounds: Allowance, proxies: Proxies) -> None:
        self.bounds, self.proxies = bounds, proxies
        self._clients: dict[Connection, str | None] = {}
        """Who has each, in the order in which they came; None for trusted proxies, who have any number."""
        self._of: dict[str, dict[Connection, None]] = {}
        self._looking = False

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, connection: Connection, peer: str, loop: asyncio.AbstractEventLoop) -> bool:
        """Take in a connection, if need be for one that waits. False when there is no room for it."""
        client = None if peer in self.proxies else client_of(peer)
        own = self._of.get(client, {}) if client is not None else {}
        if len(own) >= self.bounds.connections_per_address and not self._make_room(own):
            return False
        if len(self._clients) >= self.bounds.connections and not self._make_room(self._clients):
            return False
        self._clients[connection] = client
        if client is not None:
            self._of.setdefault(client, {})[connection] = None
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_EVERY, self._look, loop)
        return True

    def leave(self, connection: Connection) -> None:
        """Let go of a connection, whether it was taken in or not."""
        client = self._clients.pop(connection, None)
        if client is not None:
            own = self._of[client]
            del own[connection]
            if not own:
                del self._of[client]

    def _make_room(self, among: "dict[Connection, None] | dict[Connection, str | None]") -> bool:
        for connection in among:
            if connection.due < inf:
                self.leave(connection)
                connection.abort()
                return True
        return False

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._clients):
            if connection.due <= now:
                if connection.is_closing():
                    connection.abort()
                else:
                    connection.overdue(now)
            elif connection.due == inf and connection.is_closing():
                connection.due = now + CLOSE_SECONDS
        self._looking = bool(self._clients)
        if self._looking:
            loop.call_later(LOOK_EVERY, self._look, loop)


def allowed_connections(wanted: int) -> int:
    """As many connections as are wanted and the process may have files for; it may raise its own limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - OTHER_FILES))
