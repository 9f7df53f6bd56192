"""Waiting for resolvers: batches of a level, cancellation below a null, and what happens when somebody gives up."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError
from strawberry import Info

from graph.execution.preparing.documents import Documents
from graph.execution.running.engine import Engine, Result
from tests.execution.cancelled import until_cancelled
from tests.execution.everything import Loader

pytestmark = pytest.mark.anyio


@dataclass
class Context:
    loader: Loader = field(default_factory=Loader)
    events: list[str] = field(default_factory=list)
    forever: list["asyncio.Future[Any]"] = field(default_factory=list)


def settled(after: float, outcome: Exception | None) -> "asyncio.Future[Any]":
    """A future that fails or becomes null after some seconds."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle() -> None:
        if future.done():
            return
        if outcome is None:
            future.set_result(None)
        else:
            future.set_exception(outcome)

    loop.call_later(after, settle)
    return future


@strawberry.type
class Item:
    n: int

    @strawberry.field
    def next(self, info: Info[Context, None]) -> "Item":
        return info.context.loader.load(self)  # type: ignore[return-value]  # awaited by the executor

    @strawberry.field
    async def next_later(self, info: Info[Context, None]) -> "Item":
        return await info.context.loader.load(self)  # type: ignore[no-any-return]

    @strawberry.field
    def maybe_next(self, info: Info[Context, None], broken_from: int = 100) -> "Item | None":
        key: Any = "broken" if self.n >= broken_from else self
        return info.context.loader.load(key)  # type: ignore[return-value]

    @strawberry.field
    async def forever(self, info: Info[Context, None]) -> int | None:
        await until_cancelled(info.context.events)

    @strawberry.field
    def forever_future(self, info: Info[Context, None]) -> int | None:
        future = asyncio.get_running_loop().create_future()
        info.context.forever.append(future)
        return future  # type: ignore[return-value]

    @strawberry.field
    async def boom(self, after: float = 0) -> int:
        await asyncio.sleep(after)
        raise ValueError("boom")

    @strawberry.field
    def boom_now(self) -> int:
        raise ValueError("boom")

    @strawberry.field
    def boom_future(self, after: float = 0) -> int:
        return settled(after, ValueError("boom"))  # type: ignore[return-value]

    @strawberry.field
    def null_future(self, after: float = 0) -> "Item":
        return settled(after, None)  # type: ignore[return-value]

    @strawberry.field
    async def quick(self, info: Info[Context, None]) -> int | None:
        await asyncio.sleep(0)
        info.context.events.append("quick")
        return 1


@strawberry.type
class Query:
    @strawberry.field
    def items(self, n: int = 5) -> list[Item]:
        return [Item(n=place) for place in range(n)]

    @strawberry.field
    def item(self) -> Item | None:
        return Item(n=1)

    @strawberry.field
    async def late_item(self) -> Item | None:
        await asyncio.sleep(0)
        return Item(n=1)


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def boom(self) -> int | None:
        raise ValueError

    @strawberry.mutation
    async def item(self) -> Item | None:
        return Item(n=1)


SCHEMA = strawberry.Schema(Query, Mutation)
Ask = Callable[..., Awaitable[Result]]


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture(params=[True, False], ids=["compiled", "stock"])
def ask(request: pytest.FixtureRequest, context: Context) -> Ask:
    def report(error: GraphQLError, cause: BaseException) -> str:
        return "id"

    documents = Documents(SCHEMA._schema)
    engine = Engine(SCHEMA, documents=documents, classify=lambda _: None, report=report, compiled=request.param)

    async def ask(text: str) -> Result:
        operation = documents.get(text).operation(None)
        return await asyncio.wait_for(engine.execute(operation, None, context), 2)

    return ask


@pytest.mark.parametrize("field", ["next", "nextLater", "maybeNext"])
async def test_each_level_is_one_batch(ask: Ask, context: Context, field: str) -> None:
    result = await ask(f"{{ items {{ {field} {{ n {field} {{ {field} {{ n }} }} }} }} }}")
    assert not result.errors
    assert [len(batch) for batch in context.loader.batches] == [5, 5, 5]


async def test_a_batch_that_fails_for_some_fails_for_these_only(ask: Ask) -> None:
    result = await ask("{ items { maybeNext(brokenFrom: 3) { n } } }")
    assert [item["maybeNext"] for item in result.data["items"]] == [{"n": 0}, {"n": 1}, {"n": 2}, None, None]
    assert [error.path for error in result.errors] == [["items", 3, "maybeNext"], ["items", 4, "maybeNext"]]


@pytest.mark.parametrize("boom", ["boom", "boom(after: 0.01)", "boomFuture", "boomFuture(after: 0.01)"])
@pytest.mark.parametrize("item", ["item", "lateItem"])
async def test_siblings_of_a_non_null_error_are_cancelled_and_cleaned_up(
    ask: Ask, context: Context, item: str, boom: str
) -> None:
    result = await ask(f"{{ {item} {{ forever {boom} }} }}")
    assert result.data == {item: None}
    assert [error.path for error in result.errors] == [[item, boom.partition("(")[0]]]
    assert context.events == ["cancelled", "cleaned up"]


@pytest.mark.parametrize("boom", ["boom", "boomFuture(after: 0.005)", "nullFuture(after: 0.005) { n }"])
async def test_a_future_that_never_ends_is_cancelled_below_a_null(ask: Ask, context: Context, boom: str) -> None:
    result = await ask(f"{{ item {{ foreverFuture {boom} }} }}")
    assert result.data == {"item": None}
    assert context.forever[0].cancelled()


async def test_an_error_deep_below_a_slow_group_is_noticed(ask: Ask, context: Context) -> None:
    """The second item's child fails while the first item's future never ends; both are of one group."""
    result = await ask("{ items(n: 2) { foreverFuture next { boomNow } } }")
    assert result.data is None
    assert [future.cancelled() for future in context.forever] == [True, True]


async def test_a_null_at_the_root_cancels_everything(ask: Ask, context: Context) -> None:
    result = await ask("{ a: item { forever } items(n: 1) { boom(after: 0.005) } b: lateItem { forever } }")
    assert result.data is None
    assert context.events.count("cleaned up") == 2


async def test_siblings_outside_of_the_null_are_completed(ask: Ask, context: Context) -> None:
    result = await ask("{ item { forever boom } late: lateItem { n quick } }")
    assert result.data == {"item": None, "late": {"n": 1, "quick": 1}}


async def test_what_a_synchronous_error_leaves_behind_goes_on_unnoticed(ask: Ask, context: Context) -> None:
    result = await ask("{ item { quick boomNow } }")
    assert result.data == {"item": None}
    for _ in range(5):
        await asyncio.sleep(0)
    assert context.events == ["quick"]


async def test_a_request_that_is_given_up_cancels_its_resolvers(ask: Ask, context: Context) -> None:
    task = asyncio.ensure_future(ask("{ item { forever foreverFuture } items(n: 3) { forever } }"))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert context.events.count("cancelled") == 4
    assert context.forever[0].cancelled()


async def test_an_error_in_one_mutation_leaves_the_next(ask: Ask) -> None:
    result = await ask("mutation { boom item { n next { n } } }")
    assert result.data == {"boom": None, "item": {"n": 1, "next": {"n": 1}}}


async def test_nothing_complains_after_nulls_and_cancellation(ask: Ask) -> None:
    """Neither coroutines that were never awaited nor exceptions that nobody retrieved."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    for text in (
        "{ item { forever boom } items { boom boomFuture quick } }",
        "{ items { boomNow quick forever } }",
        "{ item { next { boomNow quick } maybeNext { boom next { n } } } }",
    ):
        await ask(text)
    await asyncio.sleep(0.01)
    gc.collect()
    assert complaints == []
