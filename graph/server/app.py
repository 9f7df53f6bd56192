"""The application: the schema behind its endpoint, the pages, and the health of both."""

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from background.housekeeping import housekeeping
from background.loops import Loop, in_transaction
from background.loops import run as run_loops
from graph.execution.preparing.bounds import Bounds
from graph.execution.preparing.cost import Costs
from graph.execution.preparing.documents import Documents
from graph.execution.preparing.limits import Limits, limit_rule, token_check
from graph.execution.running.engine import Engine
from graph.request.context import Context, Services, client_address
from graph.request.refusals import classify
from graph.schema import schema
from graph.server import logs
from graph.server.budgets import SharedBudget
from graph.server.door import DOOR, Allowance, Door
from graph.server.forwarding import sign_of_a_proxy
from graph.server.health import Health
from graph.server.metrics import Metrics
from graph.server.pages import DemoAccount, graphiql, static_routes
from graph.server.sdl import sdl_routes
from graph.transport.addresses import OwnNames, is_loopback
from graph.transport.budget import Budget, MemoryBudget
from graph.transport.host import OperationRecord
from graph.transport.http import GraphQLEndpoint, HttpOptions
from graph.transport.persisted import PersistedDocuments, load_manifest
from persistence import settings as configuration
from persistence import tokens
from persistence.connections.address import parse
from persistence.connections.engine import DatabaseUnreachable, create_engine, ping
from persistence.passwords import Passwords
from persistence.session import Session
from persistence.settings import Settings, variable

T = TypeVar("T")

NOTE_SECONDS = 30.0
"""How often it is written down which tokens were used."""
API_PATHS = ("/graphql", "/graphql/")
GC_THRESHOLD = 50_000
"""Objects made before the collector looks at the young ones: an answer of 1,000 rows must not start it ten times."""


class TaskstoreHost:
    """What this application supplies to the endpoint (`graph.transport.host.Host`)."""

    def __init__(self, services: Services, metrics: Metrics, demo_accounts: Sequence[DemoAccount] = ()) -> None:
        self.services, self.metrics, self.demo_accounts = services, metrics, demo_accounts
        self._logs = logs.operations_are_logged()  # asking costs 1 us

    def context(self, scope: Scope, params: Mapping[str, Any] | None) -> Context:
        return Context(self.services, scope, params)

    def budget_key(self, context: Context) -> str | None:
        return context.viewer.name if context.viewer else f"address {context.address}"

    def client_key(self, scope: Scope) -> str:
        return client_address(scope, self.services.proxies)

    def viewer_key(self, context: Context) -> str | None:
        return context.viewer.name if context.viewer else None

    def observe(self, context: Context | None, record: OperationRecord) -> None:
        self.metrics.observe(context, record)
        if self._logs:
            logs.operation(context, record)

    def statements(self, context: Context) -> Mapping[str, int]:
        return {"count": context.session.statements, "rows": context.session.rows}

    def page(self, request: Request) -> Response | None:
        settings = self.services.settings
        # A foreign site whose name was rebound to this address must not read the tokens.
        accounts = self.demo_accounts if asked_name(request.scope) in OwnNames(settings.demo_hosts) else ()
        return graphiql(request, demo_accounts=accounts, explain=settings.environment == "development")


class Application(Starlette):
    """The routes; requests to the API itself take a short cut past the middleware and the routing.

    Demo accounts have known passwords and their tokens are in a page. With `demo`, nobody is answered through a proxy:
    it would let others in while the server sees its own address. With `private`, only its own names are answered: a
    foreign site whose name was rebound to this address could sign in from a visitor's browser.
    """

    def __init__(
        self, endpoint: GraphQLEndpoint, *, demo: bool, private: OwnNames | None, root_path: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.router.redirect_slashes = False  # to the host and scheme that arrive here, which a proxy may have changed
        self.endpoint, self.demo, self.private = endpoint, demo, private
        self.root_path = f"/{root_path.strip('/')}" if root_path.strip("/") else ""
        self._paths = {root + path for root in ("", self.root_path) for path in API_PATHS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.root_path and scope["type"] != "lifespan":
            scope["root_path"] = self.root_path  # Starlette takes it off the path where it is there
        if self.demo and scope["type"] != "lifespan" and (problem := self._problem(scope)) is not None:
            await misdirected(problem, scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in self._paths:
            await self.endpoint.http(scope, receive, send)
        elif scope["type"] == "http" and self.root_path and scope["path"] == self.root_path:
            await RedirectResponse(f"{self.root_path.rpartition('/')[2]}/graphql")(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        """Why a request is not answered while there are demo accounts."""
        if sign := sign_of_a_proxy(scope):
            return f"With demo accounts this server answers nobody through a proxy, and this request has {sign}."
        if self.private is not None and asked_name(scope) not in self.private:
            return (
                "With demo accounts this server answers under names of this machine only, such as localhost; "
                f"{variable('demo_hosts')} lets in others."
            )
        return None


def asked_name(scope: Scope) -> str | None:
    """The Host header as it came, if there is just one.

    Starlette's URL has the server's own address in place of one that it cannot read, and browsers do ask for names such
    as "a{b.example".
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return hosts[0].decode("latin-1") if len(hosts) == 1 else None


async def misdirected(message: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a request or the handshake of a WebSocket (RFC 9110, section 15.5.20)."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    # Any page may read why it is refused, for which its browser has to be let past the preflight.
    headers = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
    given = Headers(scope=scope)
    if scope["type"] == "http" and scope["method"] == "OPTIONS" and "Access-Control-Request-Method" in given:
        headers["Access-Control-Allow-Methods"] = "GET, POST"
        headers["Access-Control-Allow-Headers"] = given.get("Access-Control-Request-Headers", "")
        await Response(status_code=204, headers=headers)(scope, receive, send)
        return
    answer = {"errors": [{"message": message, "extensions": {"code": "MISDIRECTED"}}]}
    await JSONResponse(answer, 421, headers)(scope, receive, send)


def create_app(settings: Settings, demo_accounts: Sequence[DemoAccount] = ()) -> Starlette:
    """The ASGI application for settings with a database URL."""
    services = Services(settings, create_engine(settings), Passwords(settings.password_hashers))
    metrics = Metrics(services.engine)
    endpoint = create_endpoint(settings, TaskstoreHost(services, metrics, demo_accounts))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        await greet_database(services)
        loops = [Loop(partial(note_used_tokens, services), NOTE_SECONDS)]
        if settings.background:
            loops += housekeeping(services.engine, settings)
        keeper = asyncio.create_task(run_loops(loops))
        spare_the_collector()
        yield {DOOR: Door(Allowance.of(settings), services.proxies)}
        await endpoint.close()
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        with suppress(Exception):  # the database may be gone already
            await note_used_tokens(services)
        await services.engine.dispose()

    return Application(
        endpoint,
        demo=settings.demo,
        private=OwnNames(settings.demo_hosts) if is_loopback(settings.host) else None,
        root_path=settings.root_path,
        routes=[
            *(Route(path, endpoint, methods=None) for path in API_PATHS),
            *(WebSocketRoute(path, endpoint) for path in API_PATHS),
            Route("/", lambda request: RedirectResponse("graphql")),  # relative: a proxy may have taken off a path
            *static_routes(),
            *(sdl_routes() if settings.introspection and not settings.trusted_documents else ()),
            *Health(services.engine).routes(),
            *metrics.routes(),
        ],
        lifespan=lifespan,
    )


def spare_the_collector() -> None:
    """Let the garbage collector look at what requests leave behind only: what the start has made stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)


def create_endpoint(settings: Settings, host: TaskstoreHost) -> GraphQLEndpoint:
    """The endpoint with the limits of the settings."""
    limits = Limits(
        characters=settings.max_characters,
        tokens=settings.max_tokens,
        operations=settings.max_operations,
        depth=settings.max_depth,
        root_fields=settings.max_root_fields,
        aliases=settings.max_aliases,
        directives=settings.max_directives,
        selections=settings.max_selections,
        overlaps=settings.max_overlaps,
        introspection=settings.introspection,
    )
    documents = Documents(
        schema._schema,
        max_count=settings.document_cache,
        max_bytes=settings.document_cache_bytes,
        check=token_check(limits),
        rules=[limit_rule(limits)],
        max_tokens=settings.max_tokens,
        hide_suggestions=settings.environment == "production",
    )
    engine = Engine(schema, documents=documents, classify=classify, report=logs.report, compiled=settings.compiled)
    manifest = load_manifest(settings.trusted_documents) if settings.trusted_documents else None
    options = HttpOptions(
        max_body=settings.max_body,
        timeout=settings.operation_timeout,
        allowed_origins=frozenset(filter(None, map(str.strip, settings.allowed_origins.split(",")))),
        further_origins=OwnNames(settings.demo_hosts).page if settings.demo and is_loopback(settings.host) else None,
        report_cost=settings.report_cost,
        explain_statements=settings.environment == "development",
        bounds=Bounds(schema._schema, values=settings.max_input_values),
        costs=Costs(schema._schema, limit=settings.max_cost),
        budget=create_budget(settings, host.services),
        persisted=PersistedDocuments(manifest, trusted_only=True) if manifest is not None else PersistedDocuments(),
        max_subscriptions=settings.max_subscriptions,
        max_sockets=settings.max_sockets,
        max_sockets_per_client=settings.max_sockets_per_address,
        max_sockets_per_viewer=settings.max_sockets_per_viewer,
        silent_timeout=settings.silent_timeout,
        max_message=settings.max_body,
    )
    return GraphQLEndpoint(engine, host, options)


def create_budget(settings: Settings, services: Services) -> Budget:
    """Where it is counted what viewers may still spend: in this process, or in the database for all of them."""
    if settings.rate_shared:
        return SharedBudget(services.engine, capacity=settings.rate_budget, refill=settings.rate_refill)
    return MemoryBudget(capacity=settings.rate_budget, refill=settings.rate_refill)


async def greet_database(services: Services) -> None:
    """Say in the log whether the database is there. Until it is, the server answers UNAVAILABLE."""
    url = services.settings.database_url or ""
    try:
        await ping(services.engine)
        logs.log.info("database connection established", database=parse(url).where)
    except DatabaseUnreachable as error:
        logs.log.warning("database unreachable", reason=str(error))


async def note_used_tokens(services: Services) -> None:
    used, services.used_tokens = services.used_tokens, set()
    if not used:
        return

    async def work(session: Session) -> None:
        await tokens.used(session, used)

    await in_transaction(services.engine, work)


def app_from_environment() -> Starlette:
    """The application for the settings of the environment, for uvicorn's `factory`."""
    settings = configuration.load()
    logs.configure(settings)
    accounts = json.loads(os.environ.get("DEMO_ACCOUNTS", "[]")) if settings.demo else []
    return create_app(
        settings,
        [
            DemoAccount(account["name"], account["email"], account["role"].upper(), account["token"])
            for account in accounts
        ],
    )
