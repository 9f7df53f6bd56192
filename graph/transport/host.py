"""What the application supplies to the endpoint, and what it is told.

The endpoint knows GraphQL and HTTP; who is asking, on which session, and where the log goes is the application's part.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from graph.execution.preparing.bounds import Bounds
from graph.execution.preparing.cost import Costs
from graph.transport.budget import Budget
from graph.transport.persisted import PersistedDocuments


class OperationRecord:
    """What is to be said of one operation when it is over, for the log and for metrics."""

    name: str | None = None
    kind: str | None = None  # "query", "mutation" or "subscription"; None when it was refused before that was known
    document_id: str | None = None
    status: int | None = None  # of HTTP
    duration: float = 0.0  # seconds
    codes: tuple[str, ...] = ()  # of the errors in the answer
    cost: int | None = None
    bytes: int = 0  # of the answer, before compression
    events: int | None = None  # of a subscription
    stopped: str | None = None  # "slow", "timeout", "disconnect" or "complete" when it did not end by itself

    def __init__(self, transport: str, request_id: str) -> None:
        """`transport` is "http" or "websocket". No dataclass: most of it stays as it is, for every request."""
        self.transport, self.request_id = transport, request_id


class HostContext(Protocol):
    """What resolvers get as their context, for one operation or one event of a subscription.

    Both methods return what has to be awaited, or None: mostly there is nothing to wait for.
    """

    def enter(self, *, public: bool = False) -> Awaitable[None] | None:
        """Make it ready. May raise RequestError to refuse the operation, unless that is `public`."""
        ...

    def leave(self) -> Awaitable[None] | None:
        """Give back what it held, whether it was entered or not."""
        ...


class Host(Protocol):
    """What the application supplies."""

    def context(self, scope: Scope, params: Mapping[str, Any] | None) -> HostContext:
        """A new context for a request or WebSocket (`scope` of ASGI), whose `connection_init` had this payload."""
        ...

    def budget_key(self, context: Any) -> str | None:
        """Whose budget pays for the operation; None for nobody's."""
        ...

    def client_key(self, scope: Scope) -> str:
        """Where a WebSocket comes from, as what is counted as one client."""
        ...

    def viewer_key(self, context: Any) -> str | None:
        """Who is signed in; None for nobody."""
        ...

    def observe(self, context: Any, record: OperationRecord) -> None:
        """Take note of an operation that is over. `context` is None when it was refused before it had one."""
        ...

    def statements(self, context: Any) -> Mapping[str, int]:
        """What an operation has asked of the database, for `extensions.statements`."""
        ...

    def page(self, request: Request) -> Response | None:
        """What a browser gets that asks for HTML; None for the ordinary answer."""
        ...


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """How the endpoint behaves. Sizes are in bytes, times in seconds."""

    max_body: int = 1_000_000
    max_unfinished: int = 64_000_000
    """Of all bodies together that have not come whole. Small ones are taken nevertheless."""
    timeout: float = 10.0
    """For one operation, or one event of a subscription."""
    allowed_origins: frozenset[str] = frozenset()
    """Other sites whose pages may use the API, as `https://example.org`, or `*` for all."""
    further_origins: Callable[[str], bool] | None = None
    """Tells of an origin that is not among them whether its pages may all the same."""
    gzip_minimum: int | None = 1_000
    """Answers of this size and larger are compressed for clients that take it; None: never."""
    bounds: Bounds | None = None
    costs: Costs | None = None
    report_cost: bool = True
    """Put `extensions.cost` into every answer; otherwise only when the request has `extensions: {cost: true}`."""
    explain_statements: bool = False
    """Put `extensions.statements` into the answer to a request that has `extensions: {explainStatements: true}`."""
    budget: Budget | None = None
    persisted: PersistedDocuments = field(default_factory=PersistedDocuments)

    init_timeout: float = 10.0
    """Until a WebSocket has said `connection_init`."""
    ping_interval: float = 20.0
    """After so long without a message from the client it is sent a ping, and after twice as long it is gone."""
    max_subscriptions: int = 100
    """Operations that one WebSocket may have open."""
    max_sockets: int = 1_000
    max_sockets_per_client: int = 100
    """Of which one client may have so many on which nobody is signed in. Then the oldest of them gives way."""
    max_sockets_per_viewer: int = 100
    silent_timeout: float = 30.0
    """After so long without an operation, a WebSocket on which nobody is signed in is closed. As often it is asked who
    is signed in on the others.
    """
    max_message: int = 1_000_000
    send_timeout: float = 20.0
    """For a client to take a message; one that does not read is disconnected."""

    def origin_allowed(self, origin: str) -> bool:
        """Whether pages of this other site may use the API."""
        if origin in self.allowed_origins or "*" in self.allowed_origins:
            return True
        return self.further_origins is not None and self.further_origins(origin)

    @property
    def any_origin_allowed(self) -> bool:
        """Whether answers depend on the origin at all."""
        return bool(self.allowed_origins) or self.further_origins is not None
