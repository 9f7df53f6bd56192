"""The compiled executor and graphql-core's own give the same answers over the real schema."""
# ruff: noqa: E501  # documents are easier to read on one line

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from graphql import GraphQLError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence.models import Role
from tests.conftest import BESIDE_STOCK, Account, Answer, Api
from tests.execution.documents import Generated, documents
from tests.graph.operations import DOCUMENTS, done, new_task
from tests.graph.samples import SCHEMA, fields_of, filled, operation, variables_of
from tests.graph.test_schema import TASTE
from tests.graph.walk import VARYING, names_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts"), *BESIDE_STOCK]

# "{task}", "{user}" and "{token}" are replaced by ids.
QUERIES = [
    "{ viewer { __typename id ...F tasks(first: 2) { ...P } } } fragment F on User { name role email } "
    "fragment P on TaskConnection { nodes { id title } edges { cursor node { ...T } } pageInfo { endCursor hasNextPage } } "
    "fragment T on Task { id owner { ...F } status priority tags dueAt overdue completed version }",
    "{ a: tasks(first: 1) { nodes { id } } b: tasks(last: 1) { nodes { id } totalCount } c: tasks { totalCount } }",
    '{ nodes(ids: ["{task}", "{user}", "{token}", "nothing", "{task}"]) { __typename id ... on Task { title owner { name } } '
    "... on User { name tasks { totalCount } } ... on Token { name scopes expired } } }",
    '{ node(id: "{task}") { ... on Node { id } ... on Task { id owner { id tasks(first: 1) { nodes { owner { id } } } } } } }',
    '{ node(id: "{user}") { __typename ... on Task { title } } other: node(id: "nothing") { id } }',
    "query($yes: Boolean = true) { viewer { id @skip(if: $yes) name @include(if: $yes) tasks @skip(if: $yes) { totalCount } } }",
    "{ viewer { tasks(first: -1) { totalCount } } tasks { totalCount } }",
    "{ viewer { id } tasks(first: 1, last: 1) { nodes { id } } }",
    '{ tasks(after: "nonsense") { nodes { id } } viewer { name } }',
    "{ users { nodes { id } } viewer { id } }",
    '{ tasks(filter: {id: {eq: "x"}}) { totalCount } }',
    "query($f: TaskFilter) { tasks(filter: $f) { totalCount } }",
    '{ tasks(orderBy: [{field: DUE, nulls: FIRST}, {field: TITLE, direction: DESC}], search: "o") { nodes { title dueAt } } }',
    "{ tasks(trash: INCLUDE, filter: {or: [{status: {in: [DONE, CANCELLED]}}, {tags: {hasAny: [\"a\"]}}]}) "
    "{ nodes { title status completedAt deletedAt } } }",
    "{ __typename __schema { queryType { name } mutationType { fields { name args { name type { name kind } } } } } }",
    '{ __type(name: "Task") { fields { name type { kind name ofType { name } } } interfaces { name } } viewer { id } }',
    "{ viewer { tasks { edges { node { owner { tokens { edges { node { kind } } pageInfo { hasPreviousPage } } } } } } } }",
    TASTE.partition("mutation Write")[0].replace('"..."', '"{task}"'),
]  # fmt: skip


def seen(answer: Answer) -> tuple[Any, list[str]]:
    """What a client sees of an answer; the order of the errors means nothing."""
    return answer.data, sorted(json.dumps(shown(error), sort_keys=True, default=str) for error in answer.errors)


def shown(error: GraphQLError) -> Any:
    return error.formatted


@pytest.fixture
async def stocked(api: Api, account: Account) -> dict[str, str]:
    """Something to find, and the names of it."""
    names = await names_of(api, account)
    for n, status in enumerate(("TODO", "DONE", "CANCELLED", "IN_PROGRESS")):
        due = None if n == 2 else f"20{20 + n * 5}-01-01T00:00:00Z"
        task = await new_task(api, account, title=f"Report {n}", status=status, tags=["a"] * (n % 2), dueAt=due)
        if n == 3:
            await done(api, "deleteTask", account, id=task["id"])
    return names


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_query_has_one_answer(
    api: Api, stock_api: Api, account: Account, stocked: dict[str, str], query: str, signed_in: bool
) -> None:
    for name, id in stocked.items():
        query = query.replace(f'"{{{name}}}"', f'"{id}"')
    who = account if signed_in else None
    compiled, stock = await api.run(query, who), await stock_api.run(query, who)

    assert seen(compiled) == seen(stock)
    assert compiled.statements == stock.statements


@pytest.mark.parametrize("role", list(Role))
async def test_every_field_has_one_answer(
    api: Api, stock_api: Api, new_account: Callable[..., Any], role: Role
) -> None:
    account = await new_account(role)
    names = await names_of(api, account)
    for name in fields_of("Query"):
        if role is Role.ADMIN and name == "users":
            continue  # other tests' users come and go
        variables = filled(variables_of("Query", name), names)
        document = operation("Query", name, depth=3)
        compiled = await api.run(document, account, **variables)
        stock = await stock_api.run(document, account, **variables)
        assert seen(compiled) == seen(stock), name


@pytest.mark.parametrize("mutation", sorted(DOCUMENTS))
async def test_every_mutation_has_one_answer(
    api: Api, stock_api: Api, new_account: Callable[..., Any], mutation: str
) -> None:
    answers = []
    for executor in (api, stock_api):
        account = await new_account(Role.ADMIN)
        names = await names_of(api, account)
        variables = filled(variables_of("Mutation", mutation), names)
        good = await executor.run(operation("Mutation", mutation), account, **variables)
        bad = {**variables, "input": {**variables.get("input", {}), "idempotencyKey": "short"}}
        refused = await executor.run(DOCUMENTS[mutation], account, **bad)
        anonymous = await executor.run(DOCUMENTS[mutation], None, **bad)
        whole = json.dumps([seen(answer) for answer in (good, refused, anonymous)])
        answers.append(VARYING.sub("*", whole))

    assert answers[0] == answers[1]


async def test_a_signed_in_payload_has_one_answer(api: Api, stock_api: Api) -> None:
    answers = []
    for executor in (api, stock_api):
        given = {"email": f"{uuid.uuid4().hex}@example.org", "name": "Ada", "password": "long enough"}
        answer = await executor.run(operation("Mutation", "signUp", depth=3), None, input=given)
        answers.append(VARYING.sub("*", json.dumps(seen(answer))))

    assert answers[0] == answers[1]


IDS = st.sampled_from(["{task}", "{user}", "{token}", "nothing"])
MOMENTS = st.sampled_from(["2026-01-01T00:00:00Z", "2020-01-01T00:00:00+01:00", "never"])
GENERATED = documents(
    SCHEMA,
    depth=6,
    exclude=["Query.users"],
    scalars={"ID": IDS, "DateTime": MOMENTS, "Int": st.integers(-2, 40)},
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(document=GENERATED)
async def test_whatever_is_asked_has_one_answer(
    api: Api, stock_api: Api, account: Account, stocked: dict[str, str], document: Generated
) -> None:
    query, variables = document.text, json.dumps(document.variables)
    for name, id in stocked.items():
        query = query.replace(f'"{{{name}}}"', f'"{id}"')
        variables = variables.replace(f'"{{{name}}}"', f'"{id}"')
    if api.engine.documents.get(query).errors:  # a literal that its scalar refuses
        return
    compiled = await api.run(query, account, **json.loads(variables))
    stock = await stock_api.run(query, account, **json.loads(variables))

    assert seen(compiled) == seen(stock)
    assert compiled.statements <= stock.statements
