"""The coercers of types, held against graphql-core's way."""

from math import inf
from typing import Any

import pytest
from graphql import GraphQLError, GraphQLList, GraphQLNonNull, Undefined, build_schema, get_nullable_type
from graphql.utilities.coerce_input_value import coerce_input_value
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.execution.preparing.coercion import Odd, coercer, nesting, of_named

SCHEMA = build_schema(
    """
    scalar Even
    enum Size { SMALL LARGE }
    input Point { x: Int! y: Float = 1.5 }
    input One @oneOf { a: Int b: String }
    input Everything {
        text: String! id: ID flag: Boolean! = true size: Size even: Even
        point: Point points: [Point!] grid: [[Int]!] sizes: [Size] = [SMALL] one: One self: Everything
    }
    type Query { all(everything: Everything): Int }
    """
)


def even(value: Any) -> Any:
    if not isinstance(value, int) or value % 2:
        raise GraphQLError("odd")
    return value // 2


SCHEMA.type_map["Even"].coerce_input_value = even  # type: ignore[attr-defined]
EVERYTHING: Any = SCHEMA.type_map["Everything"]

LEAVES = st.sampled_from([None, True, 0, 2, 3, 2**40, 1.0, 1.5, "", "SMALL", "tiny", Undefined, (1, 2), b"x"])
NAMES = st.sampled_from(["text", "id", "flag", "size", "even", "grid", "sizes", "x", "y", "a", "b", "unknown"])
OBJECTS = ["point", "points", "one", "self"]


def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    of_leaves = st.dictionaries(NAMES, LEAVES | st.lists(LEAVES, max_size=2), max_size=3)
    of_objects = st.dictionaries(st.sampled_from(OBJECTS), inner | st.lists(inner, max_size=2), max_size=2)
    return (
        st.builds(lambda a, b, text: {**a, **b, "text": text}, of_leaves, of_objects, st.just("t") | LEAVES) | of_leaves
    )


@given(st.recursive(LEAVES, around, max_leaves=8))
@settings(max_examples=500)
def test_what_a_coercer_makes_is_what_graphql_core_makes(value: Any) -> None:
    if value is None:
        return
    try:
        made = coercer(EVERYTHING)(value)
    except Exception:
        return  # graphql-core coerces it, or says what is wrong
    assert repr(made) == repr(coerce_input_value(value, EVERYTHING))


@pytest.mark.parametrize(
    "given",
    [
        {"text": "t"},
        {"text": "t", "id": "1", "flag": False, "size": "SMALL", "even": 4},
        {"text": "t", "id": "7", "point": {"x": 1}, "points": [{"x": 1, "y": 2}], "grid": [[1, None], []]},
        {"text": "t", "points": {"x": 1}, "grid": 3, "sizes": None, "self": {"text": "u", "self": None}},
    ],
)
def test_ordinary_values_need_no_other_way(given: dict[str, Any]) -> None:
    assert coercer(EVERYTHING)(given) == coerce_input_value(given, EVERYTHING)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": None},
        {"text": 1},
        {"text": "t", "unknown": 1},
        {"text": "t", "unknown": Undefined},
        {"text": "t", "id": 7},
        {"text": "t", "size": "tiny"},
        {"text": "t", "even": 3},
        {"text": "t", "flag": None},
        {"text": "t", "points": [None]},
        {"text": "t", "point": []},
        {"text": "t", "one": {"a": 1}},
        "t",
    ],
)
def test_other_values_are_left_to_graphql_core(given: Any) -> None:
    with pytest.raises((Odd, TypeError, KeyError, GraphQLError)):
        coercer(EVERYTHING)(given)


def test_a_type_that_contains_itself_can_be_nested_without_end() -> None:
    types = SCHEMA.type_map

    assert nesting(EVERYTHING) == inf
    assert (nesting(types["Point"]), nesting(types["Size"])) == (1, 0)
    assert nesting(get_nullable_type(EVERYTHING.fields["points"].type)) == 2
    assert nesting(get_nullable_type(EVERYTHING.fields["grid"].type)) == 2


def test_list_types_of_documents_push_nothing_out_of_what_is_known() -> None:
    known = of_named(EVERYTHING)

    for _ in range(2_000):
        coercer(GraphQLList(GraphQLNonNull(EVERYTHING)))

    assert of_named(EVERYTHING) is known
    assert of_named.cache_info().currsize < 100
