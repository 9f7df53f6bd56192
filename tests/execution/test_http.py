"""GraphQL over HTTP: negotiation, methods, statuses, headers."""

import asyncio
import gzip
from typing import Any

import httpx
import pytest

from graph.execution.errors import RequestError
from graph.execution.preparing.limits import Limits
from graph.transport.budget import MemoryBudget
from tests.execution.http_schema import Application

pytestmark = pytest.mark.anyio

NEW = "application/graphql-response+json"
OLD = "application/json"


async def post(application: Application, query: str, accept: str | None = NEW, **parameters: Any) -> httpx.Response:
    headers = {"accept": accept} if accept else {}
    async with application.client() as client:
        if not accept:
            del client.headers["accept"]
        return await client.post("/graphql", json={"query": query, **parameters}, headers=headers)


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json()["errors"]]


async def test_a_query_is_answered_in_the_media_type_that_was_asked_for() -> None:
    response = await post(Application(), '{ hello(name: "Ada") }')

    assert response.status_code == 200
    assert response.headers["content-type"] == f"{NEW}; charset=utf-8"
    assert response.json()["data"] == {"hello": "hello Ada"}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, OLD),
        ("*/*", OLD),
        ("application/*", OLD),
        (OLD, OLD),
        (NEW, NEW),
        (f"{NEW}, {OLD};q=0.9", NEW),
        (f"{OLD};q=0.9, {NEW}", NEW),
        (f"{NEW};q=0.5, {OLD}", OLD),
        (f"{OLD}, {NEW}", OLD),
        (f"{NEW}; charset=utf-8, {OLD}; charset=utf-8", NEW),
        ("application/json, text/plain, */*", OLD),
        (f"multipart/mixed;deferSpec=20220824, {NEW}, {OLD}", NEW),
        (f"{OLD};q=0, */*", NEW),
        ("APPLICATION/GRAPHQL-RESPONSE+JSON", NEW),
    ],
)
async def test_accept_decides_the_media_type(accept: str | None, content_type: str) -> None:
    response = await post(Application(), "{ hello }", accept)

    assert response.status_code == 200
    assert response.headers["content-type"] == f"{content_type}; charset=utf-8"
    assert "Accept" in response.headers["vary"]


@pytest.mark.parametrize("accept", ["text/plain", "application/xml", f"{OLD};q=0", f"{OLD};charset=latin1", ""])
async def test_an_answer_that_nobody_accepts_is_406_and_nothing_runs(accept: str) -> None:
    application = Application()
    async with application.client() as client:
        response = await client.post(
            "/graphql", json={"query": "mutation { write }"}, headers={"accept": accept or "text/css"}
        )

    assert response.status_code == 406
    assert not application.state.resolved


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("{ hello", 400, "GRAPHQL_PARSE_FAILED"),
        ("", 400, "GRAPHQL_PARSE_FAILED"),
        ("{ hello \x00 }", 400, "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", 422, "GRAPHQL_VALIDATION_FAILED"),
        ("query A { hello } query B { hello }", 422, "OPERATION_RESOLUTION_FAILURE"),
        ("fragment F on Query { hello }", 422, "GRAPHQL_VALIDATION_FAILED"),
        ("query($id: Int!) { item(id: $id) { id } }", 422, "BAD_USER_INPUT"),
        ("subscription { count }", 422, "BAD_REQUEST"),
    ],
)
@pytest.mark.parametrize("accept", [NEW, OLD])
async def test_a_request_that_cannot_be_executed_has_errors_and_no_data(
    query: str, status: int, code: str, accept: str
) -> None:
    response = await post(Application(), query, accept)

    assert response.status_code == status
    assert response.headers["content-type"] == f"{NEW}; charset=utf-8"
    assert "data" not in response.json()
    assert codes(response) == [code]


async def test_partial_data_is_294_for_the_new_media_type_and_200_for_the_old() -> None:
    for accept, status in ((NEW, 294), (OLD, 200), (None, 200)):
        response = await post(Application(), "{ hello broken }", accept)

        assert response.status_code == status
        assert response.json()["data"] == {"hello": "hello world", "broken": None}
        assert response.json()["errors"][0]["path"] == ["broken"]


async def test_a_bug_is_masked_and_its_id_is_that_of_the_report() -> None:
    application = Application()

    response = await post(application, "{ broken }")

    assert "secret" not in response.text
    assert response.json()["errors"][0]["extensions"] == {"code": "INTERNAL_SERVER_ERROR", "id": "bug-1"}
    assert isinstance(application.state.reported[0], RuntimeError)


async def test_an_outage_that_leaves_no_data_is_a_503_with_retry_after() -> None:
    response = await post(Application(), "{ required }", OLD)

    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "data" not in response.json()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("Who are you?", "UNAUTHENTICATED", status=401), 401),
        (RequestError("The database is away", "UNAVAILABLE", status=503), 503),
    ],
)
async def test_a_refused_context_is_answered_with_its_status(error: RequestError, status: int) -> None:
    application = Application()
    application.refuse = error

    response = await post(application, "{ hello }")

    assert response.status_code == status
    assert codes(response) == [error.code]
    assert (response.headers.get("www-authenticate") == "Bearer") == (status == 401)


async def test_a_bug_of_the_application_is_a_masked_500() -> None:
    application = Application()
    application.budget_key = lambda context: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    application.service_options(budget=MemoryBudget(capacity=1, refill=1))

    response = await post(application, "{ hello }")

    assert response.status_code == 500
    assert codes(response) == ["INTERNAL_SERVER_ERROR"]
    assert application.state.open == 0


async def test_get_executes_queries() -> None:
    async with Application().client() as client:
        response = await client.get(
            "/graphql",
            params={
                "query": "query Q($n: String!) { hello(name: $n) }",
                "variables": '{"n":"Ada"}',
                "operationName": "",
            },
        )

    assert response.status_code == 200
    assert response.json()["data"] == {"hello": "hello Ada"}
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_mutation_by_get_is_405_and_changes_nothing(method: str) -> None:
    application = Application()
    async with application.client() as client:
        response = await client.request(method, "/graphql", params={"query": "mutation { write }"})

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert not application.state.resolved


async def test_a_mutation_is_not_chosen_by_get_from_a_document_with_a_query() -> None:
    application = Application()
    query = "query Q { hello } mutation M { write }"
    async with application.client() as client:
        refused = await client.get("/graphql", params={"query": query, "operationName": "M"})
        answered = await client.get("/graphql", params={"query": query, "operationName": "Q"})

    assert (refused.status_code, answered.status_code) == (405, 200)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "QUERY"])
async def test_other_methods_are_405(method: str) -> None:
    async with Application().client() as client:
        response = await client.request(method, "/graphql")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
    assert codes(response) == ["BAD_REQUEST"]


async def test_head_is_get_without_a_body() -> None:
    async with Application().client() as client:
        get = await client.get("/graphql", params={"query": "{ hello }"})
        head = await client.head("/graphql", params={"query": "{ hello }"})

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_a_browser_gets_the_page() -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    async with Application().client() as client:
        response = await client.get("/graphql", headers={"accept": accept})

    assert response.text == "<h1>GraphiQL</h1>"
    assert response.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "text/plain; application/json",
        "application/json, text/plain",
        "application/json; charset=latin-1",
        "application/json; charset",
    ],
)
async def test_other_content_types_are_415(content_type: str | None) -> None:
    application = Application()
    headers = {"content-type": content_type} if content_type else {}
    async with application.client() as client:
        response = await client.post("/graphql", content=b'{"query":"mutation { write }"}', headers=headers)

    assert response.status_code == 415
    assert not application.state.resolved


@pytest.mark.parametrize("content_type", [OLD, "application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"'])
async def test_json_in_utf_8_is_taken(content_type: str) -> None:
    async with Application().client() as client:
        response = await client.post(
            "/graphql",
            content='{"query":"{ hello(name: \\"Zoë\\") }"}'.encode(),
            headers={"content-type": content_type},
        )

    assert response.json()["data"] == {"hello": "hello Zoë"}


async def test_a_compressed_request_is_415() -> None:
    async with Application().client() as client:
        response = await client.post(
            "/graphql",
            content=gzip.compress(b'{"query":"{ hello }"}'),
            headers={"content-type": OLD, "content-encoding": "gzip"},
        )

    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"


async def test_an_application_without_a_page_answers_browsers_in_json() -> None:
    application = Application()
    application.page = lambda request: None  # type: ignore[method-assign]
    async with application.client() as client:
        for accept, status in (("text/html, */*;q=0.8", 200), ("text/html", 406)):
            get = await client.get("/graphql", params={"query": "{ hello }"}, headers={"accept": accept})
            post = await client.post("/graphql", json={"query": "{ hello }"}, headers={"accept": accept})
            assert (get.status_code, post.status_code) == (status, status)


async def test_large_answers_are_compressed_for_those_who_take_it() -> None:
    async with Application().client() as client:
        for size, encodings, compressed in (
            (5_000, "gzip", True),
            (500_000, "br, gzip;q=0.5", True),
            (5_000, "gzip;q=0", False),
            (5_000, "identity", False),
            (10, "gzip", False),
        ):
            response = await client.post(
                "/graphql", json={"query": f"{{ big(size: {size}) }}"}, headers={"accept-encoding": encodings}
            )

            assert response.json()["data"] == {"big": "x" * size}
            assert ("content-encoding" in response.headers) == compressed
            assert "Accept-Encoding" in response.headers["vary"]


async def test_a_sane_request_id_is_kept_and_another_is_replaced() -> None:
    application = Application()
    async with application.client() as client:
        kept = await client.post("/graphql", json={"query": "{ hello }"}, headers={"x-request-id": "abc-1.2_3"})
        replaced = await client.post("/graphql", json={"query": "{ hello }"}, headers={"x-request-id": "a b<script>"})
        long = await client.post("/graphql", json={"query": "{ hello }"}, headers={"x-request-id": "a" * 200})

    assert kept.headers["x-request-id"] == "abc-1.2_3"
    ids = [record.request_id for record in application.state.records]
    assert ids == [response.headers["x-request-id"] for response in (kept, replaced, long)]
    assert len(set(ids)) == 3
    assert " " not in ids[1]


async def test_pages_of_allowed_origins_may_read_answers() -> None:
    application = Application(allowed_origins=frozenset({"https://app.example"}))
    async with application.client() as client:
        for origin, allowed in (("https://app.example", True), ("https://evil.example", False), ("null", False)):
            preflight = await client.options(
                "/graphql",
                headers={"origin": origin, "access-control-request-method": "POST"},
            )
            answer = await client.post("/graphql", json={"query": "{ hello }"}, headers={"origin": origin})

            assert preflight.status_code == 204
            for response in (preflight, answer):
                assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
                assert "Origin" in response.headers["vary"]
            assert ("access-control-allow-methods" in preflight.headers) == allowed


async def test_pages_of_allowed_origins_may_send_every_header_they_ask_for() -> None:
    application = Application(allowed_origins=frozenset({"https://app.example"}))
    asked = "apollo-require-preflight,authorization,content-type,x-my-trace"
    async with application.client() as client:
        allowed, foreign = [
            await client.options(
                "/graphql",
                headers={
                    "origin": origin,
                    "access-control-request-method": "POST",
                    "access-control-request-headers": asked,
                },
            )
            for origin in ("https://app.example", "https://evil.example")
        ]

    assert allowed.headers["access-control-allow-headers"] == asked
    assert "Access-Control-Request-Headers" in allowed.headers["vary"]
    assert "access-control-allow-headers" not in foreign.headers


@pytest.mark.parametrize("accept", ["", " ", ",", ", ,", "\t,"])
async def test_an_empty_accept_is_as_none(accept: str) -> None:
    async with Application().client() as client:
        response = await client.post("/graphql", json={"query": "{ hello }"}, headers={"accept": accept})

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(f"{OLD};")


async def test_a_body_may_begin_with_a_byte_order_mark() -> None:
    async with Application().client() as client:
        body = b"\xef\xbb\xbf" + b'{"query": "{ hello }"}'
        response = await client.post("/graphql", content=body, headers={"content-type": OLD})
        twice = await client.post("/graphql", content=b"\xef\xbb\xbf" + body, headers={"content-type": OLD})

    assert response.json()["data"]["hello"]
    assert twice.status_code == 400


async def test_a_body_over_the_limit_is_413() -> None:
    application = Application(max_body=1000)

    async def chunks() -> Any:
        for _ in range(5):
            yield b"x" * 400

    async with application.client() as client:
        declared = await client.post("/graphql", content=b"x" * 1001, headers={"content-type": OLD})
        streamed = await client.post("/graphql", content=chunks(), headers={"content-type": OLD})
        url = await client.get("/graphql", params={"query": "x" * 1001})

    assert (declared.status_code, streamed.status_code, url.status_code) == (413, 413, 414)


async def test_an_operation_that_takes_too_long_is_stopped() -> None:
    application = Application(timeout=0.05)

    query = await post(application, "{ slow }")
    mutation = await post(application, "mutation { slowWrite }")

    assert (query.status_code, mutation.status_code) == (504, 504)
    assert codes(query) == ["TIMEOUT"]
    assert "not known" in mutation.json()["errors"][0]["message"]
    assert application.state.cancelled == 1
    assert application.state.open == 0
    assert application.state.records[0].stopped == "timeout"


async def test_an_operation_that_is_nearly_too_slow_is_answered() -> None:
    response = await post(Application(timeout=5), "{ slow(seconds: 0.05) }")

    assert response.json()["data"] == {"slow": "awake"}


async def test_every_operation_is_observed_once() -> None:
    application = Application()
    await post(application, "query Name { hello }", operationName="Name")
    await post(application, "{ nothing }")

    executed, refused = application.state.records
    assert (executed.name, executed.kind, executed.status, executed.transport) == ("Name", "query", 200, "http")
    assert executed.cost == 1
    assert executed.bytes > 20
    assert (refused.kind, refused.status, refused.codes) == (None, 422, ("GRAPHQL_VALIDATION_FAILED",))


async def test_limits_and_cost_refuse_before_the_application_is_asked() -> None:
    application = Application(Limits(depth=5))
    deep = await post(application, "{ item(id: 1) { parent { parent { parent { parent { id } } } } } }")
    costly = await post(
        application, "{ items(first: 101) { nodes { items(first: 100) { totalCount nodes { id } } } } }"
    )

    assert (deep.status_code, codes(deep)) == (400, ["LIMIT_EXCEEDED"])
    assert (costly.status_code, codes(costly)) == (400, ["COST_LIMIT_EXCEEDED"])
    assert application.state.contexts == 0


async def test_operations_run_side_by_side() -> None:
    application = Application()
    answers = await asyncio.gather(*(post(application, f'{{ hello(name: "{n}") }}') for n in range(20)))

    assert [answer.json()["data"]["hello"] for answer in answers] == [f"hello {n}" for n in range(20)]


async def test_a_log_that_fails_does_not_break_the_answer() -> None:
    application = Application()
    application.observe = lambda context, record: 1 / 0  # type: ignore[method-assign, assignment]

    response = await post(application, "{ hello }")

    assert response.status_code == 200
    assert isinstance(application.state.reported[0], ZeroDivisionError)


async def test_a_failure_of_the_endpoint_itself_is_a_masked_500() -> None:
    application = Application()
    application.engine.documents = None  # type: ignore[assignment]

    response = await post(application, "{ hello }")

    assert response.status_code == 500
    assert codes(response) == ["INTERNAL_SERVER_ERROR"]
    assert len(application.state.reported) == 1


@pytest.mark.parametrize("name", ["cost", "explainCost", "explainStatements"])
async def test_the_endpoints_own_extensions_are_true_or_false(name: str) -> None:
    response = await post(Application(), "{ hello }", extensions={name: 1})

    assert response.status_code == 422


async def test_without_costs_there_is_nothing_to_explain() -> None:
    application = Application()
    application.service_options(costs=None)

    explained = await post(application, "{ hello }", extensions={"explainCost": True})
    answered = await post(application, "{ hello }")

    assert explained.status_code == 422
    assert "extensions" not in answered.json()


async def test_statements_are_told_to_those_who_ask_where_that_is_allowed() -> None:
    refused = await post(Application(), "{ hello }", extensions={"explainStatements": True})
    allowed = Application()
    allowed.service_options(explain_statements=True)
    told = await post(allowed, "{ hello }", extensions={"explainStatements": True})
    unasked = await post(allowed, "{ hello }")

    assert refused.status_code == 422
    assert told.json()["data"] == unasked.json()["data"]
    assert told.json()["extensions"]["statements"] == {"count": 0}
    assert "statements" not in unasked.json().get("extensions", {})


async def test_viewers_without_a_budget_pay_nothing() -> None:
    application = Application(budget=MemoryBudget(capacity=1, refill=0))
    application.budget_key = lambda context: None  # type: ignore[method-assign]

    for _ in range(3):
        response = await post(application, "{ hello }")
        assert response.status_code == 200
    assert "remaining" not in response.json()["extensions"]["cost"]
