import pytest
import strawberry
from graphql import ASTValidationRule, DocumentNode, GraphQLError, VisitorAction

from graph.execution.documents import Documents
from graph.execution.errors import RequestError


@strawberry.type
class Query:
    name: str = ""


SCHEMA = strawberry.Schema(Query)._schema


class Refuse(ASTValidationRule):
    def enter_document(self, node: DocumentNode, *_: object) -> VisitorAction:
        self.report_error(RequestError("Too large", "LIMIT_EXCEEDED", limit="size"))
        return None


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
    assert documents.get("{ a: name }") is first
    assert documents.get("{ b: name }") is not second


def test_the_cache_is_bounded_by_bytes() -> None:
    documents = Documents(SCHEMA, max_bytes=100)
    for letter in "abcdefghijklmnop":
        documents.get(f"{{ {letter}: name }}")
    assert len(documents) == 9  # eleven bytes each


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
