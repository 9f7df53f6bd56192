"""The schema itself: described, kept, and with the names that were promised."""

import ast
import re
from typing import Any, get_args

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    get_named_type,
    is_specified_scalar_type,
    parse,
    validate,
)

from graph.commands.snapshot import PATH
from graph.schema import sdl
from graph.writes.codes import MEANINGS
from persistence.models import Task, Token, User
from persistence.models.base import entities
from persistence.rules.errors import Code, DomainError
from persistence.settings import ROOT
from tests.conftest import Account, Api
from tests.graph.operations import DOCUMENTS
from tests.graph.samples import SCHEMA, fields_of

TYPES = [
    kind for name, kind in SCHEMA.type_map.items() if not name.startswith("__") and not is_specified_scalar_type(kind)
]

# The names that clients were promised before there was a server.
TASTE = """
query Board($mine: TaskFilter) {
  viewer { id email name role timeZone tasks(first: 20, filter: $mine, orderBy: [{field: DUE, direction: ASC, nulls: LAST}], search: "report") {
    nodes { id title description status completed priority tags dueAt overdue completedAt version createdAt updatedAt deletedAt owner { id name } }
    edges { cursor node { id } }  pageInfo { hasNextPage hasPreviousPage startCursor endCursor }  totalCount } }
  users(first: 50, filter: {email: {gt: "a"}}) { nodes { id name tasks(first: 20, orderBy: [{field: CREATED_AT, direction: DESC}]) { nodes { id title } } } }
  tasks(scope: ALL, trash: EXCLUDE, filter: {and: [{status: {in: [TODO, IN_PROGRESS]}}, {dueAt: {lt: "2027-01-01T00:00:00Z"}}, {tags: {hasAny: ["home"]}}]}) { totalCount }
  node(id: "...") { __typename id ... on Task { title } }
}
mutation Write($id: ID!, $key: String!) {
  signUp(input: {email: "ada@example.org", name: "Ada", password: "..."}) { user { id } token { id prefix expiresAt } secret errors { __typename code message path } }
  signIn(input: {email: "ada@example.org", password: "..."}) { user { id } secret errors { code } }
  createTask(input: {title: "Write", priority: HIGH, tags: ["home"], dueAt: "2026-12-01T09:00:00+01:00", idempotencyKey: $key}) { task { id version } replayed errors { code message path } }
  updateTask(input: {id: $id, ifVersion: 3, status: IN_PROGRESS, addTags: ["now"], dueAt: null}) {
    task { id version } errors { code message path ... on ConflictError { currentVersion current { id ... on Task { title } } } } }
  completeTask(input: {id: $id}) { task { id completedAt } errors { code } }
  deleteTask(input: {id: $id}) { task { id deletedAt } errors { code } }
  purgeTask(input: {id: $id}) { purgedTaskId errors { code } }
  createToken(input: {name: "laptop", scopes: [READ, WRITE], expiresAt: "2027-01-01T00:00:00Z"}) { token { id prefix } secret errors { code } }
}
"""  # noqa: E501  # as it was promised


def parts(kind: Any) -> list[tuple[str, Any]]:
    """Everything of a type that a client reads about."""
    found = [(kind.name, kind)]
    if isinstance(kind, GraphQLEnumType):
        found += [(f"{kind.name}.{name}", value) for name, value in kind.values.items()]
    if isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType, GraphQLInputObjectType)):
        for name, field in kind.fields.items():
            found.append((f"{kind.name}.{name}", field))
            found += [(f"{kind.name}.{name}({a}:)", b) for a, b in getattr(field, "args", {}).items()]
    return found


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_everything_is_described(kind: Any) -> None:
    silent = [name for name, part in parts(kind) if not (part.description or "").strip()]

    assert silent == []


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_descriptions_are_sentences_without_python(kind: Any) -> None:
    for name, part in parts(kind):
        text = part.description.strip()
        assert text[0].isupper() or text[0] == "`", name
        assert text.endswith((".", "...", ")", "`")), name
        assert not any(word in text for word in ("UUIDv", "strawberry", "asyncpg", "snake_case")), name


def test_the_schema_is_the_one_that_is_kept() -> None:
    assert PATH.read_text() == sdl(), "run ./run schema --write"


def test_the_promised_names_are_there() -> None:
    assert validate(SCHEMA, parse(TASTE)) == []


def test_only_entities_have_a_field_id() -> None:
    named = {kind.name for kind in TYPES if isinstance(kind, GraphQLObjectType) and "id" in kind.fields}
    node = SCHEMA.type_map["Node"]
    assert isinstance(node, GraphQLInterfaceType)

    assert named == {kind.name for kind in SCHEMA.get_possible_types(node)} == set(entities())


def test_enums_carry_their_noun() -> None:
    """A name such as `Role` or `Direction` is taken for good, and says too little beside others."""
    named = {kind.name for kind in TYPES if isinstance(kind, GraphQLEnumType)}

    assert sorted(name for name in named if len(re.findall("[A-Z][a-z]+", name)) < 2) == []


def test_booleans_are_adjectives() -> None:
    allowed = {"isNull", "hasNextPage", "hasPreviousPage"}  # a comparator, and names of Relay's
    named = {
        name
        for kind in TYPES
        if isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType, GraphQLInputObjectType))
        for name, field in kind.fields.items()
        if get_named_type(field.type).name == "Boolean"
    }

    assert sorted(name for name in named - allowed if re.match("(is|has|can|was)[A-Z]", name)) == []


def test_no_default_is_null() -> None:
    assert "= null" not in sdl()


def test_the_schema_says_how_to_begin() -> None:
    text = SCHEMA.description or ""

    assert all(word in text for word in ("signIn", "Authorization: Bearer", "Lists", "Errors", "docs/api.md"))
    assert sdl().startswith('"""\n')


def test_every_code_of_an_error_is_described_and_may_come() -> None:
    raised = {
        node.value
        for folder in ("graph", "persistence")
        for path in (ROOT / folder).rglob("*.py")
        if path not in (ROOT / "graph/writes/codes.py", ROOT / "persistence/rules/errors.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }
    raised |= {kind.code for kind in subclasses(DomainError)}
    kind = SCHEMA.type_map["UserErrorCode"]
    assert isinstance(kind, GraphQLEnumType)

    assert set(kind.values) == set(get_args(Code)) == set(MEANINGS)
    assert sorted(set(kind.values) - raised) == []


def subclasses(kind: type) -> set[Any]:
    children: list[type] = kind.__subclasses__()
    return {inner for child in children for inner in (child, *subclasses(child))}


def test_every_mutation_takes_one_input_with_a_key_and_answers_with_a_payload() -> None:
    for name, field in fields_of("Mutation").items():
        kind = name[0].upper() + name[1:]
        assert list(field.args) == ["input"], name
        given, answer = get_named_type(field.args["input"].type), get_named_type(field.type)
        assert (given.name, answer.name) == (f"{kind}Input", f"{kind}Payload")
        assert str(field.type).endswith("!"), name
        assert isinstance(given, GraphQLInputObjectType)
        assert isinstance(answer, GraphQLObjectType)
        assert str(given.fields["idempotencyKey"].type) == "String", name
        assert str(answer.fields["errors"].type) == "[UserError!]!", name
        assert str(answer.fields["replayed"].type) == "Boolean!", name
        rest = [part for part in answer.fields if part not in ("errors", "replayed")]
        assert all(not str(answer.fields[part].type).endswith("!") for part in rest), "null when there are errors"


def test_every_change_of_what_has_a_version_can_name_it() -> None:
    unversioned = {"signUp", "signIn", "signOut", "revokeToken", *(f"create{name}" for name in entities())}
    for name, field in fields_of("Mutation").items():
        given = get_named_type(field.args["input"].type)
        assert isinstance(given, GraphQLInputObjectType)
        assert ("ifVersion" in given.fields) == (name not in unversioned), name


def test_every_mutation_is_driven_by_the_tests() -> None:
    assert set(DOCUMENTS) == set(fields_of("Mutation"))


@pytest.mark.parametrize("model", [User, Token, Task])
def test_no_field_shows_what_is_private(model: Any) -> None:
    names = {name.replace("_", "").lower() for name in model.__private__}

    assert names
    for kind in TYPES:
        if isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType)):
            assert not names & {name.lower() for name in kind.fields}


@pytest.mark.anyio
async def test_the_schema_can_be_introspected(api: Api) -> None:
    data = await api('{ __schema { types { name } } __type(name: "Task") { kind interfaces { name } } }')

    assert {kind["name"] for kind in data["__schema"]["types"]} == set(SCHEMA.type_map)
    assert data["__type"] == {"kind": "OBJECT", "interfaces": [{"name": "Node"}]}


@pytest.mark.anyio
async def test_types_are_told_apart(api: Api, account: Account) -> None:
    data = await api('{ viewer { __typename } node(id: "x") { __typename } tasks { __typename } __typename }', account)

    assert data == {
        "viewer": {"__typename": "User"},
        "node": None,
        "tasks": {"__typename": "TaskConnection"},
        "__typename": "Query",
    }
