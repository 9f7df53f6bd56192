"""Subscriptions of the real application, over a real server and a real client."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from websockets.asyncio.client import connect

from graph.request.context import Services
from graph.server.app import Application, TaskstoreHost, create_app
from persistence.models import Scope
from persistence.settings import Settings
from tests.conftest import Account
from tests.execution.serving import served, until
from tests.execution.socket_client import PROTOCOL, Client

pytestmark = pytest.mark.anyio

TIME = "subscription Time($every: Float! = 0.1) { serverTime(everySeconds: $every) }"


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """The application as `./run` serves it."""
    async with app.router.lifespan_context(app), served(app, ws="graph.server.sockets:WebSocketProtocol") as address:
        yield address


@asynccontextmanager
async def connected(address: str, account: Account | None = None) -> AsyncIterator[Client]:
    """A client whose token is in the payload with which it begins."""
    async with connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL]) as connection:
        client = Client(connection)
        await client.init(**(account.authorization if account else {}))
        yield client


@asynccontextmanager
async def client_of(settings: Settings, account: Account | None = None) -> AsyncIterator[Client]:
    async with serving(create_app(settings)) as address, connected(address, account) as client:
        yield client


def services_of(app: Starlette) -> Services:
    assert isinstance(app, Application)
    assert isinstance(app.endpoint.host, TaskstoreHost)
    return app.endpoint.host.services


def code(message: dict[str, Any]) -> str:
    """The code of the error that ended an operation."""
    assert message["type"] == "error", message
    [error] = message["payload"]
    found: str = error["extensions"]["code"]
    return found


async def first_answer(settings: Settings, **payload: Any) -> Any:
    """What a client is told of the viewer that began with this payload."""
    async with (
        serving(create_app(settings)) as address,
        connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL]) as connection,
    ):
        client = Client(connection)
        await client.init(**payload)
        await client.subscribe("1", "{ viewer { id } }")
        return await client.receive()


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
async def test_the_token_may_be_among_headers_of_the_payload(settings: Settings, account: Account, name: str) -> None:
    message = await first_answer(settings, headers={name: account.authorization["Authorization"]})

    assert message["payload"]["data"] == {"viewer": {"id": str(account.id)}}


async def test_an_empty_token_hides_none_among_the_headers(settings: Settings, account: Account) -> None:
    message = await first_answer(settings, authorization="", headers=account.authorization)

    assert message["payload"]["data"] == {"viewer": {"id": str(account.id)}}


@pytest.mark.parametrize("headers", [None, [], "x", 1, {"Authorization": None}, {"x": {"Authorization": "Bearer x"}}])
async def test_what_is_no_token_among_headers_is_none(settings: Settings, headers: Any) -> None:
    message = await first_answer(settings, headers=headers)

    assert code(message) == "UNAUTHENTICATED"


async def test_the_time_comes_again_and_again(settings: Settings, account: Account) -> None:
    started = datetime.now(UTC)
    async with client_of(settings, account) as client:
        await client.subscribe("1", TIME)
        events = [await client.receive() for _ in range(3)]

    assert {(event["id"], event["type"]) for event in events} == {("1", "next")}
    texts = [event["payload"]["data"]["serverTime"] for event in events]
    assert all(text.endswith("Z") for text in texts)
    first, *others = [datetime.fromisoformat(text) for text in texts]
    assert started <= first < others[0] < others[1]


async def test_the_start_and_every_event_pay_and_say_what_is_left(settings: Settings, account: Account) -> None:
    async with client_of(replace(settings, rate_budget=3, rate_refill=0.0), account) as client:
        await client.subscribe("1", TIME)
        messages = [await client.receive() for _ in range(3)]

    costs = [message["payload"]["extensions"]["cost"] for message in messages[:2]]
    assert [(cost["requested"], cost["remaining"]) for cost in costs] == [(1, 1), (1, 0)]
    assert code(messages[2]) == "RATE_LIMITED"


async def test_two_subscriptions_share_a_socket_and_one_can_be_completed(settings: Settings, account: Account) -> None:
    async with client_of(settings, account) as client:
        await client.subscribe("a", TIME)
        await client.subscribe("b", TIME)
        seen = [(await client.receive())["id"] for _ in range(6)]
        await client.send(type="complete", id="a")
        await client.send(type="ping")
        while (await client.receive())["type"] != "pong":
            pass  # what was on its way
        after = [await client.receive() for _ in range(3)]
        await client.subscribe("a", "{ viewer { id } }")
        while (again := await client.receive())["id"] != "a":
            pass

    assert set(seen) == {"a", "b"}
    assert {message["id"] for message in after} == {"b"}
    assert again["payload"]["data"] == {"viewer": {"id": str(account.id)}}


@pytest.mark.parametrize("every", [0.0, 0.09, 3600.5, -1.0, 1e300])
async def test_the_pause_between_events_has_bounds(settings: Settings, account: Account, every: float) -> None:
    async with client_of(settings, account) as client:
        await client.subscribe("1", TIME, variables={"every": every})
        message = await client.receive()

    data, [error] = message["payload"]["data"], message["payload"]["errors"]
    assert data is None
    assert (error["message"], error["extensions"]) == (
        f"everySeconds: {every:g} seconds; 0.1 to 3600 are allowed.",
        {"code": "BAD_USER_INPUT", "argument": "everySeconds"},
    )


async def test_nobody_follows_without_signing_in(settings: Settings) -> None:
    async with client_of(settings) as client:
        await client.subscribe("1", TIME)

        assert code(await client.receive()) == "UNAUTHENTICATED"


async def test_who_follows_needs_the_scope_to_read(settings: Settings, new_account: Any) -> None:
    account = await new_account(scopes=(Scope.WRITE,))
    async with client_of(settings, account) as client:
        await client.subscribe("1", TIME)

        assert code(await client.receive()) == "FORBIDDEN"


async def test_a_wrong_token_is_not_let_in(settings: Settings) -> None:
    async with (
        serving(create_app(settings)) as address,
        connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL]) as connection,
    ):
        client = Client(connection)
        await client.send(type="connection_init", payload={"Authorization": "Bearer tsk_wrong"})

        assert await client.closed() == (4403, "The token is unknown, expired or revoked.")


async def test_the_server_says_that_it_goes_away(settings: Settings, account: Account) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(AsyncExitStack())
        address = await server.enter_async_context(serving(create_app(settings)))
        client = await stack.enter_async_context(connected(address, account))
        await client.subscribe("1", TIME)
        await client.receive()
        await server.aclose()

        assert await client.closed() == (1001, "The server is shutting down")


async def test_no_connection_is_held_between_events(settings: Settings, account: Account) -> None:
    app = create_app(replace(settings, pool_size=1, pool_overflow=0, pool_timeout=1.0))
    async with serving(app) as address, connected(address, account) as client:
        for name in ("a", "b", "c"):
            await client.subscribe(name, TIME, variables={"every": 3600.0})
        first = [await client.receive() for _ in range(3)]
        async with services_of(app).engine.connect() as connection:  # the only one
            alive = await connection.scalar(text("SELECT 1"))

    assert {message["type"] for message in first} == {"next"}
    assert alive == 1


async def test_a_subscription_leaves_nothing_behind(settings: Settings, account: Account) -> None:
    app = create_app(settings)
    async with serving(app) as address:
        async with connected(address, account) as client:
            await client.subscribe("1", TIME)
            await client.receive()
        assert isinstance(app, Application)
        sockets = app.endpoint.websockets.sockets
        await until(lambda: not sockets)
        running = [task for task in asyncio.all_tasks() if re.search(r"server_time|_operate", repr(task))]

    assert running == []


async def test_a_token_that_is_revoked_here_ends_its_events_at_once(settings: Settings, account: Account) -> None:
    revoke = "mutation($input: RevokeTokenInput!) { revokeToken(input: $input) { errors { code } } }"
    async with client_of(replace(settings, token_cache_seconds=60.0), account) as client:
        await client.subscribe("time", TIME)
        await client.receive()
        await client.subscribe("revoke", revoke, variables={"input": {"id": str(account.viewer.token_id)}})
        messages = [await client.receive()]
        while messages[-1]["type"] != "error":
            messages.append(await client.receive())

    after = next(n for n, message in enumerate(messages) if message["id"] == "revoke")
    assert sum(message["id"] == "time" and message["type"] == "next" for message in messages[after:]) <= 1
    assert (messages[-1]["id"], code(messages[-1])) == ("time", "UNAUTHENTICATED")


async def test_a_token_that_is_revoked_elsewhere_ends_its_events_when_it_is_checked_again(
    settings: Settings, account: Account, engine: AsyncEngine
) -> None:
    async with client_of(replace(settings, token_cache_seconds=0.5), account) as client:
        await client.subscribe("1", TIME)
        await client.receive()
        async with engine.begin() as connection:  # what another process does
            await connection.execute(
                text("UPDATE tokens SET revoked_at = now() WHERE id = :id"), {"id": account.viewer.token_id}
            )
        messages = [await client.receive()]
        while messages[-1]["type"] == "next":
            messages.append(await client.receive())

    # Half a second at ten events a second, and one that was on its way.
    assert len(messages) <= 7
    assert code(messages[-1]) == "UNAUTHENTICATED"


async def test_a_subscription_over_http_is_sent_elsewhere(settings: Settings, account: Account) -> None:
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/graphql", json={"query": TIME}, headers=account.authorization)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"] == "Subscriptions must be sent over a WebSocket (graphql-transport-ws)"
