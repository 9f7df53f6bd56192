import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError
from strawberry import Info
from strawberry.scalars import JSON

from graph.execution.errors import RequestError
from graph.execution.preparing.documents import Documents, Operation
from graph.execution.preparing.lookahead import selected
from graph.execution.running.engine import Engine, Result

pytestmark = pytest.mark.anyio


class KnownError(Exception):
    pass


@dataclass
class Context:
    operation: Operation | None = None
    looked: list[frozenset[str]] = field(default_factory=list)
    closed: int = 0


@strawberry.type
class Leaf:
    name: str
    size: int | None = None

    @strawberry.field
    def self(self) -> "Leaf":
        return self


@strawberry.input
class Change:
    name: strawberry.Maybe[str | None]
    size: strawberry.Maybe[int]


@strawberry.type
class Query:
    @strawberry.field
    def leaf(self, info: Info[Context, None], name: str = "leaf") -> Leaf | None:
        info.context.looked.append(selected(info))
        info.context.looked.append(selected(info, "self"))
        return Leaf(name=name)

    @strawberry.field
    async def bug(self) -> int | None:
        raise ValueError("secret")

    @strawberry.field
    def known(self) -> int | None:
        raise KnownError

    @strawberry.field
    def refused(self) -> int | None:
        raise RequestError("No more", "RATE_LIMITED", status=429, resets=3)

    @strawberry.field
    def broken(self) -> int:
        return None  # type: ignore[return-value]

    @strawberry.field
    def change(self, change: Change) -> str:
        return repr((change.name, change.size))

    @strawberry.field
    def weird(self) -> JSON | None:
        return JSON({"big": 2**70, "lone": "\ud800", 5: 1.5})

    @strawberry.field
    def impossible(self) -> JSON | None:
        return JSON({"value": object()})


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def add(self, text: str) -> list[str]:
        order.append(text)
        await asyncio.sleep(0)
        order.append(text)
        return list(order)


order: list[str] = []


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: Info[Context, None], to: int, fail: bool = False) -> AsyncIterator[Leaf]:
        for number in range(to):
            yield Leaf(name=str(number))
        if fail:
            raise KnownError

    @strawberry.subscription
    async def closed(self) -> AsyncIterator[int]:
        raise KnownError
        yield 1


Make = Callable[..., Engine]


@pytest.fixture
def reports() -> list[BaseException]:
    return []


@pytest.fixture(params=[False, True], ids=["stock", "compiled"])
def engine(request: pytest.FixtureRequest, reports: list[BaseException]) -> Engine:
    def classify(error: BaseException) -> GraphQLError | None:
        return GraphQLError("Known", extensions={"code": "KNOWN"}) if isinstance(error, KnownError) else None

    def report(error: GraphQLError, cause: BaseException) -> str:
        reports.append(cause)
        return f"id-{len(reports)}"

    schema = strawberry.Schema(Query, Mutation, Subscription)
    documents = Documents(schema._schema, max_count=10, max_bytes=1_000_000)
    return Engine(schema, documents=documents, classify=classify, report=report, compiled=request.param)


async def run(engine: Engine, text: str, variables: dict[str, Any] | None = None, **options: Any) -> Any:
    document = engine.documents.get(text)
    assert not document.errors, document.errors
    context = options.pop("context", None) or Context()
    return json.loads(engine.encode(await engine.execute(document.operation(None), variables, context, **options)))


async def test_a_query_answers_with_data_only(engine: Engine) -> None:
    assert await run(engine, '{ leaf(name: "x") { name size } }') == {"data": {"leaf": {"name": "x", "size": None}}}


async def test_the_context_knows_the_operation_that_runs(engine: Engine) -> None:
    context = Context()
    await run(engine, "query Mine { leaf { name } }", context=context)
    assert context.operation is not None
    assert context.operation.name == "Mine"


async def test_lookahead_sees_through_fragments_and_aliases(engine: Engine) -> None:
    context = Context()
    text = "{ a: leaf { ...F self { ...F ... on Leaf { x: size } } } } fragment F on Leaf { name }"
    await run(engine, text, context=context)
    assert context.looked == [{"name", "self"}, {"name", "size"}]


async def test_lookahead_is_remembered_in_the_operation(engine: Engine) -> None:
    context = Context()
    await run(engine, "{ leaf { name } }", context=context)
    await run(engine, "{ leaf { name } }", context=context)
    assert context.looked[0] is context.looked[2]


async def test_a_bug_is_masked_and_reported(engine: Engine, reports: list[BaseException]) -> None:
    answer = await run(engine, "{ bug }")
    (error,) = answer["errors"]
    assert error["message"] == "Internal server error"
    assert error["extensions"] == {"code": "INTERNAL_SERVER_ERROR", "id": "id-1"}
    assert error["path"] == ["bug"]
    assert isinstance(reports[0], ValueError)


async def test_null_where_the_schema_forbids_it_is_a_bug(engine: Engine, reports: list[BaseException]) -> None:
    answer = await run(engine, "{ broken }")
    assert answer["data"] is None
    assert answer["errors"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert len(reports) == 1


async def test_a_classified_error_shows_what_the_application_says(engine: Engine) -> None:
    answer = await run(engine, "{ known }")
    assert answer["errors"] == [
        {
            "message": "Known",
            "locations": [{"line": 1, "column": 3}],
            "path": ["known"],
            "extensions": {"code": "KNOWN"},
        }
    ]


async def test_a_request_error_is_shown_as_it_is(engine: Engine) -> None:
    (error,) = (await run(engine, "{ refused }"))["errors"]
    assert (error["message"], error["extensions"]) == ("No more", {"code": "RATE_LIMITED", "resets": 3})


async def test_an_error_repeats_little_of_what_was_sent(engine: Engine) -> None:
    operation = engine.documents.get("query($c: Change!) { change(change: $c) }").operation(None)
    result = await engine.execute(operation, {"c": {"x" * 100_000: 1}}, Context())
    answer = json.loads(engine.encode(result))

    assert answer["errors"]
    assert all(len(error["message"]) <= 1_000 for error in answer["errors"])
    assert any(error["message"].endswith("x…") for error in answer["errors"])


async def test_a_wrong_variable_refuses_the_operation_before_it_runs(engine: Engine) -> None:
    operation = engine.documents.get("query($n: String!) { leaf(name: $n) { name } }").operation(None)
    result = await engine.execute(operation, {"n": 1}, Context())
    assert not result.executed
    assert result.errors[0].extensions == {"code": "BAD_USER_INPUT"}
    assert "data" not in json.loads(engine.encode(result))


async def test_an_argument_whose_variable_is_missing_is_bad_input(engine: Engine) -> None:
    answer = await run(engine, "query($c: Change!) { change(change: $c) }", {"c": {"size": None}})
    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_absent_and_null_are_different_inputs(engine: Engine) -> None:
    answer = await run(engine, "query($c: Change!) { change(change: $c) }", {"c": {"name": None}})
    assert answer["data"]["change"] == "(Some(None), None)"


async def test_values_that_orjson_refuses_are_written_all_the_same(engine: Engine) -> None:
    answer = await run(engine, "{ weird }")
    assert answer["data"]["weird"] == {"big": 2**70, "lone": "\ud800", "5": 1.5}


async def test_a_value_without_a_json_form_is_reported(engine: Engine, reports: list[BaseException]) -> None:
    answer = await run(engine, "{ impossible }")
    assert answer["data"] is None
    assert answer["errors"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
    assert isinstance(reports[0], TypeError)


async def test_mutations_run_one_after_another(engine: Engine) -> None:
    order.clear()
    answer = await run(engine, 'mutation { a: add(text: "a") b: add(text: "b") }')
    assert answer["data"] == {"a": ["a", "a"], "b": ["a", "a", "b", "b"]}


async def subscribe(engine: Engine, text: str, contexts: list[Context] | None = None) -> list[Result]:
    @asynccontextmanager
    async def context() -> AsyncIterator[Context]:
        made = Context()
        if contexts is not None:
            contexts.append(made)
        yield made
        made.closed += 1

    operation = engine.documents.get(text).operation(None)
    return [result async for result in engine.subscribe(operation, None, context)]


async def test_each_event_of_a_subscription_is_executed_in_its_own_context(engine: Engine) -> None:
    contexts: list[Context] = []
    results = await subscribe(engine, "subscription { count(to: 2) { name } }", contexts)
    assert [result.data for result in results] == [{"count": {"name": "0"}}, {"count": {"name": "1"}}]
    assert [context.closed for context in contexts] == [1, 1, 1]


async def test_a_source_that_breaks_ends_with_an_error(engine: Engine) -> None:
    *_, last = await subscribe(engine, "subscription { count(to: 1, fail: true) { name } }")
    assert last.executed
    assert last.errors[0].message == "Known"


async def test_an_event_with_a_bad_argument_is_not_executed(engine: Engine) -> None:
    operation = engine.documents.get("subscription($n: Int!) { count(to: $n) { name } }").operation(None)

    @asynccontextmanager
    async def context() -> AsyncIterator[Context]:
        yield Context()

    (result,) = [result async for result in engine.subscribe(operation, {"n": "x"}, context)]
    assert not result.executed
