"""Every limit of the server: what is beyond it is refused with its name and number, before any SQL ran."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect

from persistence.settings import Settings
from tests.conftest import Account
from tests.execution.serving import served
from tests.execution.socket_client import PROTOCOL, Client
from tests.graph.queries import Watched, watched
from tests.graph.test_subscriptions import connected

pytestmark = pytest.mark.anyio

VIEWER = "{ viewer { id } }"


def chain(links: int) -> str:
    """An operation that reads one field 2**links times, by fragments that spread each other twice."""
    fragments = [f"fragment F{n} on User {{ ...F{n + 1} ...F{n + 1} }}" for n in range(links)]
    return "\n".join(["{ viewer { ...F0 } }", *fragments, f"fragment F{links} on User {{ id }}"])


def limit(name: str, allowed: int, actual: int, **more: str) -> dict[str, Any]:
    return {"code": "LIMIT_EXCEEDED", "limit": name, "allowed": allowed, "actual": actual, **more}


def refusal(
    name: str, given: Mapping[str, Any], within: str, beyond: str, message: str, allowed: int, actual: int, **more: str
) -> Any:
    return pytest.param(given, within, beyond, message, limit(name, allowed, actual, **more), id=name)


REFUSALS = [
    refusal(
        "characters", {"max_characters": 30}, VIEWER + " " * 13, VIEWER + " " * 14,
        "The document has 31 characters; at most 30 are allowed", 30, 31,
    ),
    refusal(
        "tokens", {"max_tokens": 7}, VIEWER, "{ viewer { id name } }  # and this",
        "The document has 8 tokens; at most 7 are allowed", 7, 8,
    ),
    refusal(
        "operations", {"max_operations": 1}, VIEWER, "query A { viewer { id } } query B { viewer { id } }",
        "The document has 2 operations; at most 1 are allowed", 1, 2,
    ),
    refusal(
        "depth", {"max_depth": 4}, "{ viewer { tasks { nodes { id } } } }",
        "{ viewer { tasks { nodes { ...T } } } } fragment T on Task { owner { id } }",
        "The operation is 5 fields deep; at most 4 are allowed", 4, 5,
    ),
    refusal(
        "aliases", {"max_aliases": 1}, "{ me: viewer { id } }", "{ me: viewer { id and: name } }",
        "The operation has 2 aliases; at most 1 are allowed", 1, 2,
    ),
    refusal(
        "rootFields", {"max_root_fields": 1}, VIEWER, "{ viewer { id } tasks { totalCount } }",
        "The operation has 2 root fields; at most 1 are allowed", 1, 2,
    ),
    refusal(
        "directives", {"max_directives": 1}, "{ viewer @include(if: true) { id } }",
        "{ viewer @include(if: true) { id @skip(if: false) } }",
        "The operation has 2 directives; at most 1 are allowed", 1, 2,
    ),
    refusal(
        "selections", {"max_selections": 16}, chain(2), chain(3),
        "The operation has 24 selections, fragments included; at most 16 are allowed", 16, 24,
    ),
    refusal(
        "overlaps", {"max_overlaps": 1}, "{ viewer { id id } }", "{ viewer { id id id } }",
        "The operation has 3 pairs of fields with the same name in the same place; at most 1 are allowed", 1, 3,
    ),
    refusal(
        "introspectionAliases", {}, "{ __schema { a: types { b: name c: kind } d: description } }",
        "{ __schema { a: types { b: name ...T } } } fragment T on __Type { c: kind d: description e: name }",
        "The operation has 5 aliases of and below __schema and __type; at most 4 are allowed", 4, 5,
    ),
    refusal(
        "nameLength", {}, f"{{ {'a' * 128}: viewer {{ {'b' * 128}: id }} }}", f"{{ viewer {{ {'a' * 129}: id }} }}",
        "The operation has a name of 129 characters; at most 128 are allowed", 128, 129,
    ),
    refusal(
        "nameLength", {}, f"query {'Q' * 128} {{ viewer {{ ...V }} }} fragment V on User {{ id }}",
        f"{{ viewer {{ ...V }} }} fragment V on User {{ ... {{ {'a' * 129}: id }} }}",
        "The operation has a name of 129 characters; at most 128 are allowed", 128, 129,
    ),
    refusal(
        "nameLength", {}, "query($name: Boolean! = true) { viewer { id @include(if: $name) } }",
        f"query {'Q' * 129} {{ viewer {{ id }} }}",
        "The operation has a name of 129 characters; at most 128 are allowed", 128, 129,
    ),
    refusal(
        "nameLength", {}, "{ viewer { id } }",
        f"query(${'v' * 129}: Boolean! = true) {{ viewer {{ id @include(if: ${'v' * 129}) }} }}",
        "The operation has a name of 129 characters; at most 128 are allowed", 128, 129,
    ),
    refusal(
        "listItems", {}, f"{{ tasks(filter: {{or: [{'{} ' * 99}]}}) {{ totalCount }} }}",
        f"{{ tasks(filter: {{or: [{'{} ' * 101}]}}) {{ totalCount }} }}",
        "Argument 'filter' of 'tasks' has 101 items at or; at most 100 are allowed", 100, 101, argument="filter",
    ),
    refusal(
        "inputValues", {"max_input_values": 3}, "{ tasks(filter: {title: {eq: \"x\"}}) { totalCount } }",
        "{ tasks(filter: {title: {eq: \"x\", ne: \"y\"}}, orderBy: [{field: TITLE}]) { totalCount } }",
        "The arguments and variables have 5 values or more; at most 3 are allowed", 3, 5,
    ),
    refusal(
        "overlaps", {"max_overlaps": 1}, "{ viewer { id ...V } } fragment V on User { id }",
        "{ viewer { id ... { id } ...V } } fragment V on User { id }",
        "The operation has 3 pairs of fields with the same name in the same place; at most 1 are allowed", 1, 3,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "within", "beyond", "message", "extensions"), REFUSALS)
async def test_what_is_beyond_a_limit_is_refused_before_any_sql(
    settings: Settings,
    account: Account,
    given: Mapping[str, Any],
    within: str,
    beyond: str,
    message: str,
    extensions: dict[str, Any],
) -> None:
    async with watched(replace(settings, **given)) as server:
        refused = await server.post(beyond, account.authorization)
        ran = await server.statements()
        allowed = await server.post(within, account.authorization)

    [error] = refused.json()["errors"]
    assert (refused.status_code, error["message"], error["extensions"]) == (400, message, extensions)
    assert "data" not in refused.json()
    assert ran == []
    assert (allowed.status_code, "errors" in allowed.json()) == (200, False), allowed.json()


@pytest.mark.parametrize("given", [{}, {"max_tokens": 10}])
async def test_a_limit_holds_for_what_is_sent_again(
    settings: Settings, account: Account, given: Mapping[str, Any]
) -> None:
    query = "{ viewer { id name email role timeZone version } } # " + "." * 1000
    async with watched(replace(settings, **given)) as server:
        statuses = [(await server.post(query, account.authorization)).status_code for _ in range(3)]

    assert statuses == ([400] * 3 if given else [200] * 3)


async def test_chained_fragments_are_refused_by_what_they_come_to(settings: Settings, account: Account) -> None:
    async with watched(settings) as server:
        refused = await server.post(chain(60), account.authorization)
        ran = await server.statements()

    [error] = refused.json()["errors"]
    assert refused.status_code == 400
    assert error["message"] == (
        "The operation has more than 999999999 selections, fragments included; at most 3000 are allowed"
    )
    assert ran == []


async def test_a_larger_body_is_refused_before_any_sql(settings: Settings, account: Account) -> None:
    async with watched(replace(settings, max_body=1_000)) as server:
        refused = await server.post("# " + "." * 1_000 + f"\n{VIEWER}", account.authorization)
        ran = await server.statements()
        allowed = await server.post(VIEWER, account.authorization)

    [error] = refused.json()["errors"]
    assert (refused.status_code, error["message"]) == (413, "The request body is larger than 1000 bytes")
    assert error["extensions"] == {"code": "BAD_REQUEST"}
    assert ran == []
    assert allowed.status_code == 200


@pytest.mark.parametrize("argument", ["first", "last"])
async def test_a_larger_page_is_refused_before_its_sql(settings: Settings, account: Account, argument: str) -> None:
    async with watched(replace(settings, token_cache_seconds=60.0)) as server:
        await server.post(VIEWER, account.authorization)
        await server.statements()
        refused = await server.post(f"{{ tasks({argument}: 101) {{ nodes {{ id }} }} }}", account.authorization)
        ran = await server.statements()
        allowed = await server.post(f"{{ tasks({argument}: 100) {{ nodes {{ id }} }} }}", account.authorization)

    [error] = refused.json()["errors"]
    assert error["message"] == f"{argument}: 101 items; 0 to 100 are allowed."
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument, "path": ["tasks"]}
    assert (refused.status_code, "data" in refused.json()) == (422, False)
    assert ran == []
    assert allowed.json()["data"] == {"tasks": {"nodes": []}}


async def test_a_larger_cost_is_refused_before_any_sql(settings: Settings, account: Account) -> None:
    async with watched(replace(settings, max_cost=20)) as server:
        refused = await server.post("{ viewer { tasks(first: 20) { nodes { id } } } }", account.authorization)
        ran = await server.statements()
        allowed = await server.post("{ viewer { tasks(first: 19) { nodes { id } } } }", account.authorization)

    [error] = refused.json()["errors"]
    assert refused.status_code == 400
    assert error["message"] == (
        "The operation could read 21 objects; at most 20 are allowed. Ask for smaller pages or fewer levels"
    )
    assert error["extensions"] == {"code": "COST_LIMIT_EXCEEDED", "limit": "cost", "allowed": 20, "actual": 21}
    assert ran == []
    assert allowed.json()["extensions"]["cost"]["requested"] == 20


async def test_who_asks_too_much_too_fast_is_refused_before_the_sql(settings: Settings, account: Account) -> None:
    small = replace(settings, rate_budget=21, rate_refill=0.5, token_cache_seconds=60.0)
    async with watched(small) as server:
        allowed = await server.post(VIEWER, account.authorization)
        spent = await server.post("{ tasks { nodes { id } } }", account.authorization)
        await server.statements()
        refused = await server.post("{ tasks { nodes { id } } }", account.authorization)
        ran = await server.statements()

    assert [allowed.status_code, spent.status_code, refused.status_code] == [200, 200, 429]
    [error] = refused.json()["errors"]
    seconds = error["extensions"]["retryAfterSeconds"]
    assert error["message"] == f"The operation costs 20 points and 0 are left; try again in {seconds} s"
    assert error["extensions"].items() >= {"code": "RATE_LIMITED", "requested": 20, "remaining": 0}.items()
    assert refused.headers["retry-after"] == str(seconds)
    assert 30 <= seconds <= 40
    assert ran == []


async def test_a_batch_of_operations_is_refused_before_any_sql(settings: Settings, account: Account) -> None:
    async with watched(settings) as server:
        refused = await server.client.post("/graphql", json=[{"query": VIEWER}] * 2, headers=account.authorization)
        ran = await server.statements()

    [error] = refused.json()["errors"]
    assert (refused.status_code, error["extensions"]) == (400, {"code": "BAD_REQUEST"})
    assert error["message"] == "The request body must be a JSON object, not an array: send one operation per request"
    assert ran == []


@pytest.mark.parametrize("field", ['__type(name: "Task") { name }', "__schema { types { name } }"])
async def test_introspection_that_is_switched_off_is_refused_before_any_sql(
    settings: Settings, account: Account, field: str
) -> None:
    async with watched(replace(settings, introspection=False)) as server:
        refused = await server.post(f"{{ viewer {{ id }} ...Q }} fragment Q on Query {{ {field} }}")
        ran = await server.statements()
        allowed = await server.post("{ __typename viewer { __typename } }", account.authorization)

    name = field.partition("(")[0].partition(" ")[0]
    errors = [error for error in refused.json()["errors"] if "Introspection" in error["message"]]
    assert refused.status_code == 422
    assert [(error["message"], error["extensions"]["code"]) for error in errors] == [
        (f"Introspection is switched off: the field '{name}' cannot be used", "GRAPHQL_VALIDATION_FAILED")
    ]
    assert ran == []
    assert allowed.json()["data"] == {"__typename": "Query", "viewer": {"__typename": "User"}}


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{ viewr { id } }", {}),
        ("{ viewer { emial } }", {}),
        ("{ viewer { tasks(frist: 1) { totalCount } } }", {}),
        ("query($f: TaskFiltre) { tasks(filter: $f) { totalCount } }", {}),
        ("{ tasks(filter: {status: {eq: TOOD}}) { totalCount } }", {}),
        ("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": {"statsu": {"eq": "TODO"}}}),
        ("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": {"status": {"eq": "TOOD"}}}),
    ],
)
async def test_names_are_suggested_in_development_only(
    settings: Settings, account: Account, query: str, variables: dict[str, Any]
) -> None:
    answers = []
    for environment in ("development", "production"):
        async with watched(replace(settings, environment=environment)) as server:
            answers.append((await server.post(query, account.authorization, **variables)).text)

    assert "Did you mean" in answers[0]
    assert "Did you mean" not in answers[1]
    assert '"errors"' in answers[1]


# -- the same over a WebSocket ------------------------------------------------------------------------


@asynccontextmanager
async def socket(settings: Settings, account: Account) -> AsyncIterator[tuple[Watched, str, Client]]:
    """A served application, its address, and a client that has begun."""
    async with (
        watched(settings) as server,
        served(server.app, ws="graph.server.sockets:WebSocketProtocol") as address,
        connected(address, account) as client,
    ):
        await server.statements()  # of finding out who it is
        yield server, address, client


async def answer(client: Client, query: str) -> dict[str, Any]:
    """The payload of the one result, or the one error, that an operation ends with."""
    await client.subscribe("1", query)
    message = await client.receive()
    if message["type"] == "error":
        [error] = message["payload"]
        return {"error": error}
    assert message["type"] == "next", message
    assert await client.receive() == {"type": "complete", "id": "1"}
    payload: dict[str, Any] = message["payload"]
    return payload


SOCKET_REFUSALS = [
    *REFUSALS,
    pytest.param(
        {"max_cost": 20}, "{ viewer { tasks(first: 19) { nodes { id } } } }",
        "{ viewer { tasks(first: 20) { nodes { id } } } }",
        "The operation could read 21 objects; at most 20 are allowed. Ask for smaller pages or fewer levels",
        {"code": "COST_LIMIT_EXCEEDED", "limit": "cost", "allowed": 20, "actual": 21}, id="cost",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "within", "beyond", "message", "extensions"), SOCKET_REFUSALS)
async def test_a_socket_refuses_what_a_request_would_be_refused(
    settings: Settings,
    account: Account,
    given: Mapping[str, Any],
    within: str,
    beyond: str,
    message: str,
    extensions: dict[str, Any],
) -> None:
    async with socket(replace(settings, **given), account) as (server, _, client):
        refused = await answer(client, beyond)
        ran = await server.statements()
        allowed = await answer(client, within)

    assert (refused["error"]["message"], refused["error"]["extensions"]) == (message, extensions)
    assert ran == []
    assert allowed["data"]
    assert "errors" not in allowed


async def test_a_socket_sends_no_larger_page_and_no_introspection_that_is_switched_off(
    settings: Settings, account: Account
) -> None:
    async with socket(replace(settings, introspection=False), account) as (_, _, client):
        page = await answer(client, "{ tasks(first: 101) { nodes { id } } }")
        introspection = await answer(client, "{ __schema { types { name } } }")

    assert page["error"]["message"] == "first: 101 items; 0 to 100 are allowed."
    assert introspection["error"]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert "Introspection is switched off" in introspection["error"]["message"]


async def test_a_socket_pays_from_the_budget_of_its_viewer(settings: Settings, account: Account) -> None:
    small = replace(settings, rate_budget=21, rate_refill=0.0, token_cache_seconds=60.0)
    async with socket(small, account) as (server, _, client):
        allowed = await server.post("{ tasks { nodes { id } } }", account.authorization)
        last = await answer(client, VIEWER)
        await server.statements()
        refused = await answer(client, VIEWER)
        ran = await server.statements()

    assert allowed.status_code == 200
    assert last["data"] == {"viewer": {"id": str(account.id)}}
    assert refused["error"]["extensions"].items() >= {"code": "RATE_LIMITED", "requested": 1, "remaining": 0}.items()
    assert ran == []


async def test_a_larger_message_closes_the_socket_before_any_sql(settings: Settings, account: Account) -> None:
    async with socket(replace(settings, max_body=1_000), account) as (server, _, client):
        allowed = await answer(client, VIEWER + " " * 800)
        await server.statements()
        await client.subscribe("2", VIEWER + " " * 1_000)
        closed = await client.closed()
        ran = await server.statements()

    assert allowed["data"] == {"viewer": {"id": str(account.id)}}
    assert closed[0] == 1009
    assert ran == []


async def test_one_operation_more_than_a_socket_may_have_open_is_refused(settings: Settings, account: Account) -> None:
    waiting = "subscription { serverTime(everySeconds: 3600) }"
    async with socket(replace(settings, max_subscriptions=2), account) as (_, _, client):
        for name in ("a", "b", "c"):
            await client.subscribe(name, waiting)
        messages = {message["id"]: message for message in [await client.receive() for _ in range(3)]}

    assert {name: message["type"] for name, message in messages.items()} == {"a": "next", "b": "next", "c": "error"}
    assert messages["c"]["payload"][0]["extensions"] == limit("subscriptions", 2, 3)


async def test_sockets_behind_a_trusted_proxy_are_counted_by_who_asked_it(settings: Settings) -> None:
    proxied = replace(settings, trusted_proxies="127.0.0.1", max_sockets_per_address=1)
    async with watched(proxied) as server, served(server.app, ws="graph.server.sockets:WebSocketProtocol") as address:

        def opened(forwarded: str) -> connect:
            headers = {"X-Forwarded-For": forwarded}
            return connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL], additional_headers=headers)

        async with opened("2001:db8:0:7::1") as one, opened("198.51.100.1, 2001:db8:0:8::1") as other:
            for connection in (one, other):
                await Client(connection).init()
            async with opened("2001:db8:0:7::2") as another:
                await Client(another).init()
                gone = await Client(one).closed()
                await Client(other).send(type="ping")
                there = await Client(other).receive()

    assert gone == (1013, "Others need the place of who is not signed in")
    assert there == {"type": "pong"}


async def test_one_socket_more_than_there_may_be_is_asked_to_come_later(settings: Settings, account: Account) -> None:
    async with socket(replace(settings, max_sockets=1), account) as (_, address, client):
        async with connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL]) as second:
            closed = await Client(second).closed()
        still = await answer(client, VIEWER)

    assert closed == (1013, "The server has too many WebSockets")
    assert still["data"] == {"viewer": {"id": str(account.id)}}
