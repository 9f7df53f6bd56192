"""An id belongs to one entity, whatever its type and however it was written, for ever; the database says so."""

import asyncio
import functools
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from persistence import migrations, nodes, tasks, tokens, users
from persistence.access import OWNER
from persistence.connections.engine import create_engine
from persistence.migrations import MigrationError
from persistence.models import Base, Entity, Scope, Task, TokenKind
from persistence.models.base import Identified, entities
from persistence.rules.errors import Conflict
from persistence.session import Session
from persistence.settings import Settings
from persistence.writes.unique_ids import EVENTS
from tests.conftest import QUICK_HASH, Account
from tests.persistence.conftest import Raw, Write, broken_constraint
from tests.persistence.test_migrations import execute
from tests.rows import row_of

MODELS = list(entities().values())
BEFORE = "0004"
"""The last revision in which each table had ids of its own."""


@pytest.fixture
async def connection(engine: AsyncEngine) -> Any:
    """One whose transaction is rolled back."""
    async with engine.connect() as connection:
        yield connection


async def used_ids(write: Write, new_account: Any) -> dict[str, uuid.UUID]:
    """An id of each type, and one of a task that was purged; all somebody else's."""
    other = await new_account()
    purged = await write(lambda s: tasks.create(s, other.viewer, title="theirs"))
    await write(lambda s: tasks.purge(s, other.viewer, purged.id))
    return {"User": other.id, **await rows_of(write, other), "purged": purged.id}


async def rows_of(write: Write, account: Account) -> dict[str, uuid.UUID]:
    """A new row of each table that somebody owns something in: its id by the name of its type."""
    rows = {name: row_of(model, account.id) for name, model in entities().items() if name != "User"}

    async def work(session: Session) -> None:
        session.add_all(entities()[name](**values) for name, values in rows.items())

    await write(work)
    return {name: values["id"] for name, values in rows.items()}


def test_every_type_of_the_api_has_an_owner_and_an_id() -> None:
    assert set(MODELS) == set(OWNER)
    assert all(issubclass(model, Identified) for model in MODELS)


@pytest.mark.anyio
@pytest.mark.parametrize("model", MODELS)
async def test_no_way_of_writing_gives_a_row_an_id_that_anything_has_or_had(
    model: type[Base], connection: AsyncConnection, write: Write, account: Account, new_account: Any
) -> None:
    """A row of each table is taken out and put in again with another id: so new tables are tried as well."""
    await rows_of(write, account)
    taken, table = await used_ids(write, new_account), model.__tablename__
    assert set(taken) == {*entities(), "purged"}
    columns = ", ".join(c.name for c in model.__table__.columns if c.computed is None and c.name != "id")
    known = {"others": list(taken.values())}
    row = text(f"SELECT id FROM {table} WHERE id <> ALL (:others) LIMIT 1")
    [id] = (await connection.execute(row, known)).scalars()
    await connection.execute(
        text(f"CREATE TEMPORARY TABLE held ON COMMIT DROP AS SELECT * FROM {table} WHERE id = '{id}'")
    )
    insert = f"INSERT INTO {table} (id, {columns}) SELECT :id, {columns} FROM held"
    del taken[model.__entity__]  # its primary key says so
    tried = 0
    for other in taken.values():
        for way in (insert, f"{insert} ON CONFLICT DO NOTHING", f"UPDATE {table} SET id = :id WHERE id = :before"):
            async with connection.begin_nested() as point:
                before = uuid.uuid4()
                await connection.execute(text(f"DELETE FROM {table} WHERE id = :id"), {"id": id})
                if way.startswith("UPDATE"):
                    await connection.execute(text(insert), {"id": before})
                values = {"id": other, "before": before} if way.startswith("UPDATE") else {"id": other}
                assert await broken_constraint(connection.execute(text(way), values)) == "pk_entities"
                await point.rollback()
            tried += 1
    assert tried == 3 * len(MODELS)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [*entities(), "purged"])
async def test_an_id_that_anything_has_or_had_is_taken_for_a_task_a_token_and_a_user(
    write: Write, new_account: Any, account: Account, kind: str
) -> None:
    id = (await used_ids(write, new_account))[kind]
    refused = []
    for work in (
        lambda s: tasks.create(s, account.viewer, id=id, title="decoy"),
        lambda s: token_with(s, account, id),
        lambda s: users.create(s, email=f"{uuid.uuid4().hex}@example.org", name="Eve", password_hash="!", id=id),
    ):
        with pytest.raises(Conflict) as caught:
            await write(work)
        refused.append((str(caught.value), caught.value.code, caught.value.path, caught.value.current))

    assert refused == [("This id is taken.", "ID_TAKEN", ("id",), None)] * 3


async def token_with(session: Session, account: Account, id: uuid.UUID) -> Any:
    return await tokens.issue(
        session,
        account.id,
        kind=TokenKind.PERSONAL,
        name="decoy",
        scopes=[Scope.READ],
        secret=tokens.new_secret(),
        expires_at=None,
        id=id,
    )


@pytest.mark.anyio
async def test_of_two_types_that_take_an_id_at_the_same_moment_one_gets_it(
    write: Write, session: Session, account: Account, raw: Raw
) -> None:
    ids = [uuid.uuid4() for _ in range(8)]
    columns = {name: frozenset({"id"}) for name in entities()}

    async def first_of_two(id: uuid.UUID) -> list[object]:
        works: list[Callable[[Session], Any]] = [
            lambda s: tasks.create(s, account.viewer, id=id, title="x"),
            lambda s: token_with(s, account, id),
            lambda s: users.create(s, email=f"{id.hex}@example.org", name="Eve", password_hash=QUICK_HASH, id=id),
        ]
        return list(await asyncio.gather(*(write(work) for work in works), return_exceptions=True))

    outcomes = await asyncio.gather(*(first_of_two(id) for id in ids))

    for id, outcome in zip(ids, outcomes, strict=True):
        [refused, also] = [error for error in outcome if isinstance(error, Exception)]
        assert isinstance(refused, Conflict)
        assert isinstance(also, Conflict)
        everywhere = " UNION ALL ".join(f"SELECT id FROM {model.__tablename__} WHERE id = :id" for model in MODELS)
        assert len(await raw(everywhere, id=id)) == 1
    assert await nodes.by_ids(session, account.viewer, ids, columns)


@pytest.mark.anyio
async def test_an_id_is_free_again_when_its_transaction_is_rolled_back(write: Write, account: Account) -> None:
    id = uuid.uuid4()

    async def work(session: Session) -> None:
        await token_with(session, account, id)
        raise LookupError

    with pytest.raises(LookupError):
        await write(work)

    assert (await write(lambda s: tasks.create(s, account.viewer, id=id, title="x"))).id == id


@pytest.mark.anyio
async def test_a_row_can_get_an_id_that_is_free_and_keeps_both_taken(write: Write, account: Account, raw: Raw) -> None:
    task, new = await write(lambda s: tasks.create(s, account.viewer, title="x")), uuid.uuid4()
    await raw("UPDATE tasks SET id = :new WHERE id = :id", id=task.id, new=new)

    for id in (task.id, new):
        with pytest.raises(Conflict):
            await write(functools.partial(token_with, account=account, id=id))


def test_a_table_of_entities_without_its_triggers_is_named(new_database: Callable[[], str]) -> None:
    url = new_database()
    migrations.upgrade(url)
    for name in EVENTS:
        for damage in ("DROP TRIGGER {} ON tokens", "ALTER TABLE tokens DISABLE TRIGGER {}"):
            if "DISABLE" in damage:
                damage = damage.replace("TABLE tokens", "TABLE users").replace("ON tokens", "")
            execute(url, damage.format(name))

    with pytest.raises(MigrationError) as caught:
        migrations.check(url)

    for table in ("tokens", "users"):
        for name in EVENTS:
            assert f"CREATE OR REPLACE TRIGGER {name} AFTER" in str(caught.value)
            assert f" ON {table} " in str(caught.value)
    assert " ON tasks " not in str(caught.value)


@pytest.fixture
def old(new_database: Callable[[], str]) -> str:
    """A database of before, with a user, a token, and tasks in more than one batch; one was purged."""
    url = new_database()
    migrations.upgrade(url, BEFORE)
    execute(
        url,
        "INSERT INTO users (id, email, name, password_hash) VALUES (md5('u')::uuid, 'a@example.org', 'Ada', '!')",
        "INSERT INTO tokens (id, user_id, name, kind, scopes, prefix, secret_hash) VALUES"
        " (md5('t')::uuid, md5('u')::uuid, 't', 'personal', '{read}', 'p', sha256('x'))",
        "INSERT INTO tasks (id, owner_id, title) SELECT md5('task ' || n)::uuid, md5('u')::uuid, 'x'"
        " FROM generate_series(1, 2500) n",
        "INSERT INTO changes (id, entity, entity_id, owner_id, action)"
        " VALUES (md5('c')::uuid, 'Task', md5('gone')::uuid, md5('u')::uuid, 'purged')",
    )
    return url


REGISTERED = "SELECT entity || ' ' || count(*) FROM entities GROUP BY entity ORDER BY entity"


def test_a_migration_registers_what_there_is_and_what_was_purged(old: str) -> None:
    migrations.upgrade(old)

    assert execute(old, REGISTERED) == ["Task 2501", "Token 1", "User 1"]
    migrations.downgrade(old, BEFORE)
    migrations.upgrade(old)
    assert execute(old, REGISTERED) == ["Task 2501", "Token 1", "User 1"]
    migrations.check(old)


def test_ids_that_are_taken_twice_are_named_and_the_way_that_is_named_mends_it(old: str) -> None:
    execute(
        old,
        "INSERT INTO tasks (id, owner_id, title) SELECT md5(name)::uuid, md5('u')::uuid, 'decoy'"
        " FROM unnest(ARRAY['u', 't']) AS name",
    )

    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(old)

    message = str(caught.value)
    [user, token] = execute(old, "SELECT md5(name)::uuid::text FROM unnest(ARRAY['u', 't']) AS name")
    assert "2 rows of tasks have the id of something else" in message
    assert f"User {user}" in message
    assert f"Token {token}" in message
    assert "\n" not in message
    mend = message[message.index("UPDATE tasks") :]
    execute(old, mend)
    migrations.upgrade(old)
    assert execute(old, REGISTERED) == ["Task 2503", "Token 1", "User 1"]
    assert execute(old, "SELECT count(*) FROM tasks WHERE title = 'decoy'") == [2]


@pytest.mark.anyio
async def test_what_is_written_while_the_migration_runs_is_registered(old: str) -> None:
    engine = create_engine(Settings(database_url=old))
    begun, done = asyncio.Event(), asyncio.Event()
    made: list[uuid.UUID] = []

    async def write() -> None:
        while not done.is_set():
            id = uuid.uuid4()
            async with engine.begin() as connection:
                insert = "INSERT INTO tasks (id, owner_id, title) VALUES (:id, md5('u')::uuid, 'meanwhile')"
                await connection.execute(text(insert), {"id": id})
            made.append(id)
            if len(made) >= 10:
                begun.set()

    writers = [asyncio.create_task(write()) for _ in range(3)]
    await begun.wait()
    before = len(made)
    try:
        await asyncio.to_thread(migrations.upgrade, old)
    finally:
        done.set()
        await asyncio.gather(*writers)
        await engine.dispose()

    missing = "SELECT count(*) FROM tasks WHERE NOT EXISTS (SELECT FROM entities WHERE entities.id = tasks.id)"
    assert await asyncio.to_thread(execute, old, missing) == [0]
    assert len(made) > before


def test_nothing_but_the_database_writes_the_registry() -> None:
    assert Entity.__table__ not in {model.__table__ for model in MODELS}
    assert Task.__table__.c.id.primary_key
