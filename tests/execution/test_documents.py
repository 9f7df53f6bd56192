import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import strawberry
from graphql import ASTValidationRule, DocumentNode, GraphQLError, VisitorAction

from graph.execution.errors import RequestError
from graph.execution.preparing.documents import Documents


@strawberry.type
class Query:
    name: str = ""


SCHEMA = strawberry.Schema(Query)._schema


class Refuse(ASTValidationRule):
    def enter_document(self, node: DocumentNode, *_: object) -> VisitorAction:
        self.report_error(RequestError("Too large", "LIMIT_EXCEEDED", limit="size"))
        return None


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Calls tell by how many bytes memory has grown."""
    gc.collect()
    tracemalloc.start()

    def grown() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    try:
        yield grown
    finally:
        tracemalloc.stop()


def codes(errors: list[GraphQLError]) -> list[str]:
    return [(error.extensions or {})["code"] for error in errors]


def test_a_text_is_prepared_once() -> None:
    documents = Documents(SCHEMA)
    assert documents.get("{ name }") is documents.get("{ name }")


def test_operations_are_found_by_name() -> None:
    document = Documents(SCHEMA).get("query A { name } query B { name }")
    assert document.operation("B").name == "B"


@pytest.mark.parametrize("name", [None, "C"])
def test_an_operation_that_is_not_there_is_refused(name: str | None) -> None:
    document = Documents(SCHEMA).get("query A { name } query B { name }")
    with pytest.raises(RequestError) as caught:
        document.operation(name)
    assert caught.value.code == "OPERATION_RESOLUTION_FAILURE"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("", "GRAPHQL_PARSE_FAILED"),
        ("{ nope }", "GRAPHQL_VALIDATION_FAILED"),
        ("mutation { nope }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ name name name name }", "LIMIT_EXCEEDED"),
    ],
)
def test_what_is_wrong_with_a_text_has_a_code(text: str, code: str) -> None:
    document = Documents(SCHEMA, max_tokens=5).get(text)
    assert set(codes(document.errors)) == {code}
    assert not document.operations


def test_a_limit_is_told_instead_of_the_mistakes_of_the_document() -> None:
    document = Documents(SCHEMA, rules=[Refuse]).get("{ nope }")
    assert codes(document.errors) == ["LIMIT_EXCEEDED"]


def test_a_text_can_be_refused_before_it_is_parsed() -> None:
    def check(text: str) -> None:
        raise RequestError("Not on the list", "DOCUMENT_NOT_TRUSTED")

    assert codes(Documents(SCHEMA, check=check).get("{").errors) == ["DOCUMENT_NOT_TRUSTED"]


def test_the_least_recently_used_document_goes_first() -> None:
    documents = Documents(SCHEMA, max_count=2)
    first, second = documents.get("{ a: name }"), documents.get("{ b: name }")
    documents.get("{ a: name }")
    documents.get("{ c: name }")
    third = documents.get("{ c: name }")
    assert documents.get("{ a: name }") is first
    assert documents.get("{ c: name }") is third
    assert documents.get("{ b: name }") is not second


def test_texts_that_come_once_push_out_nothing() -> None:
    documents = Documents(SCHEMA, max_count=2)
    kept = [documents.get("{ a: name }"), documents.get("{ b: name }")]
    for number in range(100):
        documents.get(f"{{ c{number}: name }}")
    assert [documents.get("{ a: name }"), documents.get("{ b: name }")] == kept


def test_how_many_texts_are_remembered_that_came_once_is_bounded() -> None:
    documents = Documents(SCHEMA, max_count=2)
    for number in range(100):
        documents.get(f"{{ a{number}: name }}")
    assert len(documents._valid.turned_away) == 20


def test_the_cache_is_bounded_by_bytes() -> None:
    size = Documents(SCHEMA).get("{ a: name }").bytes
    documents = Documents(SCHEMA, max_bytes=9 * size)
    for letter in "abcdefghijklmnop":
        documents.get(f"{{ {letter}: name }}")
    assert len(documents) == 9


def test_a_flood_of_large_documents_takes_bounded_memory() -> None:
    documents = Documents(SCHEMA, max_bytes=2_000_000)
    with traced() as grown:
        for number in range(200):
            documents.get(f"{{ {' '.join(f'a{number}_{n}: name' for n in range(100))} }}")
        assert 500_000 < grown() < 3_000_000


def test_a_flood_of_invalid_documents_takes_bounded_memory() -> None:
    documents = Documents(SCHEMA, max_bytes=2_000_000)
    with traced() as grown:
        for number in range(300):
            documents.get(f"query Q{number} {{ {'name ' * 60} nope }}")
        assert len(documents) > 50
        assert grown() < 500_000


def test_an_invalid_document_keeps_its_errors_and_not_its_tree() -> None:
    [error] = Documents(SCHEMA).get("{\n  nope\n}").errors
    assert error.formatted["locations"] == [{"line": 2, "column": 3}]
    assert (error.nodes, error.source) == (None, None)


def test_conditions_make_a_document_larger() -> None:
    sizes = [
        Documents(SCHEMA).get(text.ljust(60)).bytes
        for text in (
            "query($a: Boolean!) { name @include(if: $a) }",
            "query($a: Boolean!) { name @include(if: true) b: name @skip(if: false) }",
            "query($a: Boolean!, $b: Boolean!) { name @include(if: $a) c: name @skip(if: $b) }",
        )
    ]
    assert sizes[1] < sizes[0] < sizes[2]


def test_a_text_larger_than_the_cache_is_answered_without_being_kept() -> None:
    documents = Documents(SCHEMA, max_bytes=10)
    assert not documents.get("{ name name name }").errors
    assert len(documents) == 0


def test_invalid_documents_do_not_push_out_valid_ones() -> None:
    documents = Documents(SCHEMA, max_count=8)
    good = documents.get("{ name }")
    for number in range(50):
        documents.get(f"{{ nope{number} }}")
    assert documents.get("{ name }") is good
    assert len(documents) == 2


def test_a_lone_surrogate_in_a_text_does_no_harm() -> None:
    assert Documents(SCHEMA).get('{ name(a: "\ud800") }').errors
