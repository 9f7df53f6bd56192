"""What operations on the real schema cost, and that what costs too much is refused before it reads anything."""

from typing import Any

import pytest
from graphql import GraphQLInterfaceType, GraphQLObjectType, get_named_type, is_composite_type, is_list_type
from graphql import get_nullable_type as nullable

from graph.execution.preparing.cost import Costs
from graph.execution.preparing.documents import Documents
from persistence.settings import Settings
from tests.conftest import Account
from tests.graph.operations import DOCUMENTS
from tests.graph.queries import watched
from tests.graph.samples import SCHEMA

COSTS = Costs(SCHEMA)
TASK = "id title description status completed priority tags dueAt version createdAt"


def cost(query: str, **variables: Any) -> int:
    documents = Documents(
        SCHEMA, max_count=1, max_bytes=100_000, check=None, rules=(), max_tokens=None, hide_suggestions=False
    )
    document = documents.get(query)
    assert not document.errors, document.errors
    return COSTS.points(document.operation(None), variables)


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("{ __typename }", 1),
        ("{ viewer { id tasks { totalCount } } }", 2),
        # As in the README: the viewer and a page of the usual size.
        ("{ viewer { name tasks(orderBy: [{field: DUE}]) { nodes { title status overdue } } } }", 21),
        ('query { task(id: "x") { id title tags owner { id name } } }', 2),
        (f"{{ tasks(first: 50) {{ nodes {{ {TASK} }} }} }}", 50),
        (f"{{ tasks(first: 50) {{ edges {{ cursor node {{ {TASK} }} }} pageInfo {{ endCursor }} totalCount }} }}", 50),
        ("{ tasks(last: 7) { nodes { id owner { id } } } }", 14),
        (f"{{ users(first: 50) {{ nodes {{ id tasks(first: 20) {{ nodes {{ {TASK} }} }} }} }} }}", 50 + 50 * 20),
        ("{ tasks(first: 50) { nodes { id owner { tasks(first: 5) { nodes { id } } } } } }", 50 + 50 + 50 * 5),
        ('{ nodes(ids: ["a", "b", "c"]) { id } }', 3),
        ("{ viewer { tokens { nodes { id scopes } } } }", 21),
    ],
)
def test_an_operation_costs_the_objects_that_it_can_read(query: str, points: int) -> None:
    assert cost(query) == points


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("{ tasks(first: 50) { nodes { about: description name: title } } }", 50),
        ("{ tasks(first: 50) { nodes { a: description b: description c: description title } } }", 50 * 3),
        (
            "{ tasks(first: 50) { nodes { ...A ...B } } } fragment A on Task { a: title } fragment B on Task { title }",
            100,
        ),
        ("{ tasks(first: 50) { nodes { ...A title } } } fragment A on Task { title ... { title } }", 50),
        ("{ tasks(first: 50) { nodes { a: __typename b: __typename } } }", 50 * 2),
        ("{ tasks(first: 50) { nodes { title a: title @skip(if: true) } } }", 50),
    ],
)
def test_a_value_that_is_asked_for_again_counts_as_an_object(query: str, points: int) -> None:
    """A long text under 30 names, or under one long one, would be a long answer for a small query."""
    assert cost(query) == points


def test_page_sizes_come_from_variables() -> None:
    query = "query($first: Int = 5) { users(first: $first) { nodes { tasks(first: $first) { nodes { id } } } } }"

    assert cost(query) == 5 + 25
    assert cost(query, first=99) == 99 + 99 * 99


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_mutation_costs_what_it_shows_and_not_its_errors(name: str) -> None:
    payload = SCHEMA.get_type(f"{name[0].upper()}{name[1:]}Payload")
    assert isinstance(payload, GraphQLObjectType)
    kind = name[0].upper() + name[1:]
    start = f"mutation($input: {kind}Input!) {{ {name}(input: $input) {{"
    objects = [
        field
        for field, definition in payload.fields.items()
        if is_composite_type(get_named_type(definition.type)) and field != "errors"
    ]
    shown = " ".join(f"{field} {{ id }}" for field in objects)

    assert cost(f"{start} replayed errors {{ code message path }} }} }}") == 1
    assert cost(f"{start} {shown} replayed errors {{ code message path }} }} }}") == 1 + len(objects)


def test_what_an_error_shows_of_the_store_is_counted() -> None:
    query = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { id } errors { code %s } } }"

    assert cost(query % "") == 2
    assert cost(query % "... on ConflictError { currentVersion current { id } }") == 3


def test_every_list_of_objects_has_a_known_size() -> None:
    unknown = []
    for kind in SCHEMA.type_map.values():
        if kind.name.startswith("__") or not isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType)):
            continue
        for name, field in kind.fields.items():
            definition = field.extensions.get("strawberry-definition")
            is_known = (
                kind.name.endswith("Connection")  # the page says how many there are
                or {"first", "last", "ids"} & field.args.keys()
                or "cost" in getattr(definition, "metadata", {})
            )
            if is_list_type(nullable(field.type)) and is_composite_type(get_named_type(field.type)) and not is_known:
                unknown.append(f"{kind.name}.{name}")

    assert unknown == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "variables", "points"),
    [
        ("{ users(first: 100) { nodes { tasks(first: 100) { nodes { id } } } } }", {}, 10_100),
        (
            "query($n: Int) { users(first: $n) { nodes { tasks(first: $n) { nodes { owner { id } } } } } }",
            {"n": 71},
            71 + 2 * 71 * 71,
        ),
    ],
)
async def test_what_could_read_too_many_objects_is_refused_before_any_sql(
    settings: Settings, account: Account, query: str, variables: dict[str, Any], points: float
) -> None:
    async with watched(settings) as server:
        answer = await server.post(query, account.authorization, **variables)
        ran = await server.statements()
        allowed = await server.post("{ viewer { id } }", account.authorization)
        control = await server.statements()

    shown = str(int(points)) if points < 10**15 else "more than 10^15"
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {
            "message": f"The operation could read {shown} objects; at most 10000 are allowed."
            " Ask for smaller pages or fewer levels",
            "extensions": {
                "code": "COST_LIMIT_EXCEEDED",
                "limit": "cost",
                "allowed": 10_000,
                "actual": min(int(points), 2**53),
            },
        }
    ]
    assert ran == []
    assert allowed.status_code == 200
    assert any("FROM tokens" in statement for statement in control), "what is run is seen"
