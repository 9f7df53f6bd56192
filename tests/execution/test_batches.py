"""Fields that are resolved for many objects at once: when they are, and what becomes of them when others fail."""

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

pytestmark = pytest.mark.anyio


@dataclass
class Context:
    alone: list[int] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def next_of(items: list["Item"], info: Info[Context, None], by: int) -> Any:
    info.context.batches.append([item.n for item in items])
    info.context.events.append(".".join(map(str, info.path.as_list())))

    async def answer() -> list[Item]:
        await asyncio.sleep(0)
        return [Item(n=item.n + by) for item in items]

    return answer()


async def forever_of(items: list["Item"], info: Info[Context, None]) -> list[int]:
    await until_cancelled(info.context.events)


async def later_of(items: list["Item"]) -> list[int]:
    await asyncio.sleep(0.01)
    return [item.n for item in items]


async def too_few_of(items: list["Item"]) -> list[int]:
    return [1]


@strawberry.type
class Item:
    n: int

    @strawberry.field(metadata={"batch": next_of})
    def next(self, info: Info[Context, None], by: int = 10) -> "Item":
        info.context.alone.append(self.n)
        return Item(n=self.n + by)

    @strawberry.field(metadata={"batch": forever_of})
    def forever(self, info: Info[Context, None]) -> int | None:
        raise AssertionError("not called for one")

    @strawberry.field(metadata={"batch": later_of})
    async def later(self) -> int:
        return self.n

    @strawberry.field(metadata={"batch": too_few_of})
    def too_few(self) -> int | None:
        return 1

    @strawberry.field
    def items(self) -> list["Item"]:
        return [Item(n=self.n * 10 + place) for place in range(2)]

    @strawberry.field
    async def boom(self, at: int = 0) -> int:
        if self.n != at:
            return self.n
        await asyncio.sleep(0)
        raise ValueError("boom")

    @strawberry.field
    def boom_now(self) -> int:
        raise ValueError("boom")


@strawberry.type
class Query:
    @strawberry.field
    def items(self, n: int = 3) -> list[Item]:
        return [Item(n=place) for place in range(n)]

    @strawberry.field
    def maybe_items(self) -> list[Item | None]:
        return [Item(n=0), None, Item(n=2)]

    @strawberry.field
    def item(self) -> Item | None:
        return Item(n=1)


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def items(self, info: Info[Context, None], name: str) -> list[Item]:
        info.context.events.append(name)
        return [Item(n=place) for place in range(2)]


SCHEMA = strawberry.Schema(Query, Mutation)
Ask = Callable[..., Awaitable[Result]]


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def ask(context: Context) -> Ask:
    def report(error: GraphQLError, cause: BaseException) -> str:
        return str(cause)

    documents = Documents(SCHEMA._schema)
    engine = Engine(SCHEMA, documents=documents, classify=lambda _: None, report=report)

    async def ask(text: str, **variables: Any) -> Result:
        document = documents.get(text)
        assert not document.errors
        return await asyncio.wait_for(engine.execute(document.operation(None), variables, context), 2)

    return ask


async def test_the_objects_of_a_level_are_one_batch(ask: Ask, context: Context) -> None:
    result = await ask("{ items { n next { n items { next { n } } } } }")

    assert result.data["items"][1] == {
        "n": 1,
        "next": {"n": 11, "items": [{"next": {"n": 120}}, {"next": {"n": 121}}]},
    }
    assert context.batches == [[0, 1, 2], [100, 101, 110, 111, 120, 121]]
    assert context.alone == []


async def test_other_arguments_are_another_batch(ask: Ask, context: Context) -> None:
    result = await ask("{ items { next { n } far: next(by: 100) { n } } }")

    assert result.data["items"][2] == {"next": {"n": 12}, "far": {"n": 102}}
    assert context.batches == [[0, 1, 2]] * 2


async def test_variables_decide_over_a_batch(ask: Ask, context: Context) -> None:
    text = "query($s: Boolean!, $by: Int!) { items { n next(by: $by) @skip(if: $s) { n } } }"
    assert (await ask(text, s=True, by=1)).data["items"][1] == {"n": 1}
    assert context.batches == []
    assert (await ask(text, s=False, by=5)).data["items"][1] == {"n": 1, "next": {"n": 6}}
    assert (await ask(text, s=False, by=6)).data["items"][1] == {"n": 1, "next": {"n": 7}}


async def test_a_single_object_has_its_resolver_called(ask: Ask, context: Context) -> None:
    result = await ask("{ item { next { n } } items(n: 1) { next { n } later } }")

    assert result.data == {"item": {"next": {"n": 11}}, "items": [{"next": {"n": 10}, "later": 0}]}
    assert (context.alone, context.batches) == ([1, 0], [])


async def test_the_info_of_a_batch_is_that_of_its_first_object(ask: Ask, context: Context) -> None:
    await ask("{ maybeItems { next { n } } }")
    assert context.events == ["maybeItems.0.next"]


async def test_objects_whose_siblings_fail_are_resolved_together(ask: Ask, context: Context) -> None:
    result = await ask("{ maybeItems { next { n } boom(at: 2) } }")

    assert result.data["maybeItems"] == [{"next": {"n": 10}, "boom": 0}, None, None]
    assert [error.path for error in result.errors] == [["maybeItems", 2, "boom"]]
    assert context.batches == [[0, 2]]


async def test_what_is_below_a_null_is_dropped_and_the_rest_completed(ask: Ask) -> None:
    result = await ask("{ maybeItems { later boom(at: 2) } }")

    assert result.data["maybeItems"] == [{"later": 0, "boom": 0}, None, None]


async def test_a_batch_is_cancelled_when_nobody_wants_it(ask: Ask, context: Context) -> None:
    result = await ask("{ item { items { forever boom(at: 10) } n } }")

    assert result.data == {"item": None}
    assert context.events == ["cancelled", "cleaned up"]


async def test_a_batch_is_not_begun_below_a_null(ask: Ask, context: Context) -> None:
    result = await ask("{ maybeItems { next { n } forever boomNow } }")

    assert result.data["maybeItems"] == [None, None, None]
    assert len(result.errors) == 2


async def test_too_few_values_are_the_error_of_each(ask: Ask) -> None:
    result = await ask("{ items { tooFew n } }")

    assert result.data["items"] == [{"tooFew": None, "n": n} for n in range(3)]
    assert [error.path for error in result.errors] == [["items", n, "tooFew"] for n in range(3)]


async def test_a_request_that_is_given_up_cancels_its_batches(ask: Ask, context: Context) -> None:
    for text in ("{ items { forever } }", "{ items { forever later } item { n } }"):
        context.events.clear()
        task = asyncio.ensure_future(ask(text))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert context.events == ["cancelled", "cleaned up"]


async def test_batches_of_a_mutation_are_done_before_the_next(ask: Ask, context: Context) -> None:
    result = await ask('mutation { items(name: "a") { next { n } } b: items(name: "b") { next { n } } }')

    assert result.data["b"] == [{"next": {"n": 10}}, {"next": {"n": 11}}]
    assert context.events == ["a", "items.0.next", "b", "b.0.next"]


async def test_nothing_complains_after_nulls_and_cancellation(ask: Ask) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    for text in (
        "{ items { forever boom(at: 1) } }",
        "{ items { boomNow forever next { n } } }",
        "{ maybeItems { next { boomNow forever } forever boom(at: 2) } }",
    ):
        assert (await ask(text)).errors
    await asyncio.sleep(0.01)
    gc.collect()
    assert complaints == []
