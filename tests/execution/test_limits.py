"""The limits on documents: what they count, what they say, and that counting is quick on hostile documents."""

from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, get_introspection_query, parse

from graph.execution.preparing.documents import Documents
from graph.execution.preparing.limits import Limits, check, count_tokens, counted, limit_rule, token_check
from tests.execution.http_schema import schema

WIDE = Limits(
    characters=10**9, tokens=10**9, depth=10**9, root_fields=10**9, aliases=10**9, directives=10**9, overlaps=10**9
)


def refusal(query: str, limits: Limits) -> dict[str, Any] | None:
    """The message and extensions of the refusal of a document by its limits, as a client sees it."""
    documents = Documents(
        schema._schema, check=token_check(limits), rules=[limit_rule(limits)], max_tokens=limits.tokens
    )
    errors = documents.get(query).errors
    if not errors:
        return None
    (error,) = errors
    return {"message": error.message, **(error.extensions or {})}


@pytest.mark.parametrize(
    ("limits", "allowed", "refused", "actual"),
    [
        ({"characters": 9}, "{ hello }", "{ hello  }", 10),
        ({"tokens": 5}, "{ a: hello }", "{ a: hello b }", 6),
        ({"operations": 2}, "query A { hello } query B { hello }", "query A{hello} query B{hello} query C{hello}", 3),
        ({"depth": 2}, "{ item(id: 1) { id } }", "{ item(id: 1) { parent { id } } }", 3),
        ({"root_fields": 2}, "{ hello broken }", "{ hello hello hello }", 3),
        ({"aliases": 2}, "{ a: hello b: hello }", "{ a: hello b: hello item(id: 1) { c: id } }", 3),
        ({"directives": 1}, "{ hello @skip(if: true) }", "query @skip(if: true) { hello @include(if: true) }", 2),
        (
            {"directives": 3},
            "{ hello @skip(if: true) @include(if: true) }",
            "{ hello @skip(if: true) @skip(if: true) @skip(if: true) @skip(if: true) }",
            4,
        ),
        (
            {"selections": 3},
            "{ item(id: 1) { id title } }",
            "{ item(id: 1) { id ...T } } fragment T on Item { title }",
            4,
        ),
        ({"overlaps": 1}, "{ hello hello }", "{ hello ... { hello } ... { hello } }", 3),
    ],
)
def test_a_refusal_says_the_limit_and_the_value(
    limits: dict[str, Any], allowed: str, refused: str, actual: int
) -> None:
    ((name, value),) = limits.items()

    assert (refusal(allowed, Limits(**limits)) or {}).get("code") != "LIMIT_EXCEEDED"
    found = refusal(refused, Limits(**limits))
    assert found is not None
    assert found["code"] == "LIMIT_EXCEEDED"
    assert (found["limit"], found["allowed"], found["actual"]) == (name.replace("root_f", "rootF"), value, actual)
    assert str(actual) in found["message"]
    assert str(value) in found["message"]


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("{ ...F ...F } fragment F on Query { a: hello b: hello }", "aliases", 4),
        ("{ ...F } fragment F on Query { ...G ...G } fragment G on Query { hello }", "root_fields", 2),
        ("{ ...F } fragment F on Query { item(id: 1) { ...G } } fragment G on Item { parent { id } }", "depth", 3),
        ("{ ... { ... on Query { hello } } }", "depth", 1),
        ("{ ...F @skip(if: true) } fragment F on Query @skip(if: true) { hello @skip(if: true) }", "directives", 3),
        ("query($a: Int @deprecated) { hello }", "directives", 1),
        ("{ ...F } fragment F on Query { __typename }", "root_fields", 1),
    ],
)
def test_what_fragments_bring_in_counts_as_often_as_they_are_spread(query: str, name: str, value: int) -> None:
    document = parse(query)
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}

    ((_, counts),) = counted(operations, fragments)

    assert getattr(counts, name) == value


def chain(links: int, body: str) -> str:
    fragments = "".join(f"fragment F{n} on Query {{ {body.format(n + 1)} }} " for n in range(links))
    return f"{{ ...F0 }} {fragments} fragment F{links} on Query {{ hello }}"


def test_chained_fragments_are_counted_although_their_numbers_explode() -> None:
    document = parse(chain(5_000, "...F{0} ...F{0}"))

    with pytest.raises(Exception, match="more than 999999999 selections") as caught:
        check(document, WIDE)

    assert caught.value.extensions["actual"] == 1_000_000_000  # type: ignore[attr-defined]


def test_chained_fragments_are_counted_deep() -> None:
    with pytest.raises(Exception, match="5001 fields deep"):
        check(parse(chain(5_000, "item(id: 1) {{ ...F{0} }}")), Limits())


@pytest.mark.parametrize(
    "query",
    [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { hello ...B ...B } fragment B on Query { ...A ...A }",
        "{ hello } fragment A on Query { ...B } fragment B on Query { ...C } fragment C on Query { ...A }",
    ],
)
def test_a_cycle_of_fragments_is_refused(query: str) -> None:
    found = refusal(query, Limits())

    assert found is not None
    assert found["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert "within itself" in found["message"]


def test_a_fragment_may_be_spread_twice_without_being_a_cycle() -> None:
    query = "{ ...A ...B } fragment A on Query { ...C } fragment B on Query { ...C } fragment C on Query { hello }"

    assert refusal(query, Limits()) is None


def test_an_unknown_fragment_is_left_to_validation() -> None:
    found = refusal("{ ...Nothing }", Limits())

    assert found is not None
    assert found["message"] == "Unknown fragment 'Nothing'."


def test_the_introspection_query_of_common_tools_is_within_the_limits() -> None:
    assert refusal(get_introspection_query(input_value_deprecation=True), Limits()) is None


def test_introspection_is_counted() -> None:
    query = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }"

    found = refusal(query, Limits(depth=6))

    assert found is not None
    assert (found["limit"], found["actual"]) == ("depth", 8)


MANY_TYPES = " ".join(f"a{n}: types {{ name }}" for n in range(5))
ALIASES_OF_INTROSPECTION = [
    f"{{ __schema {{ {MANY_TYPES} }} }}",
    f"{{ hello __schema {{ ...F }} }} fragment F on __Schema {{ {MANY_TYPES} }}",
    f"{{ ...F }} fragment F on Query {{ __schema {{ {MANY_TYPES} }} }}",
    "{ __schema { types { a: fields { b: type { c: fields { d: args { e: type { name } } } } } } } }",
    "{ __schema { ...A ...B } } fragment A on __Schema { a: types { b: name } c: types { d: name } }"
    " fragment B on __Schema { e: types { ...C } } fragment C on __Type { name }",
    "{ __schema { types { ...A fields { type { ...A } } } } } fragment A on __Type { a: name b: kind c: description }",
    " ".join(["{", *(f'a{n}: __type(name: "Query") {{ name }}' for n in range(5)), "}"]),
    "{ a: __schema { ... { b: types { ... on __Type { c: name d: kind e: description } } } } }",
]


@pytest.mark.parametrize("query", ALIASES_OF_INTROSPECTION)
def test_more_than_a_few_aliases_of_introspection_are_refused(query: str) -> None:
    found = refusal(query, Limits())

    assert found is not None
    assert (found["code"], found["limit"], found["allowed"]) == ("LIMIT_EXCEEDED", "introspectionAliases", 4)


def test_aliases_that_only_look_like_introspection_are_no_introspection() -> None:
    aliases = " ".join(f"__a{n}: hello" for n in range(5))

    assert refusal(f"{{ {aliases} }}", Limits()) is None


@pytest.mark.parametrize(
    "query", ["{ __schema { types { name } } }", '{ ...F } fragment F on Query { a: __type(name: "A") { name } }']
)
def test_introspection_can_be_switched_off(query: str) -> None:
    found = refusal(query, Limits(introspection=False))

    assert found is not None
    assert found["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert "Introspection is switched off" in found["message"]
    assert refusal("{ __typename }", Limits(introspection=False)) is None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("{ a }", 3),
        ("{a,b,...C}", 6),
        ('{ a(b: "x \\" y", c: -1.5e+3) }', 11),
        ('{ a(b: """ " "" \\""" """) }', 8),
        ("# comment\n{ a } # another", 5),
        ('{ a(b: "unfinished) }', 6),
        ("query Q($a: [Int!]! = [1, 2]) @d { a }", 22),
    ],
)
def test_tokens_are_counted_as_the_grammar_has_them(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@pytest.mark.parametrize("unit", ["{", '"', '"""', "a ", '"""\\"', "#\n", '"\\', ",", "-", '"""a', "\\", "…"])
def test_no_text_makes_counting_slow(unit: str) -> None:
    # Twice the text may take about twice the time: backtracking would never end here.
    text = unit * (300_000 // len(unit))

    assert count_tokens(text) <= 300_000
