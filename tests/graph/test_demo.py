"""Demo accounts, whose passwords are known, are for the people at this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Message
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from graph.server.app import create_app
from graph.server.pages import DemoAccount
from persistence.settings import Settings
from tests.execution.serving import served

pytestmark = pytest.mark.anyio

ACCOUNT = DemoAccount("Ada", "test@example.com", "MEMBER", "tsk_secret")

# As Apache, nginx (as most people set it up), Caddy, Traefik, HAProxy, Envoy, Cloudflare, ngrok, Tailscale, IIS and
# others send them.
FORWARDED = [
    ("Forwarded", "for=192.0.2.7"),
    ("X-Forwarded-For", "192.0.2.7"),
    ("x-forwarded-for", ""),
    ("X-Forwarded-Host", "tasks.example.org"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Server", "tasks.example.org"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-Prefix", "/tasks"),
    ("X-Forwarded-Whatever-Comes", "1"),
    ("X-Real-IP", "192.0.2.7"),
    ("Via", "1.1 varnish"),
    ("X-Original-URL", "/graphql"),
    ("X-Original-Forwarded-For", "192.0.2.7"),
    ("X_Forwarded_For", "192.0.2.7"),
    ("X-Forwarded_Host", "tasks.example.org"),
    ("X-ForwardedFor", "192.0.2.7"),
    ("X-Forward-For", "192.0.2.7"),
    ("HTTP_X_FORWARDED_FOR", "192.0.2.7"),
    ("X_Real_IP", "192.0.2.7"),
    ("X-ProxyUser-Ip", "192.0.2.7"),
    ("X-Sucuri-ClientIP", "192.0.2.7"),
    ("Ali-Cdn-Real-Ip", "192.0.2.7"),
    ("X-Cdn", "Incapsula"),
    ("X-Client-IP", "192.0.2.7"),
    ("True-Client-IP", "192.0.2.7"),
    ("CF-Connecting-IP", "192.0.2.7"),
    ("CF-Ray", "1"),
    ("CDN-Loop", "cloudflare"),
    ("X-Envoy-External-Address", "192.0.2.7"),
    ("Tailscale-User-Login", "ada@example.org"),
    ("Fly-Client-IP", "192.0.2.7"),
    ("X-Arr-Log-Id", "1"),
    ("X-Amzn-Trace-Id", "1"),
    ("CloudFront-Viewer-Address", "192.0.2.7"),
    ("Akamai-Origin-Hop", "1"),
    ("L5d-Client-Id", "1"),
]
PATHS = [
    "/graphql",
    "/graphql/",
    "/",
    "/static/graphiql/index.html",
    "/schema.graphql",
    "/livez",
    "/readyz",
    "/metrics",
    "/nowhere",
]


@asynccontextmanager
async def demo(settings: Settings, host: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(replace(settings, demo=True, host=host), [ACCOUNT])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


def refusal(response: httpx.Response) -> str:
    """The message of a refused request."""
    assert response.status_code == 421
    assert ACCOUNT.token not in response.text
    [error] = response.json()["errors"]
    assert error["extensions"] == {"code": "MISDIRECTED"}
    return str(error["message"])


@pytest.mark.parametrize(("name", "value"), FORWARDED, ids=[name for name, _ in FORWARDED])
async def test_what_came_through_a_proxy_is_refused_with_its_reason(settings: Settings, name: str, value: str) -> None:
    async with demo(settings) as client:
        page = await client.get("/graphql", headers={name: value, "Accept": "text/html"})
        posted = await client.post("/graphql", headers={name: value}, json={"query": "{ __typename }"})

    assert name.lower() in refusal(page).lower()
    assert "through a proxy" in refusal(posted)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
async def test_whatever_is_asked_for_through_a_proxy_is_refused(settings: Settings, path: str, method: str) -> None:
    async with demo(settings) as client:
        answer = await client.request(method, path, headers={"X-Forwarded-For": "127.0.0.1"})

    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # nothing is bound
async def test_a_proxy_is_refused_wherever_the_server_listens(settings: Settings, host: str) -> None:
    async with demo(settings, host) as client:
        through, straight = [await client.get("/livez", headers=headers) for headers in ({"Via": "1.1 x"}, {})]

    assert (through.status_code, straight.status_code) == (421, 200)


@pytest.mark.parametrize("host", ["evil.example:8000", "a{b.evil.example:8000", "192.0.2.1", ""])
async def test_demo_accounts_are_out_of_reach_under_foreign_names(settings: Settings, host: str) -> None:
    async with demo(settings) as client:
        foreign = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"Host": host})
        own = await client.post("/graphql", json={"query": "{ __typename }"})

    assert "names of this machine" in refusal(foreign)
    assert own.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [[], [(b"host", b"localhost"), (b"host", b"localhost")], [(b"host", b"localhost"), (b"host", b"evil.example")]],
    ids=["none", "twice", "two"],
)
async def test_demo_accounts_are_out_of_reach_without_one_name(
    settings: Settings, headers: list[tuple[bytes, bytes]]
) -> None:
    assert await status(settings, headers, http_version="1.1") == 421


@pytest.mark.parametrize(("version", "expected"), [("1.1", 200), ("1.0", 421), ("0.9", 421), ("2.0", 421)])
async def test_http_1_0_is_how_nginx_asks_and_refused(settings: Settings, version: str, expected: int) -> None:
    assert await status(settings, [(b"host", b"127.0.0.1:8000")], http_version=version) == expected


async def status(settings: Settings, headers: list[tuple[bytes, bytes]], **changed: Any) -> int:
    """The status of a request with exactly these headers."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/livez", "query_string": b"", "headers": headers}
    await create_app(replace(settings, demo=True), [ACCOUNT])({**scope, **changed}, receive, send)
    found: int = sent[0]["status"]
    return found


async def test_a_websocket_through_a_proxy_is_refused_in_its_handshake(settings: Settings) -> None:
    app = create_app(replace(settings, demo=True), [ACCOUNT])
    protocols = [Subprotocol("graphql-transport-ws")]
    async with served(app, ws="graph.server.sockets:WebSocketProtocol") as address:
        with pytest.raises(InvalidStatus) as caught:
            await connect(
                f"ws://{address}/graphql", subprotocols=protocols, additional_headers={"X-Forwarded-For": "::1"}
            )
        straight = await connect(f"ws://{address}/graphql", subprotocols=protocols)
        await straight.close()

    assert caught.value.response.status_code == 421
    assert b"X-Forwarded-For" in caught.value.response.body


async def test_without_demo_accounts_proxies_are_answered(settings: Settings) -> None:
    app = create_app(settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tasks.example.org") as client:
        answer = await client.get("/livez", headers={"X-Forwarded-For": "192.0.2.7"})

    assert answer.status_code == 200


PAGES = [
    "http://localhost:5173",
    "http://127.0.0.1:3000",
    "http://[::1]:8080",
    "https://app.localhost",
    "http://127.9.9.9",
]
FOREIGN = [
    "http://evil.example",
    "http://localhost.evil.example",
    "http://evil.example:80@localhost",
    "null",
    "file://",
]


@pytest.mark.parametrize(("origin", "allowed"), [(o, True) for o in PAGES] + [(o, False) for o in FOREIGN])
async def test_pages_of_this_machine_may_use_a_demo(settings: Settings, origin: str, allowed: bool) -> None:
    async with demo(settings) as client:
        answer = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"Origin": origin})
        preflight = await client.options(
            "/graphql", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )

    for response in (answer, preflight):
        assert response.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert "Origin" in response.headers["Vary"]


async def test_pages_of_this_machine_need_permission_where_there_is_no_demo(settings: Settings) -> None:
    app = create_app(replace(settings, demo=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"Origin": PAGES[0]})

    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_setting_names_further_hosts_of_a_demo(settings: Settings) -> None:
    query = {"query": "{ __typename }"}
    async with demo(settings) as client:
        refused = await client.post("/graphql", json=query, headers={"Host": "host.docker.internal:8000"})
    async with demo(replace(settings, demo_hosts="10.0.2.2, Host.Docker.Internal")) as client:
        statuses = {
            host: (await client.post("/graphql", json=query, headers={"Host": host})).status_code
            for host in ("host.docker.internal:8000", "10.0.2.2", "10.0.2.3", "a.host.docker.internal")
        }

    assert refused.status_code == 421
    assert "TASKSTORE_DEMO_HOSTS" in refusal(refused)
    assert list(statuses.values()) == [200, 200, 421, 421]


async def test_a_page_may_read_why_it_is_refused(settings: Settings) -> None:
    asked = {"Host": "host.docker.internal", "Origin": "http://localhost:5173"}
    async with demo(settings) as client:
        preflight = await client.options(
            "/graphql",
            headers=asked
            | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"},
        )
        answer = await client.post("/graphql", json={"query": "{ __typename }"}, headers=asked)

    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert answer.status_code == 421
    assert answer.headers["Access-Control-Allow-Origin"] == preflight.headers["Access-Control-Allow-Origin"] == "*"
