"""Every mutation leaves exactly its rows in the change log."""

import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import DOCUMENTS, bearer, done, new_task, write
from tests.graph.samples import filled, variables_of
from tests.graph.walk import marks, names_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]


class Log:
    """The changes since the last look, as (entity, action, id, owner, actor, version, names of the fields)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine, self.seen = engine, 0

    async def new(self) -> list[tuple[Any, ...]]:
        columns = "entity, action, entity_id, owner_id, actor_id, version, fields"
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                text(f"SELECT seq, {columns} FROM changes WHERE seq > :seen ORDER BY seq"), {"seen": self.seen}
            )
            found = [tuple(row) for row in rows]
        self.seen = max((row[0] for row in found), default=self.seen)
        return [(*row[1:7], None if row[7] is None else sorted(row[7])) for row in found]


@pytest.fixture
async def log(engine: AsyncEngine) -> Log:
    log = Log(engine)
    await log.new()
    return log


async def test_every_mutation_leaves_exactly_its_changes(api: Api, log: Log, admin: Account) -> None:
    await log.new()
    driven = set()

    async def drive(mutation: str, account: Account | None, /, **given: Any) -> Any:
        driven.add(mutation)
        return await done(api, mutation, account, **given)

    email = f"{uuid.uuid4().hex}@example.org"
    signed_up = await drive("signUp", None, email=email, name="Ada", password=PASSWORD)
    account = await bearer(api, signed_up)
    me, session = account.id, account.viewer.token_id
    of_token = ["kind", "name", "prefix", "scopes", "expires_at", "user_id"]
    assert await log.new() == [
        ("User", "created", me, me, None, 1, ["email", "name", "role", "time_zone"]),
        ("Token", "created", session, me, me, None, sorted(of_token)),
    ]

    other = await bearer(api, await drive("signIn", None, email=email, password=PASSWORD))
    assert await log.new() == [("Token", "created", other.viewer.token_id, me, me, None, sorted(of_token))]

    await drive("updateViewer", account, name="Grace", timeZone="Asia/Tokyo")
    assert await log.new() == [("User", "updated", me, me, me, 2, ["name", "time_zone"])]

    await drive("changePassword", account, currentPassword=PASSWORD, newPassword="a new password")
    assert sorted(await log.new(), key=str) == sorted(
        [
            ("User", "updated", me, me, me, 3, []),
            ("Token", "updated", other.viewer.token_id, me, me, None, ["revoked_at"]),
        ],
        key=str,
    )

    made = await drive("createToken", account, name="x", scopes=["READ"])
    token = uuid.UUID(made["token"]["id"])
    await drive("revokeToken", account, id=str(token))
    assert await log.new() == [
        ("Token", "created", token, me, me, None, sorted(of_token)),
        ("Token", "updated", token, me, me, None, ["revoked_at"]),
    ]

    created = await drive("createTask", account, title="Write", tags=["a"], dueAt="2030-01-01T00:00:00Z")
    task = uuid.UUID(created["task"]["id"])
    await drive("updateTask", account, id=str(task), title="Rewrite", addTags=["b"])
    await drive("completeTask", account, id=str(task))
    await drive("reopenTask", account, id=str(task))
    await drive("deleteTask", account, id=str(task))
    await drive("restoreTask", account, id=str(task))
    of_task = ["due_at", "owner_id", "priority", "status", "tags", "title"]
    assert await log.new() == [
        ("Task", "created", task, me, me, 1, of_task),
        ("Task", "updated", task, me, me, 2, ["tags", "title"]),
        ("Task", "updated", task, me, me, 3, ["completed_at", "status"]),
        ("Task", "updated", task, me, me, 4, ["completed_at", "status"]),
        ("Task", "deleted", task, me, me, 5, ["deleted_at"]),
        ("Task", "restored", task, me, me, 6, ["deleted_at"]),
    ]
    await drive("purgeTask", account, id=str(task))
    assert await log.new() == [("Task", "purged", task, me, me, 6, None)]

    await drive("signOut", account)
    assert await log.new() == [("Token", "updated", session, me, me, None, ["revoked_at"])]

    user = await drive("createUser", admin, email=f"{uuid.uuid4().hex}@example.org", name="Bob", password=PASSWORD)
    bob = uuid.UUID(user["user"]["id"])
    await drive("updateUser", admin, id=str(bob), role="ADMIN")
    await drive("deleteUser", admin, id=str(bob))
    assert [row[:6] for row in await log.new()] == [
        ("User", "created", bob, bob, admin.id, 1),
        ("User", "updated", bob, bob, admin.id, 2),
        ("User", "purged", bob, bob, admin.id, 2),
    ]

    again = await bearer(api, await drive("signIn", None, email=email, password="a new password"))
    left = await new_task(api, again)
    await log.new()
    await drive("deleteViewer", again, password="a new password")
    purged = await log.new()
    assert all(row[1] == "purged" and row[3] == me and row[4] == me and row[6] is None for row in purged)
    assert sorted(row[0] for row in purged) == ["Task", "Token", "Token", "Token", "Token", "User"]
    assert uuid.UUID(left["id"]) in {row[2] for row in purged}

    for mutation in sorted(set(DOCUMENTS) - driven):  # of types that are not named here
        somebody = await bearer(api, await done(api, "signUp", None, email=address(), name="Ada", password=PASSWORD))
        given = filled(variables_of("Mutation", mutation), await names_of(api, somebody))["input"]
        await log.new()
        await drive(mutation, somebody, **given, **marks(mutation))
        [(entity, action, _, *who, _, _)] = await log.new()
        assert (mutation.endswith(entity), set(who)) == (True, {somebody.id})
        assert action in ("created", "updated", "deleted", "restored", "purged")

    assert driven == set(DOCUMENTS), "a mutation that no change was looked for"


def address() -> str:
    return f"{uuid.uuid4().hex}@example.org"


async def test_what_is_refused_or_changes_nothing_leaves_no_change(api: Api, log: Log, account: Account) -> None:
    task = await new_task(api, account, tags=["a"])
    await log.new()
    await write(api, "createTask", account, title="")
    await write(api, "updateTask", account, id=task["id"], ifVersion=7, title="New")
    await write(api, "updateTask", account, id=task["id"], title=task["title"], tags=["A"])
    await write(api, "reopenTask", account, id=task["id"])
    await write(api, "restoreTask", account, id=task["id"])
    await write(api, "deleteTask", account, id=str(uuid.uuid4()))
    await write(api, "deleteViewer", account, password="wrong password")

    assert await log.new() == []


async def test_a_retry_leaves_no_second_change(api: Api, log: Log, account: Account) -> None:
    given = {"title": "x", "idempotencyKey": str(uuid.uuid4())}
    await done(api, "createTask", account, **given)
    assert len(await log.new()) > 0
    await done(api, "createTask", account, **given)

    assert await log.new() == []


async def test_an_admin_is_named_as_who_changed_it(api: Api, log: Log, account: Account, admin: Account) -> None:
    await log.new()
    task = await new_task(api, admin, ownerId=str(account.id))
    await done(api, "completeTask", admin, id=task["id"])

    assert [(row[1], row[3], row[4]) for row in await log.new()] == [
        ("created", account.id, admin.id),
        ("updated", account.id, admin.id),
    ]
