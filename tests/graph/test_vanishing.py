"""What is deleted between two statements of one operation is gone for its answer too, and no bug."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.session import Session
from tests.conftest import Account, Api
from tests.graph.operations import DOCUMENTS, MUTATIONS, done, new_task

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

OF_TASK = sorted(name for name, fields in MUTATIONS.items() if fields.startswith("task"))


class Deletion:
    """Deletes an account just before the next statement that reads users by their ids."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine, self.erased, self.happened = engine, True, 0
        self.victim: uuid.UUID | None = None

    async def __call__(self, sql: str) -> None:
        if self.victim is not None and "FROM users" in sql and "users.id = ANY" in sql and not self.happened:
            self.happened += 1
            session = Session(self.engine)
            await session.transact(self._delete)

    async def _delete(self, session: Session) -> None:
        if self.erased:
            await session.execute(text("DELETE FROM users WHERE id = :id"), {"id": self.victim})
        else:
            await session.execute(text("INSERT INTO closed_accounts (user_id) VALUES (:id)"), {"id": self.victim})


@pytest.fixture(params=["erased", "closed"])
def deletion(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Deletion]:
    deletion, fetch = Deletion(engine), Session.fetch
    deletion.erased = request.param == "erased"

    async def first(session: Session, statement: Any, values: Any) -> Any:
        await deletion(statement.sql)
        return await fetch(session, statement, values)

    monkeypatch.setattr(Session, "fetch", first)
    yield deletion
    assert deletion.happened == 1


def codes(errors: list[GraphQLError]) -> list[tuple[Any, Any]]:
    return [((error.extensions or {}).get("code"), error.path) for error in errors]


async def test_a_node_is_gone_with_its_owner(api: Api, admin: Account, account: Account, deletion: Deletion) -> None:
    task = await new_task(api, account)
    own = await new_task(api, admin)
    deletion.victim = account.id
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Task { title owner { id name email } } } }"
    answer = await api.run(query, admin, ids=[task["id"], own["id"]])

    gone, left = answer.data["nodes"]
    assert gone is None
    assert left["owner"]["id"] == str(admin.id)
    assert codes(answer.errors) == [("NOT_FOUND", ["nodes", 0, "owner"])]


@pytest.mark.parametrize("mutation", OF_TASK)
async def test_a_written_task_is_gone_with_its_owner(
    api: Api, admin: Account, account: Account, deletion: Deletion, mutation: str
) -> None:
    given = {"title": "Write", "ownerId": str(account.id)}
    if mutation != "createTask":
        task = await new_task(api, account)
        if mutation == "restoreTask":
            await done(api, "deleteTask", account, id=task["id"])
        given = {"id": task["id"]}
    deletion.victim = account.id
    answer = await api.run(DOCUMENTS[mutation], admin, input=given)

    assert answer.data[mutation] == {"task": None, "replayed": False, "errors": []}
    assert codes(answer.errors) == [("NOT_FOUND", [mutation, "task", "owner"])]


async def test_what_a_conflict_shows_is_gone_with_its_owner(
    api: Api, admin: Account, account: Account, deletion: Deletion
) -> None:
    task = await new_task(api, account)
    deletion.victim = account.id
    mutation = """mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { id }
        errors { code ... on ConflictError { current { ... on Task { title owner { name } } } currentVersion } } } }"""
    answer = await api.run(mutation, admin, input={"id": task["id"], "ifVersion": 7})

    error = {"code": "STALE_VERSION", "current": None, "currentVersion": 1}
    assert answer.data["updateTask"] == {"task": None, "errors": [error]}
    assert codes(answer.errors) == [("NOT_FOUND", ["updateTask", "errors", 0, "current", "owner"])]
