"""How many SQL statements an operation takes, whatever the number of rows, and which columns they read."""

import uuid
from itertools import zip_longest
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.connections.readers import Reader
from persistence.models import Task, User
from persistence.models.base import entities
from persistence.models.ids import new_id
from tests.conftest import QUICK_HASH, Account, Api
from tests.graph.operations import new_task
from tests.graph.samples import fields_of, filled, operation, variables_of
from tests.rows import row_of

pytestmark = pytest.mark.anyio


async def people(engine: AsyncEngine, count: int, tasks: int) -> str:
    """So many users with so many tasks each; returns a name that only they have."""
    name = uuid.uuid4().hex
    users = [
        {"id": new_id(), "email": f"{uuid.uuid4().hex}@example.org", "name": name, "password_hash": QUICK_HASH}
        for _ in range(count)
    ]
    rows = [{"id": new_id(), "owner_id": user["id"], "title": str(n)} for user in users for n in range(tasks)]
    async with engine.begin() as connection:
        await connection.execute(insert(User), users)
        await connection.execute(insert(Task), rows)
    return name


async def filled_with(engine: AsyncEngine, account: Account, number: int) -> tuple[dict[str, str], list[str]]:
    """Make so many rows of each table of somebody: an id of each type by its name, and all of them."""
    ids = {"user": [str(account.id)]}
    async with engine.begin() as connection:
        for entity, model in entities().items():
            if model is not User:
                rows = [row_of(model, account.id, n) for n in range(number)]
                await connection.execute(insert(model), rows)
                ids[entity.lower()] = [str(row["id"]) for row in rows]
    mixed = [id for each in zip_longest(*ids.values()) for id in each if id]
    return {name: of_type[0] for name, of_type in ids.items()}, mixed


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL of all reads."""
    seen: list[str] = []
    fetch = Reader.fetch

    def spying(self: Reader, statement: Any, arguments: Any) -> Any:
        seen.append(statement.sql)
        return fetch(self, statement, arguments)

    monkeypatch.setattr(Reader, "fetch", spying)
    return seen


USERS = "query Users($name: String!) { users(first: 50, filter: {name: {eq: $name}}) { nodes { %s } } }"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("id name", 1),
        ("id tasks(first: 3, orderBy: [{field: CREATED_AT, direction: DESC}]) { nodes { id title } }", 2),
        ("tasks { edges { cursor node { title } } pageInfo { hasNextPage endCursor } }", 2),
        ("tasks { totalCount }", 2),
        ("tasks { totalCount nodes { id } }", 3),
        ("tasks { nodes { owner { name } } }", 3),
        ("tasks { nodes { owner { tasks { nodes { owner { id email } } } } } }", 5),
        ("a: tasks(first: 1) { nodes { id } } b: tasks(last: 1) { nodes { id } } tokens { nodes { id } }", 4),
        ('tasks(search: "1", filter: {status: {eq: TODO}}) { nodes { id } totalCount }', 3),
    ],
)
async def test_the_number_of_statements_does_not_depend_on_the_number_of_rows(
    api: Api, admin: Account, engine: AsyncEngine, fields: str, expected: int
) -> None:
    counts = []
    for number in (1, 50):
        name = await people(engine, number, number // 5 + 1)
        answer = await api.run(USERS % fields, admin, name=name)
        assert answer.errors == []
        assert len(answer.data["users"]["nodes"]) == number
        counts.append(answer.statements)

    assert counts[0] == counts[1]
    assert counts[0] <= expected


async def test_every_question_takes_as_many_statements_for_many_rows_as_for_one(
    api: Api, new_account: Any, engine: AsyncEngine
) -> None:
    for name in fields_of("Query"):
        counts = []
        for number in (1, 50):
            account: Account = await new_account()
            names, ids = await filled_with(engine, account, number)
            variables = filled(variables_of("Query", name), names)
            if name == "nodes":
                variables["ids"] = ids[:90]
            answer = await api.run(operation("Query", name, depth=3), account, **variables)
            assert [error.extensions for error in answer.errors] == ([] if name != "users" else [{"code": "FORBIDDEN"}])
            counts.append(answer.statements)
        assert counts[0] == counts[1], name


async def test_the_owner_of_fifty_tasks_is_read_with_them_or_once(
    api: Api, admin: Account, engine: AsyncEngine
) -> None:
    name = await people(engine, 50, 1)
    query = """query Owners($name: String!) {
        tasks(scope: ALL, first: 50, filter: {owner: {name: {eq: $name}}}) { nodes { id owner { id name email } } } }"""
    answer = await api.run(query, admin, name=name)

    assert len({task["owner"]["id"] for task in answer.data["tasks"]["nodes"]}) == 50
    assert answer.statements <= 2


async def test_nodes_of_several_types_are_one_statement(api: Api, account: Account) -> None:
    tasks = [await new_task(api, account) for _ in range(5)]
    ids = [task["id"] for task in tasks] + [str(account.id), str(account.viewer.token_id), str(uuid.uuid4())]
    query = """query Several($ids: [ID!]!) { nodes(ids: $ids) {
        __typename id ... on Task { title } ... on User { email } ... on Token { prefix } } }"""
    answer = await api.run(query, account, ids=ids)

    kinds = [node and node["__typename"] for node in answer.data["nodes"]]
    assert kinds == ["Task"] * 5 + ["User", "Token", None]
    assert answer.statements == 1


@pytest.mark.parametrize("ids", [[], ["no id", ""]])
async def test_ids_that_name_nothing_ask_nothing(api: Api, account: Account, ids: list[str]) -> None:
    answer = await api.run("query None_($ids: [ID!]!) { nodes(ids: $ids) { id } }", account, ids=ids)

    assert answer.data["nodes"] == [None] * len(ids)
    assert answer.statements == 0


async def test_a_total_costs_a_statement_only_where_it_is_selected(api: Api, account: Account) -> None:
    with_total = await api.run("{ tasks { nodes { id } totalCount } }", account)
    without = await api.run("{ tasks { nodes { id } } }", account)
    alone = await api.run("{ tasks { totalCount } }", account)

    assert (with_total.statements, without.statements, alone.statements) == (2, 1, 1)


async def test_only_what_is_selected_is_read(api: Api, account: Account, statements: list[str]) -> None:
    task = await new_task(api, account)
    statements.clear()
    await api("query T($id: ID!) { task(id: $id) { title completed } }", account, id=task["id"])
    await api("{ tasks { nodes { title } edges { node { overdue } } } }", account)
    await api("query N($id: ID!) { node(id: $id) { id ... on Task { tags } } }", account, id=task["id"])
    await api("{ viewer { ...F } } fragment F on User { role }", account)
    one, page, node, viewer = (sql.partition("FROM")[0] for sql in statements)

    def columns(sql: str, table: str) -> set[str]:
        names = (*Task.__table__.c.keys(), *User.__table__.c.keys())
        return {name for name in names if f"{table}.{name}" in sql}

    assert columns(one, "tasks") == {"id", "title", "status"}
    assert columns(page, "tasks") == {"id", "title", "status", "due_at"}
    assert columns(node, "tasks") == {"id", "tags"}
    assert columns(node, "users") == {"id"}
    assert columns(viewer, "users") == {"id", "role"}


async def test_a_row_more_is_read_only_to_know_whether_there_is_more(
    api: Api, account: Account, statements: list[str]
) -> None:
    for selected, rows in (
        ("nodes { id }", 3),
        ("edges { cursor } pageInfo { endCursor }", 3),
        ("nodes { id } ...P } } fragment P on TaskConnection { pageInfo { hasNextPage", 4),
        ("pageInfo { hasPreviousPage }", 4),
    ):
        statements.clear()
        await api(f"{{ tasks(first: 3) {{ {selected} }} }}", account)
        assert f"LIMIT {rows}" in statements[0]


async def test_nothing_secret_is_ever_read_for_an_answer(
    api: Api, engine: AsyncEngine, admin: Account, account: Account, statements: list[str]
) -> None:
    names, _ = await filled_with(engine, account, 1)
    for name in fields_of("Query"):
        await api(operation("Query", name, depth=3), admin, **filled(variables_of("Query", name), names))

    read = " ".join(statements)
    assert "password_hash" not in read
    assert "secret_hash" not in read


async def test_a_mutation_reads_its_payload_in_a_fixed_number_of_statements(api: Api, account: Account) -> None:
    document = "mutation M($input: CreateTaskInput!) { createTask(input: $input) { task { id title owner { name } } } }"
    answer = await api.run(document, account, input={"title": "x"})

    # The task, its change, and the owner.
    assert answer.statements <= 3
