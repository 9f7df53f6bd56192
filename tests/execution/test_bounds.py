"""Inputs that are too large are refused before anything converts them: each list by its bound, all by their sum."""

from typing import Annotated, Any

import pytest
import strawberry

from graph.execution.errors import RequestError
from graph.execution.preparing.bounds import Bounds, at_most
from graph.execution.preparing.documents import Documents


@strawberry.input
class Filter:
    words: list[str | None] | None = strawberry.field(default=None, metadata=at_most(4))
    table: list[list[int]] | None = None
    all: list["Filter"] | None = None
    other: "Filter | None" = None


@strawberry.type
class Query:
    @strawberry.field
    def found(self, filter: Filter | None = None, words: list[str | None] | None = None) -> int:
        return 0

    @strawberry.field
    def few(
        self,
        ids: Annotated[list[strawberry.ID | None], strawberry.argument(metadata=at_most(3))],
    ) -> "Query":
        return Query()


SCHEMA = strawberry.Schema(Query)
DOCUMENTS = Documents(SCHEMA._schema)
BOUNDS = Bounds(SCHEMA._schema, values=30, items=6)


def refusal(query: str, /, **variables: Any) -> tuple[str, int, int, str] | None:
    """The limit, what it allows, what there was, and in what: None if nothing is refused."""
    document = DOCUMENTS.get(query)
    assert not document.errors, document.errors
    try:
        BOUNDS.check(document.operation(None), variables)
    except RequestError as error:
        refused = error
    else:
        return None
    extensions: Any = refused.extensions
    where = extensions.get("variable") or extensions.get("argument") or ""
    assert (refused.code, refused.status) == ("LIMIT_EXCEEDED", 400)
    assert where in refused.message
    return extensions["limit"], extensions["allowed"], extensions["actual"], where


FILTER = "query($f: Filter) { found(filter: $f) }"
IDS = "query($i: [ID]!) { few(ids: $i) { found } }"


@pytest.mark.parametrize("item", [None, "", "x", 1])
def test_every_item_of_a_list_in_a_variable_counts(item: Any) -> None:
    assert refusal(FILTER, f={"words": [item] * 4}) is None
    assert refusal(FILTER, f={"words": [item] * 5}) == ("listItems", 4, 5, "f")
    assert refusal(IDS, i=[item] * 3) is None
    assert refusal(IDS, i=[item] * 4) == ("listItems", 3, 4, "i")


@pytest.mark.parametrize("item", ["{}", "{words: []}", "{words: null}"])
def test_every_item_of_a_list_in_the_text_counts(item: str) -> None:
    assert refusal(f"{{ found(filter: {{all: [{item * 6}]}}) }}") is None
    assert refusal(f"{{ found(filter: {{all: [{item * 7}]}}) }}") == ("listItems", 6, 7, "filter")


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ('{ few(ids: ["", null, "", ""]) { found } }', "ids"),
        ("{ few(ids: []) { few(ids: [1, 1, 1, 1]) { found } } }", "ids"),
        ("{ ...F } fragment F on Query { a: few(ids: [1, 1, 1, 1]) { found } }", "ids"),
        ("{ few(ids: []) { ... on Query { ... { few(ids: [1, 1, 1, 1]) { found } } } } }", "ids"),
        ("query($i: [ID]! = [1, 1, 1, 1]) { few(ids: $i) { found } }", "i"),
        ("query($i: ID) { few(ids: [$i, $i, $i, $i]) { found } }", "ids"),
        (
            "query($f: Filter = {other: {other: {words: [1, 1, 1, 1, 1]}}}) { found(filter: $f) }".replace("1", '""'),
            "f",
        ),
    ],
)
def test_a_list_is_found_wherever_it_stands(query: str, where: str) -> None:
    found = refusal(query)

    assert found is not None
    assert (found[0], found[3]) == ("listItems", where)


def test_the_smallest_bound_of_the_uses_of_a_variable_holds() -> None:
    query = "query($i: [ID]!, $w: [String]) { few(ids: $i) { found(words: $w) } found(filter: {words: $w}) }"

    assert refusal(query, i=[1], w=[""] * 4) is None
    assert refusal(query, i=[1], w=[""] * 5) == ("listItems", 4, 5, "w")


def test_lists_of_lists_are_bounded_at_each_level() -> None:
    assert refusal(FILTER, f={"table": [[1, 2, 3]] * 5}) is None
    assert refusal(FILTER, f={"table": [[1] * 7]}) == ("listItems", 6, 7, "f")


def test_a_single_object_may_stand_for_a_list_of_one_and_is_looked_into() -> None:
    assert refusal(FILTER, f={"all": {"all": {"words": [""] * 5}}}) == ("listItems", 4, 5, "f")


def test_a_list_where_there_should_be_none_is_bounded_too() -> None:
    assert refusal(FILTER, f=[{}] * 7) == ("listItems", 6, 7, "f")


def test_all_values_together_are_bounded() -> None:
    part: Any = {"all": [{}] * 6}

    found = refusal(FILTER, f={"all": [part] * 5})

    assert found is not None
    assert (found[0], found[1], found[3]) == ("inputValues", 30, "f")
    assert refusal(FILTER, f={"all": [part] * 3}) is None


def test_a_variable_counts_as_often_as_it_is_used() -> None:
    value: Any = {"all": [{}] * 6}
    uses = " ".join(f"a{n}: found(filter: $f)" for n in range(5))

    assert refusal(f"query($f: Filter) {{ {uses} }}", f=value) == ("inputValues", 30, 36, "f")
    assert refusal(f"query($f: Filter = {{all: [{{}} {{}} {{}} {{}} {{}} {{}}]}}) {{ {uses} }}") == (
        "inputValues", 30, 35, "",
    )  # fmt: skip
    assert refusal(FILTER, f=value) is None


def test_what_a_fragment_brings_counts_as_often_as_it_is_spread() -> None:
    spreads = "a: few(ids: []) { ...F } b: few(ids: []) { ...F } c: few(ids: []) { ...F } d: few(ids: []) { ...F }"
    fragment = (
        "fragment F on Query { few(ids: [1, 1, 1]) { ...G } } fragment G on Query { found(words: [1, 1, 1, 1, 1]) }"
    )

    assert refusal(f"{{ {spreads} }} {fragment}".replace("1", '""')) == ("inputValues", 30, 32, "")


def test_members_that_nobody_knows_and_variables_that_nobody_declared_count() -> None:
    assert refusal(FILTER, f={f"x{n}": 1 for n in range(31)}) == ("inputValues", 30, 32, "f")
    assert refusal("{ found }", **{f"x{n}": 1 for n in range(31)}) == ("inputValues", 30, 31, "")
    assert refusal("{ found }", x=[1] * 31) == ("inputValues", 30, 32, "x")


def test_deeply_nested_values_are_looked_at_without_recursion() -> None:
    value: Any = {}
    for _ in range(100_000):
        value = {"other": value}

    found = refusal(FILTER, f=value)

    assert found is not None
    assert found[0] == "inputValues"


def test_a_refusal_says_where_it_is() -> None:
    document = DOCUMENTS.get(FILTER)

    with pytest.raises(RequestError) as caught:
        BOUNDS.check(document.operation(None), {"f": {"all": [{}, {"other": {"words": [""] * 1_000}}]}})

    message = "Variable '$f' has 1,000 items at all[1].other.words; at most 4 are allowed"
    assert caught.value.message == message


def test_what_stands_in_the_text_is_read_once() -> None:
    operation = DOCUMENTS.get(FILTER).operation(None)
    BOUNDS.check(operation, None)
    given = operation.memo["bounds"]

    BOUNDS.check(operation, {"f": {}})

    assert operation.memo["bounds"] is given
