"""Arguments of a cached document are made anew for each request, whatever their classes do when they are made."""

import dataclasses
import itertools
import logging
from typing import Any

import pytest
import strawberry
from strawberry import relay

from graph.execution.compiling.arguments import inputs_of, is_plain_input
from graph.execution.preparing.documents import Documents
from graph.execution.running.engine import Engine
from tests.graph.samples import SCHEMA as REAL

pytestmark = pytest.mark.anyio

SEEN: list[str] = []
NUMBERS = itertools.count()


@strawberry.input
class Plain:
    text: str
    words: strawberry.Private[list[str]] = dataclasses.field(default_factory=list)


@strawberry.input
class Initialised:
    text: str

    def __init__(self, text: Any) -> None:
        SEEN.append(type(text).__name__)
        self.text = text.upper()


@strawberry.input
class Derived(Initialised):
    def __init__(self, text: Any) -> None:
        super().__init__(text)


@strawberry.input
class Finished:
    text: str

    def __post_init__(self) -> None:
        SEEN.append(type(self.text).__name__)
        self.text = self.text.upper()


@strawberry.input
class Guarded:
    text: str

    def __setattr__(self, name: str, value: Any) -> None:
        SEEN.append(type(value).__name__)
        object.__setattr__(self, name, value.upper())


@strawberry.input
class Made:
    text: str

    def __new__(cls, **values: Any) -> "Made":
        SEEN.append(type(values["text"]).__name__)
        return object.__new__(cls)


@strawberry.input
class Numbered:
    text: str
    number: strawberry.Private[int] = dataclasses.field(default_factory=lambda: next(NUMBERS))


@strawberry.input
class Outer:
    initialised: list[Initialised] | None = None
    numbered: Numbered | None = None
    outer: "Outer | None" = None


@strawberry.type
class Item:
    @strawberry.field
    def numbered(self, value: Numbered) -> int:
        return value.number


@strawberry.type
class Query:
    @strawberry.field
    def plain(self, value: Plain) -> list[str]:
        value.words.append(value.text)
        return value.words

    @strawberry.field
    def initialised(self, value: Initialised) -> str:
        return value.text

    @strawberry.field
    def derived(self, value: Derived) -> str:
        return value.text

    @strawberry.field
    def finished(self, value: Finished) -> str:
        return value.text

    @strawberry.field
    def guarded(self, value: Guarded) -> str:
        return value.text

    @strawberry.field
    def made(self, value: Made) -> str:
        return value.text

    @strawberry.field
    def outer(self, value: Outer) -> str:
        deepest = value.outer or value
        return deepest.initialised[0].text if deepest.initialised else str(deepest.numbered and deepest.numbered.number)

    @strawberry.field
    def numbered(self, value: Numbered) -> int:
        return value.number

    @strawberry.field
    def items(self) -> list[Item]:
        return [Item(), Item(), Item()]

    @strawberry.field
    def named(self, id: relay.GlobalID) -> str:
        return id.node_id


SCHEMA = strawberry.Schema(Query)
DOCUMENTS = Documents(SCHEMA._schema)


async def answers(query: str, *values: Any, compiled: bool = True) -> list[Any]:
    engine = Engine(
        SCHEMA, documents=DOCUMENTS, classify=lambda error: None, report=lambda error, cause: "", compiled=compiled
    )
    found = []
    for value in values:
        result = await engine.execute(DOCUMENTS.get(query).operation(None), {"t": value}, None)
        assert not result.errors, result.errors
        found.append(result.data)
    return found


@pytest.mark.parametrize("name", ["initialised", "derived", "finished", "guarded", "made"])
@pytest.mark.parametrize("compiled", [False, True])
async def test_a_class_sees_the_values_of_each_request_and_nothing_else(name: str, compiled: bool) -> None:
    SEEN.clear()
    query = f"query($t: String!) {{ {name}(value: {{text: $t}}) }}"

    found = await answers(query, "a", "b", "c", compiled=compiled)

    assert [each[name].lower() for each in found] == ["a", "b", "c"]
    assert SEEN == ["str"] * 3


@pytest.mark.parametrize("value", ["{initialised: [{text: $t}]}", "{outer: {initialised: {text: $t}}}"])
async def test_the_same_holds_for_what_is_nested(value: str) -> None:
    SEEN.clear()

    found = await answers(f"query($t: String!) {{ outer(value: {value}) }}", "a", "b")

    assert [each["outer"] for each in found] == ["A", "B"]
    assert SEEN == ["str", "str"]


@pytest.mark.parametrize(
    "query",
    [
        "query($t: String!) { numbered(value: {text: $t}) }",
        "query($t: String!) { outer(value: {numbered: {text: $t}}) }",
        '{ numbered(value: {text: "x"}) }',
        "query($t: String!) { items { numbered(value: {text: $t}) } }",
    ],
)
async def test_a_default_that_is_made_is_made_for_each_request(query: str) -> None:
    found = await answers(query, "a", "b", "c")

    assert len({repr(each) for each in found}) == 3
    if "items" in query:
        assert len({item["numbered"] for each in found for item in each["items"]}) == 9


async def test_a_list_that_is_a_default_is_shared_by_nobody() -> None:
    found = await answers("query($t: String!) { plain(value: {text: $t}) }", "a", "b")

    assert is_plain_input(Plain)
    assert [each["plain"] for each in found] == [["a"], ["b"]]


async def test_a_global_id_is_an_ordinary_argument(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = await answers(
            "query($t: ID!) { named(id: $t) }", relay.to_base64("Task", "1"), relay.to_base64("T", "2")
        )

    assert [each["named"] for each in found] == ["1", "2"]
    assert not caplog.records


def test_every_input_of_the_real_schema_can_be_made_from_a_template() -> None:
    kinds = [
        each.extensions["strawberry-definition"].origin for each in REAL.type_map.values() if hasattr(each, "out_type")
    ]

    assert kinds
    assert all(is_plain_input(kind) for kind in kinds)
    assert all(set(inputs_of(kind)) <= set(kinds) for kind in kinds)
