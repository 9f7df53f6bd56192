"""Introspection: what it costs is what it answers, and the same question is answered once."""

from typing import Any

import pytest
from graphql import get_introspection_query

from graph.execution.preparing.cost import Costs
from graph.execution.preparing.documents import Documents
from graph.execution.preparing.introspection import MAX_ANSWERS, WEIGHT
from graph.execution.running.engine import Engine
from tests.execution.http_schema import schema

pytestmark = pytest.mark.anyio

DOCUMENTS = Documents(schema._schema)
COSTS = Costs(schema._schema)
FULL = get_introspection_query(input_value_deprecation=True, specified_by_url=True)


def engine() -> Engine:
    return Engine(schema, documents=DOCUMENTS, classify=lambda error: None, report=lambda error, cause: "")


def points(query: str, costs: Costs = COSTS, /, **variables: Any) -> int:
    document = DOCUMENTS.get(query)
    assert not document.errors, document.errors
    return costs.points(document.operation(None), variables)


def objects(value: Any) -> int:
    """The objects in an answer."""
    if isinstance(value, dict):
        return 1 + sum(map(objects, value.values()))
    return sum(map(objects, value)) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    "query",
    [
        "{ __schema { description } }",
        "{ __schema { types { name fields(includeDeprecated: true) { name } } } }",
        "{ __schema { types { name } ...F } }"
        " fragment F on __Schema { types { fields(includeDeprecated: true) { name } } }",
        "{ __schema { queryType { fields(includeDeprecated: true) { type { ofType { ofType { name } } } } } } }",
        "{ a: __schema { types { name } } b: __schema { types { name possibleTypes { name } } } }",
        "{ __s: __schema { __t: types { name } types { interfaces { name } } } }",
        '{ __type(name: "Query") { fields(includeDeprecated: true) { args(includeDeprecated: true) { name } } } }',
        '{ __type(name: "Nothing") { name fields { name } } hello }',
        FULL,
    ],
)
async def test_introspection_costs_the_objects_it_answers_with(query: str) -> None:
    result = await engine().execute(DOCUMENTS.get(query).operation(None), None, None)

    assert not result.errors
    shown = objects(result.data) - 1  # the answer itself is no object of the schema
    assert points(query) == max(1, WEIGHT * shown)


def test_a_type_named_by_a_variable_costs_as_much_as_the_largest() -> None:
    query = "query($name: String!) { __type(name: $name) { fields { name } } }"
    names = schema._schema.type_map
    each = [points(query.replace("$name)", f'"{name}")').replace("($name: String!)", "")) for name in names]

    assert points(query, name="Query") == max(each) > min(each)


def test_counting_ends_where_it_is_too_much() -> None:
    query = "{ __schema { types { fields { type { fields { name } } } } } }"
    assert points(query) > 51

    assert points(query + " ", Costs(schema._schema, limit=50)) == 52  # another document, whose plan is not yet made


def test_what_is_skipped_by_a_variable_costs_nothing() -> None:
    query = "query($all: Boolean!) { hello __schema @include(if: $all) { types { name } } }"

    assert points(query, all=False) == 1 < points(query, all=True)


async def test_every_field_of_a_type_can_be_asked_of_every_type() -> None:
    leaves = "kind name isOneOf description specifiedByURL"
    query = f"{{ __schema {{ types {{ {leaves} fields {{ type {{ {leaves} ofType {{ {leaves} }} }} }} }} }} }}"

    result = await engine().execute(DOCUMENTS.get(query).operation(None), None, None)

    assert not result.errors
    assert {type_["isOneOf"] for type_ in result.data["__schema"]["types"]} <= {None, False}


async def test_introspection_alone_is_answered_from_memory() -> None:
    asked = engine()
    operation = DOCUMENTS.get(FULL).operation(None)

    first = await asked.execute(operation, None, None)
    second = await asked.execute(operation, {"unknown": [1, 2, 3]}, None)

    assert first.data["__schema"]["types"]
    assert second.data is first.data


@pytest.mark.parametrize(
    "query",
    [
        "{ hello __schema { types { name } } }",
        "{ ...F } fragment F on Query { hello __schema { types { name } } }",
        "query($all: Boolean!) { __schema @include(if: $all) { types { name } } }",
        "{ __typename }",
    ],
)
async def test_what_is_not_the_same_for_everybody_is_answered_anew(query: str) -> None:
    asked = engine()

    result = await asked.execute(DOCUMENTS.get(query).operation(None), {"all": True}, None)

    assert result.data
    assert len(asked._answers) == 0


async def test_the_number_of_kept_answers_is_bounded() -> None:
    asked = engine()
    for n in range(MAX_ANSWERS + 3):
        query = f"query Q{n} {{ __schema {{ types {{ name }} }} }}"
        await asked.execute(DOCUMENTS.get(query).operation(None), None, None)

    assert len(asked._answers) == MAX_ANSWERS
