"""graphql-transport-ws, over a real server and a real client."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from graph.execution.errors import RequestError
from graph.transport.budget import MemoryBudget
from tests.execution.http_schema import Application
from tests.execution.serving import served, until
from tests.execution.socket_client import PROTOCOL, Client

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def socket(application: Application, protocol: Subprotocol = PROTOCOL, **options: Any) -> AsyncIterator[Client]:
    async with (
        served(application.endpoint) as address,
        connect(f"ws://{address}/graphql", subprotocols=[protocol], **options) as connection,
    ):
        yield Client(connection)


@asynccontextmanager
async def ready(application: Application | None = None) -> AsyncIterator[Client]:
    async with socket(application or Application()) as client:
        await client.init()
        yield client


async def test_a_subscription_sends_its_events_and_completes() -> None:
    async with ready() as client:
        await client.subscribe("1", "subscription { count(to: 2) }")

        first, second, last = [await client.receive() for _ in range(3)]

    assert [first["payload"]["data"], second["payload"]["data"]] == [{"count": 0}, {"count": 1}]
    assert (first["type"], first["id"], last) == ("next", "1", {"type": "complete", "id": "1"})


async def test_queries_and_mutations_have_one_result() -> None:
    application = Application()
    async with ready(application) as client:
        await client.subscribe("q", "query($n: String!) { hello(name: $n) }", variables={"n": "Ada"})
        assert (await client.receive())["payload"]["data"] == {"hello": "hello Ada"}
        assert await client.receive() == {"type": "complete", "id": "q"}

        await client.subscribe("m", 'mutation { write(text: "a") }')
        assert (await client.receive())["payload"]["data"] == {"write": "a"}

    assert application.state.resolved == ["a"]


async def test_each_event_has_a_context_of_its_own() -> None:
    application = Application()
    async with ready(application) as client:
        before = application.state.contexts
        await client.subscribe("1", "subscription { items { title } }")
        for _ in range(3):
            await client.receive()

        assert application.state.contexts - before == 3  # the source's and two events'
    assert application.state.open == 0


async def test_an_operation_that_cannot_be_executed_ends_in_an_error() -> None:
    async with ready() as client:
        for query, code in (
            ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
            ("{", "GRAPHQL_PARSE_FAILED"),
            ("query($a: Int!) { item(id: $a) { id } }", "BAD_USER_INPUT"),
            ("subscription($a: Int!) { count(to: $a) }", "BAD_USER_INPUT"),
            ("{ items(first: 99999) { nodes { id } } }", "COST_LIMIT_EXCEEDED"),
            ("{ required }", "UNAVAILABLE"),
        ):
            await client.subscribe("1", query)
            message = await client.receive()

            assert (message["type"], message["id"]) == ("error", "1")
            assert message["payload"][0]["extensions"]["code"] == code


async def test_a_source_that_breaks_is_masked_and_ends() -> None:
    application = Application()
    async with ready(application) as client:
        await client.subscribe("1", "subscription { breaks }")
        await client.receive()
        message = await client.receive()

    assert "secret" not in json.dumps(message)
    assert "INTERNAL_SERVER_ERROR" in json.dumps(message)
    assert len(application.state.reported) == 1


async def test_the_client_can_complete_an_operation_and_use_its_id_again() -> None:
    application = Application()
    async with ready(application) as client:
        await client.subscribe("1", "subscription { count(to: 1000, pause: 0.001) }")
        await client.receive()
        await client.send(type="complete", id="1")
        await client.subscribe("1", "{ hello }")
        while (message := await client.receive())["payload"]["data"] != {"hello": "hello world"}:
            pass

        assert message["id"] == "1"
        assert await client.receive() == {"type": "complete", "id": "1"}
    assert application.state.cancelled == 1
    assert application.state.open == 0


async def test_completing_what_does_not_run_is_no_error() -> None:
    async with ready() as client:
        await client.send(type="complete", id="unknown")
        await client.send(type="ping")

        assert await client.receive() == {"type": "pong"}


async def test_a_slow_operation_does_not_hold_up_another() -> None:
    application = Application()
    async with ready(application) as client:
        await client.subscribe("slow", "{ slow }")
        await client.subscribe("quick", "{ hello }")

        assert (await client.receive())["id"] == "quick"
    assert application.state.cancelled == 1


async def test_an_operation_that_takes_too_long_is_stopped() -> None:
    application = Application(timeout=0.05)
    async with ready(application) as client:
        await client.subscribe("1", "{ slow }")
        message = await client.receive()

    assert message["payload"][0]["extensions"]["code"] == "TIMEOUT"
    assert application.state.cancelled == 1


async def test_an_event_that_takes_too_long_ends_the_subscription_and_a_rare_one_does_not() -> None:
    application = Application(timeout=0.1)
    async with ready(application) as client:
        await client.subscribe("1", "subscription { items { lag } }")
        late = await client.receive()
        await client.subscribe("2", "subscription { count(to: 1, pause: 0.3) }")
        rare = await client.receive()
        while rare["id"] == "1":
            rare = await client.receive()

    assert "TIMEOUT" in json.dumps(late)
    assert rare["payload"]["data"] == {"count": 0}
    assert not application.state.reported


async def test_pings_are_answered_with_their_payload() -> None:
    async with socket(Application()) as client:
        await client.send(type="ping", payload={"n": 1})
        assert await client.receive() == {"type": "pong", "payload": {"n": 1}}

        await client.send(type="pong")
        await client.init()


async def test_the_server_pings_and_leaves_who_does_not_answer() -> None:
    async with socket(Application(init_timeout=0.05, ping_interval=0.1)) as client:
        await client.init()
        assert await client.receive() == {"type": "ping"}
        await client.send(type="pong")
        assert await client.receive() == {"type": "ping"}

        assert (await client.closed())[0] == 1011


async def test_who_does_not_begin_in_time_is_closed() -> None:
    async with socket(Application(init_timeout=0.05)) as client:
        assert await client.closed() == (4408, "Connection initialisation timeout")


async def test_a_second_init_closes_the_socket() -> None:
    async with ready() as client:
        await client.send(type="connection_init")

        assert await client.closed() == (4429, "Too many initialisation requests")


async def test_nothing_runs_before_the_acknowledgement() -> None:
    application = Application()
    async with socket(application) as client:
        await client.subscribe("1", "mutation { write }")

        assert await client.closed() == (4401, "Unauthorized")
    assert not application.state.resolved


async def test_an_id_in_use_closes_the_socket() -> None:
    async with ready() as client:
        await client.subscribe("1", "{ slow }")
        await client.subscribe("1", "{ hello }")

        assert await client.closed() == (4409, "Subscriber for 1 already exists")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "nonsense",
        "[]",
        "7",
        "null",
        '"subscribe"',
        "{}",
        '{"type":null}',
        '{"type":7}',
        '{"type":["subscribe"]}',
        '{"type":{"a":1}}',
        '{"type":"unknown"}',
        '{"type":"start","id":"1","payload":{"query":"{ hello }"}}',
        '{"type":"next","id":"1"}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","id":"1"}',
        '{"type":"subscribe","id":"1","payload":null}',
        '{"type":"subscribe","id":"1","payload":[]}',
        '{"type":"subscribe","id":"1","payload":{"query":7}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","variables":[]}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","operationName":{}}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","extensions":"x"}}',
        '{"type":"subscribe","id":7,"payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":"","payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":null,"payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":["1"],"payload":{"query":"{ hello }"}}',
        '{"type":"complete"}',
        '{"type":"complete","id":{}}',
        '{"type":"ping","payload":7}',
        '{"type":"pong","payload":"x"}',
        '{"type":"connection_init","payload":[]}',
        '{"type":"ping","type":"pong"}',
        '{"type":"ping","payload":{"a":NaN}}',
        "[" * 5000,
        b'{"type":"ping"}',
    ],
)
async def test_an_invalid_message_closes_the_socket_and_nothing_else(message: str | bytes) -> None:
    application = Application()
    async with served(application.endpoint) as address:
        url = f"ws://{address}/graphql"
        async with connect(url, subprotocols=[PROTOCOL]) as one, connect(url, subprotocols=[PROTOCOL]) as other:
            bad, good = Client(one), Client(other)
            await bad.init()
            await good.init()
            await bad.connection.send(message)
            code, reason = await bad.closed()
            await good.subscribe("1", "{ hello }")

            assert code == 4400
            assert reason
            assert (await good.receive())["payload"]["data"] == {"hello": "hello world"}
    assert not application.state.reported


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab1", max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text("ab1", max_size=3), children, max_size=3),
    max_leaves=5,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["connection_init", "subscribe", "complete", "ping", "pong", "next"]) | JSON,
        "id": st.sampled_from(["1", "2"]) | JSON,
        "payload": JSON
        | st.fixed_dictionaries(
            {"query": st.sampled_from(["{ hello }", "subscription { count }", "{"]) | JSON},
            optional={"variables": JSON, "operationName": JSON, "extensions": JSON},
        ),
    },
)


@given(conversation=st.lists(MESSAGES, min_size=1, max_size=8), init=st.booleans())
@settings(max_examples=150, deadline=None)
async def test_no_conversation_is_a_bug(conversation: list[dict[str, Any]], init: bool) -> None:
    application = Application()
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: list[dict[str, Any]] = []
    messages = [{"type": "connection_init"}, *conversation] if init else conversation
    incoming.put_nowait({"type": "websocket.connect"})
    for message in messages:
        incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})
    incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/graphql", "headers": [], "subprotocols": [PROTOCOL]}
    async with asyncio.timeout(5):
        await application.endpoint(scope, incoming.get, send)

    assert not application.state.reported
    assert application.state.open == 0
    assert not application.endpoint.websockets.sockets
    assert all(message["code"] in (4400, 4401, 4409, 4429) for message in sent if message["type"] == "websocket.close")


async def test_a_message_over_the_limit_closes_the_socket() -> None:
    async with ready(Application(max_message=1000)) as client:
        await client.subscribe("1", "{ hello }" + " " * 1000)

        assert (await client.closed())[0] == 1009


async def test_the_legacy_protocol_is_not_spoken() -> None:
    async with socket(Application(), Subprotocol("graphql-ws")) as client:
        assert (await client.closed())[0] == 4406


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [("http://{}", True), ("https://app.example", True), ("https://evil.example", False), ("null", False)],
)
async def test_foreign_pages_cannot_connect(origin: str, accepted: bool) -> None:
    application = Application(allowed_origins=frozenset({"https://app.example"}))
    async with served(application.endpoint) as address:
        opening = connect(
            f"ws://{address}/graphql",
            subprotocols=[PROTOCOL],
            additional_headers={"Origin": origin.format(address)},
        )
        if accepted:
            async with opening as connection:
                await Client(connection).init()
        else:
            with pytest.raises(InvalidStatus) as refusal:
                await opening
            assert refusal.value.response.status_code == 403


async def test_a_connection_that_the_application_refuses_is_closed() -> None:
    application = Application()
    application.refuse = RequestError("Unknown token", "UNAUTHENTICATED", status=401)
    async with socket(application) as client:
        await client.send(type="connection_init", payload={"token": "x"})

        assert await client.closed() == (4403, "Unknown token")


async def test_operations_see_the_payload_of_the_connection() -> None:
    async with socket(Application()) as client:
        await client.init(token="secret")
        await client.subscribe("1", "{ params }")

        assert (await client.receive())["payload"]["data"] == {"params": "secret"}


async def test_operations_of_one_socket_are_capped() -> None:
    async with ready(Application(max_subscriptions=2)) as client:
        for n in range(3):
            await client.subscribe(str(n), "{ slow }")
        message = await client.receive()

        assert (message["type"], message["id"]) == ("error", "2")
        assert message["payload"][0]["extensions"]["limit"] == "subscriptions"


async def test_sockets_of_the_process_are_capped() -> None:
    application = Application(max_sockets=1)
    async with served(application.endpoint) as address:
        url = f"ws://{address}/graphql"
        async with connect(url, subprotocols=[PROTOCOL]) as one:
            await Client(one).init()
            async with connect(url, subprotocols=[PROTOCOL]) as two:
                assert (await Client(two).closed())[0] == 1013
        async with connect(url, subprotocols=[PROTOCOL]) as three:
            await Client(three).init()


@asynccontextmanager
async def opened(application: Application) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Opens sockets of a client, and signs them in; "" is nobody."""
    async with served(application.endpoint) as address, AsyncExitStack() as stack:

        async def new(client: str = "here", viewer: str | None = None) -> Client:
            connecting = connect(
                f"ws://{address}/graphql", subprotocols=[PROTOCOL], additional_headers={"X-Client": client}
            )
            socket = Client(await stack.enter_async_context(connecting))
            await socket.init(viewer=viewer)
            return socket

        yield new


async def test_sockets_on_which_nobody_is_signed_in_shut_nobody_out() -> None:
    application = Application(max_sockets=6, max_sockets_per_client=3)
    async with opened(application) as new:
        first = [await new() for _ in range(3)]
        flood = [await new(f"client {n}") for n in range(20)]
        ada = [await new("her", "ada") for _ in range(6)]
        gone = [await socket.closed() for socket in [*first, *flood]]
        assert {code for code, _ in gone} == {1013}
        for socket in ada:
            await socket.subscribe("1", "{ __typename }")
            assert (await socket.receive())["type"] == "next"
        assert len(application.endpoint.websockets.places) == 6

    await until(lambda: len(application.endpoint.websockets.places) == 0)


async def test_of_one_client_the_oldest_socket_without_a_viewer_gives_way() -> None:
    async with opened(Application(max_sockets_per_client=2)) as new:
        ada, elsewhere, busy, silent = await new("here", "ada"), await new("there"), await new(), await new()
        await busy.subscribe("1", "{ slow }")
        await busy.send(type="ping")
        assert await busy.receive() == {"type": "pong"}
        await new()
        assert await silent.closed() == (1013, "Others need the place of who is not signed in")
        also_busy = await new()
        await also_busy.subscribe("1", "{ slow }")
        await also_busy.send(type="ping")
        assert await also_busy.receive() == {"type": "pong"}
        await new()
        assert (await busy.closed())[0] == 1013
        for socket in (elsewhere, ada, also_busy):
            await socket.send(type="ping")
            assert await socket.receive() == {"type": "pong"}


async def test_a_viewer_has_so_many_sockets_wherever_they_come_from() -> None:
    async with opened(Application(max_sockets_per_viewer=2)) as new:
        one, _ = await new("here", "ada"), await new("there", "ada")
        await new("here", "bob")
        with pytest.raises(ConnectionClosed) as refused:
            await new("elsewhere", "ada")
        await one.connection.close()
        await new("elsewhere", "ada")

    assert refused.value.rcvd is not None
    assert (refused.value.rcvd.code, refused.value.rcvd.reason) == (1013, "You have too many WebSockets")


async def test_a_socket_without_a_viewer_on_which_nothing_is_asked_is_closed() -> None:
    application = Application(silent_timeout=0.2)
    async with opened(application) as new:
        silent, pinging, ada, busy = await new(), await new(), await new("her", "ada"), await new()
        await busy.subscribe("1", "{ slow }")

        async def ping() -> None:
            while True:
                await pinging.send(type="ping")
                await asyncio.sleep(0.02)

        pings = asyncio.create_task(ping())
        assert (await silent.closed())[0] == 4401
        assert (await pinging.closed())[0] == 4401
        await asyncio.gather(pings, return_exceptions=True)
        for socket in (ada, busy):
            await socket.send(type="ping")
            assert await socket.receive() == {"type": "pong"}


@pytest.mark.parametrize("query", [None, "subscription { count(pause: 30) }"])
async def test_a_socket_whose_viewer_is_refused_by_now_is_closed(query: str | None) -> None:
    application = Application(silent_timeout=0.2, timeout=0.2, max_sockets_per_viewer=1)
    async with opened(application) as new:
        ada = await new("here", "ada")
        if query is not None:
            await ada.subscribe("1", query)
            await until(lambda: application.state.open > 0)
        application.refuse = RequestError("The token is revoked.", "UNAUTHENTICATED")
        assert await ada.closed() == (4403, "The token is revoked.")
        application.refuse = None
        await new("here", "ada")


async def test_a_viewer_is_asked_for_again_in_time_whatever_the_pings() -> None:
    application = Application(silent_timeout=1.1, ping_interval=1.0)
    async with opened(application) as new:
        ada = await new("here", "ada")
        before = application.state.contexts
        await until(lambda: application.state.contexts > before)
        await ada.send(type="ping")
        application.refuse, began = RequestError("The token is revoked.", "UNAUTHENTICATED"), perf_counter()
        assert (await ada.closed())[0] == 4403

    assert perf_counter() - began < 1.7


async def test_a_socket_stays_while_nobody_can_tell_who_its_viewer_is() -> None:
    application = Application(silent_timeout=0.1)
    async with opened(application) as new:
        ada = await new("here", "ada")
        application.refuse = RequestError("The database cannot be reached.", "UNAVAILABLE")
        await asyncio.sleep(0.3)
        application.refuse, before = None, application.state.contexts
        await until(lambda: application.state.contexts > before)
        await ada.send(type="ping")
        assert await ada.receive() == {"type": "pong"}


async def test_events_pay_from_the_budget() -> None:
    application = Application(budget=MemoryBudget(capacity=3, refill=0.001))
    async with ready(application) as client:
        await client.subscribe("1", "subscription { count(to: 100) }")
        messages = [await client.receive() for _ in range(3)]

    assert [message["type"] for message in messages] == ["next", "next", "error"]
    assert messages[0]["payload"]["extensions"]["cost"]["remaining"] == 1
    assert messages[2]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_a_client_that_does_not_read_stops_the_source() -> None:
    application = Application(send_timeout=0.2)
    async with served(application.endpoint) as address:
        connection = await connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL], max_queue=1, compression=None)
        client = Client(connection)
        await client.init()
        await client.subscribe("1", "subscription { flood }")
        await until(lambda: not application.endpoint.websockets.sockets)
        connection.transport.abort()

    (record,) = application.state.records
    assert record.events is not None
    assert record.events < 200
    assert application.state.open == 0


async def test_a_client_that_goes_away_cancels_its_operations() -> None:
    application = Application()
    async with ready(application) as client:
        await client.subscribe("1", "{ slow }")
        await client.subscribe("2", "subscription { count(pause: 30) }")
        await until(lambda: application.state.open == 2)
        client.connection.transport.abort()
        await until(lambda: len(application.state.records) == 2)

    assert application.state.cancelled == 2
    assert {record.stopped for record in application.state.records} == {"disconnect"}


async def test_shutdown_closes_the_sockets() -> None:
    application = Application()
    async with ready(application) as client:
        await client.subscribe("1", "{ slow }")
        await until(lambda: application.state.open == 1)
        await application.endpoint.close()

        assert await client.closed() == (1001, "The server is shutting down")
    assert application.state.cancelled == 1


async def test_the_end_of_the_server_is_told_to_clients() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(AsyncExitStack())
        options = {"ws": "graph.server.sockets:WebSocketProtocol"}
        address = await server.enter_async_context(served(Application().endpoint, **options))
        connection = await stack.enter_async_context(connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL]))
        client = Client(connection)
        await client.init()
        await server.aclose()

        assert await client.closed() == (1001, "The server is shutting down")


async def test_an_application_that_cannot_be_reached_asks_to_try_later() -> None:
    application = Application()
    application.refuse = RequestError("The database is away", "UNAVAILABLE", status=503)
    async with socket(application) as client:
        await client.send(type="connection_init")

        assert await client.closed() == (1013, "The database is away")


async def test_a_bug_while_connecting_is_masked() -> None:
    application = Application()
    application.refuse = RuntimeError("a secret in the text")  # type: ignore[assignment]
    async with socket(application) as client:
        await client.send(type="connection_init")

        assert await client.closed() == (1013, "Internal server error")
    assert len(application.state.reported) == 1


async def test_nobody_connects_to_a_server_that_shuts_down() -> None:
    application = Application()
    await application.endpoint.close()
    async with socket(application) as client:
        assert (await client.closed())[0] == 1001


async def test_a_cost_is_explained_over_a_websocket_too() -> None:
    async with ready() as client:
        await client.subscribe("1", "subscription { items { parent { id } } }", extensions={"explainCost": True})
        message = await client.receive()

        assert message["payload"]["data"] is None
        assert message["payload"]["extensions"]["cost"]["requested"] == 2
        assert await client.receive() == {"type": "complete", "id": "1"}


async def test_a_bug_of_the_application_ends_only_its_operation() -> None:
    application = Application()
    async with ready(application) as client:
        application.refuse = RuntimeError("a secret in the text")  # type: ignore[assignment]
        await client.subscribe("1", "{ hello }")
        broken = await client.receive()
        application.refuse = None
        await client.subscribe("2", "{ hello }")

        assert (broken["type"], broken["payload"][0]["message"]) == ("error", "Internal server error")
        assert (await client.receive())["id"] == "2"
