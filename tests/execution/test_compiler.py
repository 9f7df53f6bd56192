"""What the compiler promises beyond the right answer: what is called how often, shared with whom, and kept how long."""

import asyncio
import gc
import linecache
import traceback
import weakref
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, cast
from uuid import UUID

import pytest
import strawberry
from graphql import GraphQLError, GraphQLResolveInfo, build_schema, execute, parse
from strawberry import Info, Maybe, Some

from graph.execution.compiling.source import Source
from graph.execution.errors import RequestError
from graph.execution.preparing.documents import MAX_PLANS, Documents, Operation
from graph.execution.running.engine import Engine, Result
from graph.execution.running.executor import CompiledExecutor
from graph.execution.values import is_row, position_of
from tests.execution.everything import Item

pytestmark = pytest.mark.anyio


@dataclass
class Context:
    operation: Operation | None = None
    infos: list[Any] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)


asked: list[type] = []


def by_class(function: Any) -> Any:
    function.by_class = True
    return function


@strawberry.interface
class Node:
    id: int

    @classmethod
    @by_class
    def resolve_type(cls, obj: Any, info: GraphQLResolveInfo[Any], abstract: Any) -> str:
        asked.append(type(obj))
        return "Thing"


class Row(tuple[Any, ...]):
    __slots__ = ()
    __row__ = ""
    __items__ = {"id": Item(0), "title": Item(1)}
    __views__: dict[str, type] = {}
    id = property(itemgetter(0))
    title = property(itemgetter(1))


@strawberry.input
class Filter:
    words: list[str]
    size: Maybe[int | None]
    inner: "Filter | None" = None


@strawberry.type
class Thing(Node):
    title: str

    @classmethod
    @by_class
    def is_type_of(cls, obj: Any, info: GraphQLResolveInfo[Any]) -> bool:
        asked.append(type(obj))
        return True

    @strawberry.field
    def path(self, info: Info[Context, None]) -> str:
        info.context.infos.append(info)
        return ".".join(map(str, info.path.as_list()))

    @strawberry.field
    def filtered(self, info: Info[Context, None], filter: Filter, words: list[str] | None = None) -> int:
        info.context.seen.append((filter, words))
        filter.words.append("changed")
        if filter.inner:
            filter.inner.words.append("changed")
        if words is not None:
            words.append("changed")
        return len(filter.words)


@strawberry.type
class Query:
    @strawberry.field
    def rows(self) -> list[Thing]:
        return [Row((n, f"row {n}")) for n in range(1000)]  # type: ignore[misc]

    @strawberry.field
    def things(self) -> list[Thing]:
        return [Thing(id=n, title=str(n)) for n in range(3)]

    @strawberry.field
    def nodes(self) -> list[Node]:
        return [Row((n, "")) for n in range(1000)]  # type: ignore[misc]

    @strawberry.field
    def refused(self) -> int | None:
        raise RequestError("Not today", "NOT_TODAY")

    @strawberry.field
    async def refused_later(self) -> int | None:
        try:
            raise ValueError("the reason")
        except ValueError as error:
            raise RequestError("Not today", "NOT_TODAY") from error


SCHEMA = strawberry.Schema(Query, types=[Thing])


@pytest.fixture
def engine() -> Engine:
    def report(error: GraphQLError, cause: BaseException) -> str:
        raise cause

    return Engine(SCHEMA, documents=Documents(SCHEMA._schema), classify=lambda _: None, report=report)


async def run(engine: Engine, text: str, variables: dict[str, Any] | None = None, context: Any = None) -> Result:
    document = engine.documents.get(text)
    assert not document.errors
    return await engine.execute(document.operation(None), variables, context or Context())


async def test_the_type_of_rows_is_asked_once_for_each_class(engine: Engine) -> None:
    asked.clear()
    result = await run(engine, "{ rows { id title } nodes { id __typename } }")
    assert len(result.data["rows"]) == len(result.data["nodes"]) == 1000
    assert len(asked) <= 3


async def test_info_has_the_path_of_each_object(engine: Engine) -> None:
    result = await run(engine, "{ things { here: path } }")
    assert [thing["here"] for thing in result.data["things"]] == ["things.0.here", "things.1.here", "things.2.here"]


async def test_infos_that_were_kept_do_not_change(engine: Engine) -> None:
    context = Context()
    await run(engine, "{ things { path } }", context=context)
    assert [info.path.as_list()[1] for info in context.infos] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ('{ things { filtered(filter: {words: ["a"], size: null, inner: {words: []}}, words: ["b"]) } }', None),
        (
            "query($f: Filter!, $w: [String!]) { things { filtered(filter: $f, words: $w) } }",
            {"f": {"words": ["a"], "size": None, "inner": {"words": []}}, "w": ["b"]},
        ),
        (
            'query($f: Filter! = {words: ["a"], size: null, inner: {words: []}}) '
            '{ things { filtered(filter: $f, words: ["b"]) } }',
            None,
        ),
    ],
    ids=["literals", "variables", "defaults"],
)
async def test_a_resolver_may_change_its_arguments(engine: Engine, text: str, variables: dict[str, Any] | None) -> None:
    context = Context()
    for _ in range(2):
        result = await run(engine, text, variables, context)
        assert [thing["filtered"] for thing in result.data["things"]] == [2, 2, 2]
    assert len(context.seen) == 6
    for filter, words in context.seen:
        assert filter.words == ["a", "changed"]
        assert filter.inner.words == ["changed"]
        assert filter.inner.size is None
        assert filter.size == strawberry.Some(None)
        assert words == ["b", "changed"]
    if variables:
        assert variables["f"]["words"] == ["a"]


async def test_an_operation_is_compiled_once_for_each_use_of_its_conditions(engine: Engine) -> None:
    text = "query($a: Boolean!, $b: Boolean = true) { things { id @skip(if: $a) title @include(if: $b) } }"
    for a in (True, False, True):
        result = await run(engine, text, {"a": a})
        assert ("id" in result.data["things"][0]) is not a
    assert len(engine.documents.get(text).operation(None).memo["plans"]) == 2


async def test_plans_of_an_operation_are_bounded(engine: Engine) -> None:
    names = [f"v{n}" for n in range(6)]
    declared = ", ".join(f"${name}: Boolean!" for name in names)
    text = f"query({declared}) {{ __typename {' '.join(f'{n}: __typename @skip(if: ${n})' for n in names)} }}"
    for number in range(64):
        variables = {name: bool(number >> place & 1) for place, name in enumerate(names)}
        result = await run(engine, text, variables)
        assert len(result.data) == 1 + sum(not value for value in variables.values())
    assert len(engine.documents.get(text).operation(None).memo["plans"]) <= MAX_PLANS


async def test_an_operation_that_is_too_large_to_compile_is_answered(engine: Engine) -> None:
    text = "{ things { " + " ".join(f"a{n}: id" for n in range(6000)) + " } }"
    result = await run(engine, text)
    assert len(result.data["things"][0]) == 6000
    assert list(engine.documents.get(text).operation(None).memo["plans"].values()) == [None]


WITH_VARIABLES = """
query($word: String!, $size: Int) {
  things { filtered(filter: {words: ["a", $word], size: $size, inner: {words: [$word]}}) }
}
"""


async def test_arguments_hold_the_variables_of_their_own_request(engine: Engine) -> None:
    for word, size in (("b", 1), ("c", 2), ("d", None), ("e", 3)):
        context = Context()
        result = await run(engine, WITH_VARIABLES, {"word": word, "size": size}, context)
        assert [thing["filtered"] for thing in result.data["things"]] == [3, 3, 3]
        assert len(context.seen) == 3
        for filter, _ in context.seen:
            assert filter.words == ["a", word, "changed"]
            assert filter.inner.words == [word, "changed"]
            assert filter.size == Some(size)


async def test_an_absent_variable_leaves_the_argument_out(engine: Engine) -> None:
    for _ in range(2):
        await run(engine, WITH_VARIABLES, {"word": "b", "size": 1})
    context = Context()
    await run(engine, WITH_VARIABLES, {"word": "b"}, context)
    assert context.seen[0][0].size is None


@pytest.mark.parametrize(
    "text", ["{ things { filtered(filter: {words: []}) } rows { id } }", "{ refused }", "{ refusedLater refused }"]
)
async def test_a_request_leaves_nothing_to_the_garbage_collector(engine: Engine, text: str) -> None:
    gc.collect()
    gc.disable()
    try:
        context = Context()
        await engine.execute(engine.documents.get(text).operation(None), None, context)
        gone = weakref.ref(context)
        del context
        assert gone() is None
    finally:
        gc.enable()


def test_attributes_that_are_items_are_read_by_position() -> None:
    assert position_of(Row, "title") == 1


def test_other_attributes_are_read_as_attributes() -> None:
    assert position_of(Row, "count") is None
    assert position_of(NoteRow, "id") is None  # the row has its text


def test_other_classes_are_no_rows() -> None:
    assert is_row(Row)
    assert not is_row(Thing)
    assert not is_row(type("Other", (tuple,), {"a": property(itemgetter(0))}))


class NoteRow(tuple[Any, ...]):
    __slots__ = ()
    __row__ = ""
    __items__ = {"id": Item(0, UUID, frozenset({36}))}
    __views__: dict[str, type] = {}

    @property
    def id(self) -> UUID | None:
        return None if self[0] is None else UUID(self[0])


@strawberry.type
class Note:
    id: strawberry.ID | None


@strawberry.type
class NoteQuery:
    @strawberry.field
    def notes(self) -> list[Note]:
        return [NoteRow((text,)) for text in (str(UUID(int=1)), UUID(int=2).hex, None)] * 2  # type: ignore[return-value]  # rows stand for them


async def test_text_that_a_row_has_is_the_answer_when_it_has_the_form_of_one() -> None:
    schema = strawberry.Schema(NoteQuery)
    engine = Engine(schema, documents=Documents(schema._schema), classify=lambda _: None, report=lambda *_: "")
    result = await run(engine, "{ notes { id } }")
    assert [note["id"] for note in result.data["notes"][:3]] == [str(UUID(int=1)), str(UUID(int=2)), None]


async def test_it_runs_as_an_execution_context_class_of_strawberry() -> None:
    schema = strawberry.Schema(Query, types=[Thing], execution_context_class=CompiledExecutor)
    result = await schema.execute("{ things { id path } }", context_value=Context())
    assert not result.errors
    assert result.data is not None
    assert result.data["things"][1] == {"id": 1, "path": "things.1.path"}


async def test_it_runs_as_an_executor_class_of_graphql_core() -> None:
    schema = build_schema("type Query { a: Int, b: [Int!]! }")
    result: Any = execute(schema, parse("{ a b }"), {"a": 1, "b": [2, 3]}, executor_class=CompiledExecutor)
    assert result.data == {"a": 1, "b": [2, 3]}


async def test_many_operations_run_at_the_same_time(engine: Engine) -> None:
    texts = ["{ things { path filtered(filter: {words: []}) } }", "{ rows { id } }", "{ nodes { id } }"] * 5
    results = await asyncio.gather(*(run(engine, text) for text in texts))
    assert [list(result.data) for result in results] == [["things"], ["rows"], ["nodes"]] * 5


@strawberry.type
class Owner:
    name: str


@strawberry.type
class Owned:
    @strawberry.field(metadata={"carried": "owner_row"})
    def owner(self) -> Owner:
        asked.append(Owned)
        return Owner(name="resolved")


@strawberry.type
class OwnedQuery:
    @strawberry.field
    def owned(self) -> list[Owned]:
        brings, lacks = Owned(), Owned()
        brings.owner_row = Owner(name="brought along")  # type: ignore[attr-defined]
        return [brings, lacks]


async def test_what_an_object_brings_along_needs_no_resolver() -> None:
    asked.clear()
    schema = strawberry.Schema(OwnedQuery)
    engine = Engine(schema, documents=Documents(schema._schema), classify=lambda _: None, report=lambda *_: "")
    result = await run(engine, "{ owned { owner { name } } }")
    assert [one["owner"]["name"] for one in result.data["owned"]] == ["brought along", "resolved"]
    assert asked == [Owned]


def test_generated_code_shows_its_lines_as_long_as_it_lives() -> None:
    source = Source(cast("Any", None))
    function = source._compiled("def f(o):\n return o.no_such_attribute")
    with pytest.raises(AttributeError) as caught:
        function(object())
    name = function.__code__.co_filename
    shown = traceback.format_exception(caught.value)
    del function, caught, source
    gc.collect()

    assert "    return o.no_such_attribute\n" in shown[-2]
    assert name not in linecache.cache
