"""A small schema with everything the endpoint has to deal with, and an application around it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import strawberry
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from graph.execution.errors import RequestError
from graph.execution.preparing.cost import Cost, Costs
from graph.execution.preparing.documents import Documents
from graph.execution.preparing.limits import Limits, limit_rule, token_check
from graph.execution.running.engine import Engine
from graph.transport.http import GraphQLEndpoint, HttpOptions, OperationRecord

PAGE = 20


@dataclass
class State:
    """What the application has seen."""

    contexts: int = 0
    open: int = 0
    cancelled: int = 0
    resolved: list[str] = field(default_factory=list)
    reported: list[BaseException] = field(default_factory=list)
    records: list[OperationRecord] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class Context:
    """One operation's."""

    operation: Any = None

    def __init__(self, state: State, scope: Scope, params: Mapping[str, Any] | None) -> None:
        self.state, self.connection, self.params = state, HTTPConnection(scope), params

    async def enter(self, *, public: bool = False) -> None:
        self.state.contexts += 1

    async def leave(self) -> None:
        self.state.open -= 1


Info = strawberry.Info[Context, None]


@strawberry.type
class PageInfo:
    has_next_page: bool = False


@strawberry.type
class Item:
    id: int

    @strawberry.field
    def title(self) -> str:
        return f"item {self.id}"

    @strawberry.field
    async def lag(self, seconds: float = 30.0) -> str:
        await asyncio.sleep(seconds)
        return "late"

    @strawberry.field
    def parent(self) -> "Item":
        return Item(id=self.id + 1)

    @strawberry.field
    def items(self, first: int | None = None, last: int | None = None) -> "ItemConnection":
        return connection(first, last)


@strawberry.type
class ItemEdge:
    cursor: str
    node: Item


@strawberry.type
class ItemConnection:
    nodes: list[Item]
    edges: list[ItemEdge]
    page_info: PageInfo
    total_count: int = 1000


def connection(first: int | None, last: int | None) -> ItemConnection:
    size = first if first is not None else last if last is not None else PAGE
    items = [Item(id=n) for n in range(size)]
    return ItemConnection(
        nodes=items, edges=[ItemEdge(cursor=str(item.id), node=item) for item in items], page_info=PageInfo()
    )


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"hello {name}"

    @strawberry.field
    def item(self, id: int) -> Item | None:
        return Item(id=id)

    @strawberry.field
    def items(self, first: int | None = None, last: int | None = None) -> ItemConnection:
        return connection(first, last)

    @strawberry.field
    def nodes(self, ids: list[int]) -> list[Item]:
        return [Item(id=id) for id in ids]

    @strawberry.field(metadata={"cost": Cost(weight=5, size=3)})
    def favourites(self) -> list[Item]:
        return [Item(id=n) for n in range(3)]

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("a secret in the text")

    @strawberry.field
    def refused(self) -> str | None:
        raise RequestError("Not yours", "FORBIDDEN", status=403)

    @strawberry.field
    def required(self) -> str:
        raise RequestError("The database is away", "UNAVAILABLE", status=503, headers={"Retry-After": "1"})

    @strawberry.field
    async def slow(self, info: Info, seconds: float = 30.0) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            info.context.state.cancelled += 1
            raise
        return "awake"

    @strawberry.field
    def params(self, info: Info) -> str | None:
        return str((info.context.params or {}).get("token"))

    @strawberry.field
    def big(self, size: int) -> str:
        return "x" * size


@strawberry.type
class Mutation:
    @strawberry.mutation
    def write(self, info: Info, text: str = "") -> str:
        info.context.state.resolved.append(text)
        return text

    @strawberry.mutation
    async def slow_write(self) -> str:
        await asyncio.sleep(30)
        return ""


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: Info, to: int = 3, pause: float = 0.0) -> AsyncIterator[int]:
        try:
            for n in range(to):
                await asyncio.sleep(pause)
                yield n
        finally:
            info.context.state.cancelled += 1

    @strawberry.subscription
    async def items(self) -> AsyncIterator[Item]:
        for n in range(2):
            yield Item(id=n)

    @strawberry.subscription
    async def breaks(self) -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("a secret in the text")

    @strawberry.subscription
    async def flood(self, size: int = 100_000) -> AsyncIterator[str]:
        while True:
            yield "x" * size
            await asyncio.sleep(0)


schema = strawberry.Schema(Query, Mutation, Subscription)


class Application:
    """A host that remembers what happened to it."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        self.state = State()
        self.refuse: RequestError | None = None
        self.limits = limits or Limits()
        core = schema._schema
        self.documents = Documents(
            core,
            check=token_check(self.limits),
            rules=[limit_rule(self.limits)],
            max_tokens=self.limits.tokens,
            hide_suggestions=True,
        )
        self.engine = Engine(
            schema, documents=self.documents, classify=lambda error: None, report=self.report, compiled=True
        )
        options.setdefault("costs", Costs(core))
        self.options = HttpOptions(**options)
        self.endpoint = GraphQLEndpoint(self.engine, self, self.options)

    def service_options(self, **changes: Any) -> None:
        self.options = replace(self.options, **changes)
        self.endpoint = GraphQLEndpoint(self.engine, self, self.options)

    def report(self, _error: Any, cause: BaseException) -> str:
        self.state.reported.append(cause)
        return f"bug-{len(self.state.reported)}"

    def context(self, scope: Scope, params: Mapping[str, Any] | None) -> Context:
        if self.refuse is not None:
            raise self.refuse
        self.state.open += 1
        return Context(self.state, scope, params)

    def budget_key(self, context: Context) -> str | None:
        return context.connection.headers.get("x-viewer", "ada")

    def client_key(self, scope: Scope) -> str:
        return HTTPConnection(scope).headers.get("x-client", "here")

    def viewer_key(self, context: Context) -> str | None:
        viewer: str | None = (context.params or {}).get("viewer", "ada")
        return viewer

    def observe(self, context: Any, record: OperationRecord) -> None:
        self.state.records.append(record)

    def statements(self, context: Any) -> Mapping[str, int]:
        return {"count": 0}

    def page(self, request: Request) -> Response | None:
        return HTMLResponse("<h1>GraphiQL</h1>")

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.endpoint)
        return httpx.AsyncClient(transport=transport, base_url="http://test")
