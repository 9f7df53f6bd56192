"""The words of migrations: nobody waits long, what was interrupted may be repeated, the SQL for people is the same."""

import asyncio
import io
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from persistence import migrations, online
from persistence.connections.engine import DatabaseUnreachable, create_engine
from persistence.connections.failures import sqlstate
from persistence.settings import Settings

pytestmark = pytest.mark.anyio

Migrate = Callable[[Callable[[], None]], Any]


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """Of an own database with a table of 2,500 things of 3 owners."""
    engine = create_engine(Settings(database_url=url, statement_timeout=60.0, lock_timeout=60.0), pooled=False)
    async with engine.begin() as connection:
        for statement in (
            "CREATE TABLE owners (id integer PRIMARY KEY)",
            "CREATE TABLE things (id bigint, shelf text, owner_id integer, n integer, PRIMARY KEY (shelf, id))",
            "INSERT INTO owners SELECT generate_series(0, 2)",
            "INSERT INTO things SELECT 5000000000 + i, 's' || i % 7, i % 3, NULL FROM generate_series(1, 2500) AS i",
        ):
            await connection.execute(sa.text(statement))
    yield engine
    await engine.dispose()


@pytest.fixture
def migrate(engine: AsyncEngine) -> Migrate:
    """Runs something as the body of a migration, in a thread."""

    async def run(body: Callable[[], None]) -> None:
        def as_migration(connection: sa.Connection) -> None:
            context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
            with Operations.context(context), context.begin_transaction(_per_migration=True):
                body()

        async def alone() -> None:
            async with engine.connect() as connection:
                await connection.run_sync(as_migration)

        await asyncio.to_thread(lambda: asyncio.run(alone()))

    return run


async def rows(engine: AsyncEngine, statement: str) -> list[Any]:
    async with engine.begin() as connection:
        return list((await connection.execute(sa.text(statement))).scalars())


async def lock(connection: AsyncConnection, mode: str) -> None:
    await connection.execute(sa.text(f"LOCK TABLE things IN {mode} MODE"))


async def until(engine: AsyncEngine, statement: str) -> None:
    """Wait until a statement gives a row."""
    async with asyncio.timeout(30):
        while not await rows(engine, statement):  # noqa: ASYNC110  # happens in the server
            await asyncio.sleep(0.002)


async def wait_for(engine: AsyncEngine, mode: str) -> None:
    """Until somebody waits for a lock of things in a mode."""
    relation = "relation = 'things'::regclass"
    await until(engine, f"SELECT true FROM pg_locks WHERE {relation} AND mode = '{mode}' AND NOT granted")


def everything() -> None:
    online.column("things", sa.Column("note", sa.String(20), server_default="", nullable=False))
    online.column("things", sa.Column("part", sa.Integer()))
    online.check("things", "shelf", "shelf ~ '^s[[:digit:]]$' AND shelf::text <> ':x'")
    online.foreign_key("things", ["owner_id"], "owners", ondelete="CASCADE")
    online.index("ix_things_owner_id", "things", ["owner_id", "(shelf || ':')"], where="n > 0", include=["part"])
    online.unique("things", ["id"])
    online.batches("things", "UPDATE things SET n = id % 10 WHERE {batch} AND n IS NULL", key=("shelf", "id"), size=100)
    online.not_null("things", "n")
    online.execute("COMMENT ON TABLE things IS 'a:b'", "things")


def nothing() -> None:
    online.drop_not_null("things", "n")
    online.drop_constraint("things", "uq_things_id")
    online.drop_index("ix_things_owner_id")
    online.drop_constraint("things", "fk_things_owner_id_owners")
    online.drop_constraint("things", "ck_things_shelf")
    online.drop_column("things", "part")
    online.drop_column("things", "note")
    online.drop_table("owners")


SCHEMA = """
SELECT format('%s %s %s', attname, atttypid::regtype, attnotnull) FROM pg_attribute
WHERE attrelid = 'things'::regclass AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT format('%s %s %s', conname, pg_get_constraintdef(oid), convalidated) FROM pg_constraint
WHERE conrelid = 'things'::regclass
UNION ALL SELECT format('%s %s', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index
WHERE indrelid = 'things'::regclass
UNION ALL SELECT format('%s rows', count(*)) FROM things WHERE n = id % 10
ORDER BY 1
"""


async def test_what_was_done_may_be_done_again_and_taken_back_and_taken_back_again(
    engine: AsyncEngine, migrate: Migrate
) -> None:
    before = await rows(engine, SCHEMA)
    await migrate(everything)
    once = await rows(engine, SCHEMA)
    await migrate(everything)
    twice = await rows(engine, SCHEMA)
    await migrate(nothing)
    await migrate(nothing)
    after = await rows(engine, SCHEMA)

    assert once == twice
    assert "2500 rows" in once
    for part in ("note character varying t", "ck_things_shelf", "fk_things_owner_id_owners", "uq_things_id UNIQUE"):
        assert any(part in line for line in once), part
    assert not any("NOT VALID" in line or ("INDEX" in line and line.endswith(" f")) for line in once)
    assert set(after) - set(before) == {"2500 rows"}


async def test_the_sql_for_people_does_the_same(engine: AsyncEngine, url: str, migrate: Migrate) -> None:
    script = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": script, "literal_binds": True}
    )
    with Operations.context(context), context.begin_transaction(_per_migration=True):
        everything()

    psql = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]
    done = await asyncio.to_thread(
        lambda: subprocess.run(psql, input=script.getvalue(), text=True, capture_output=True)
    )
    by_hand = await rows(engine, SCHEMA)
    await migrate(everything)

    assert done.returncode == 0, done.stderr
    assert by_hand == await rows(engine, SCHEMA)


@pytest.mark.parametrize("body", [everything, nothing])
async def test_what_is_interrupted_after_any_statement_is_finished_by_running_it_again(
    engine: AsyncEngine, migrate: Migrate, monkeypatch: pytest.MonkeyPatch, body: Callable[[], None]
) -> None:
    class Interrupted(Exception):
        pass

    if body is nothing:
        await migrate(everything)
    real_run, statements = online.run, 0

    def run(*them: str) -> None:
        nonlocal statements
        for statement in them:
            if statements >= limit:
                raise Interrupted
            statements += 1
            real_run(statement)

    monkeypatch.setattr(online, "run", run)
    limit, interruptions = 0, 0
    while True:
        statements = 0
        try:
            await migrate(body)
            break
        except Interrupted:
            limit, interruptions = limit + 3, interruptions + 1
    assert interruptions > 10

    done = await rows(engine, SCHEMA)
    monkeypatch.undo()
    await migrate(body)
    assert done == await rows(engine, SCHEMA)


async def test_others_pass_while_a_statement_waits_for_a_reader_that_does_not_end(
    engine: AsyncEngine, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LOCK_TIMEOUT", 100)
    async with engine.connect() as reader:
        await lock(reader, "ACCESS SHARE")
        migration = asyncio.create_task(migrate(lambda: online.column("things", sa.Column("a", sa.Text()))))
        for _ in range(3):
            await wait_for(engine, "AccessExclusiveLock")
            # Without giving up it would stand before these for as long as the reader stays.
            await rows(engine, "UPDATE things SET n = 1 WHERE id = 5000000001 RETURNING n")
        assert not migration.done()
    await migration

    assert "a" in await rows(engine, "SELECT attname FROM pg_attribute WHERE attrelid = 'things'::regclass")


async def test_nobody_waits_while_a_statement_waits_for_vacuum(engine: AsyncEngine, migrate: Migrate) -> None:
    async with engine.connect() as vacuum:
        await lock(vacuum, "SHARE UPDATE EXCLUSIVE")
        migration = asyncio.create_task(migrate(lambda: online.check("things", "n", "n < 100")))
        await wait_for(engine, "ShareUpdateExclusiveLock")
        async with engine.begin() as writer:
            await writer.execute(sa.text("SET LOCAL lock_timeout = 1"))
            await writer.execute(sa.text("UPDATE things SET n = 1 WHERE id = 5000000001"))
    await migration


async def test_a_statement_gives_up_when_its_patience_ends(
    engine: AsyncEngine, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LOCK_TIMEOUT", 20)
    monkeypatch.setattr(online, "PATIENCE", 1.0)
    async with engine.connect() as reader:
        await lock(reader, "ACCESS SHARE")
        with pytest.raises(sa.exc.DBAPIError) as caught:
            await migrate(lambda: online.drop_column("things", "n"))

    assert sqlstate(caught.value) == "55P03"


async def test_an_index_that_a_failure_left_invalid_is_made_again(engine: AsyncEngine, migrate: Migrate) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        await migrate(lambda: online.index("ix_n", "things", ["owner_id"], unique=True))
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_n'::regclass"
    assert await rows(engine, valid) == [False]

    await rows(engine, "DELETE FROM things WHERE id > 5000000003 RETURNING id")
    await migrate(lambda: online.index("ix_n", "things", ["owner_id"], unique=True))
    assert await rows(engine, valid) == [True]


async def test_an_index_waits_for_a_long_transaction_and_keeps_nobody_out(
    engine: AsyncEngine, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LOCK_TIMEOUT", 10)
    async with engine.connect() as writer:
        await lock(writer, "ROW EXCLUSIVE")
        migration = asyncio.create_task(migrate(lambda: online.index("ix_n", "things", ["n"])))
        await until(engine, "SELECT true FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted")
        await rows(engine, "UPDATE things SET n = 1 WHERE id = 5000000001 RETURNING n")
        assert not migration.done()
    await migration

    assert await rows(engine, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_n'::regclass") == [True]


async def test_a_batch_waits_for_a_locked_row_and_lets_others_have_theirs(
    engine: AsyncEngine, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "LOCK_TIMEOUT", 50)
    async with engine.connect() as writer:
        await writer.execute(sa.text("SELECT FROM things WHERE id = 5000000001 FOR UPDATE"))
        body = "UPDATE things SET n = 7 WHERE {batch} AND n IS NULL"
        migration = asyncio.create_task(migrate(lambda: online.batches("things", body, key=("shelf", "id"), size=2000)))
        waiting = "SELECT true FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        for id in (5000000008, 5000000015, 5000000022):
            await until(engine, waiting)
            await rows(engine, f"UPDATE things SET n = 1 WHERE id = {id} RETURNING n")
        assert not migration.done()
    await migration

    assert await rows(engine, "SELECT n || ' ' || count(*) FROM things GROUP BY n ORDER BY n") == ["1 3", "7 2497"]


async def test_who_waits_for_a_turn_to_migrate_is_in_nobodys_way(url: str, engine: AsyncEngine) -> None:
    async with engine.connect() as other, engine.connect() as connection:
        await other.execute(sa.text("SELECT pg_advisory_xact_lock(7236475001)"))
        await other.execute(sa.text("SET LOCAL lock_timeout = 0"))  # lets go of the snapshot
        waiting = asyncio.create_task(asyncio.to_thread(migrations.upgrade, url))
        await until(
            engine, "SELECT true FROM pg_stat_activity WHERE datname = current_database() AND query ~ 'ROLLBACK'"
        )
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("CREATE INDEX CONCURRENTLY ix_n ON things (n)"))
        assert not waiting.done()
    await waiting


async def test_who_migrates_keeps_no_snapshot_for_the_turn_and_nothing_afterwards(
    url: str, engine: AsyncEngine
) -> None:
    await asyncio.to_thread(migrations.upgrade, url, "0002")
    turn = """SELECT coalesce(backend_xmin::text, 'none') FROM pg_locks JOIN pg_stat_activity USING (pid)
              WHERE locktype = 'advisory' AND query ~ 'SET LOCAL'"""
    async with engine.connect() as reader:
        await reader.execute(sa.text("LOCK TABLE tasks IN ACCESS SHARE MODE"))
        migrating = asyncio.create_task(asyncio.to_thread(migrations.upgrade, url, "0003"))
        await until(engine, turn)
        assert await rows(engine, turn) == ["none"]
    await migrating

    assert await rows(engine, "SELECT objid FROM pg_locks WHERE locktype = 'advisory'") == []


# The connection that changes tables, and the one that holds the turn.
@pytest.mark.parametrize("running", ["ALTER TABLE", "SET LOCAL lock_timeout = 0"])
async def test_a_migration_whose_connection_is_cut_says_so_and_the_next_goes_on(
    url: str, engine: AsyncEngine, running: str
) -> None:
    await asyncio.to_thread(migrations.upgrade, url, "0002")
    victims = f"FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '{running}%'"
    async with engine.connect() as reader:
        await reader.execute(sa.text("LOCK TABLE tasks IN ACCESS SHARE MODE"))
        migrating = asyncio.create_task(asyncio.to_thread(migrations.upgrade, url, "0003"))
        await until(engine, f"SELECT true {victims}")
        assert await rows(engine, f"SELECT pg_terminate_backend(pid, 5000) {victims}") == [True]
    with pytest.raises((DatabaseUnreachable, migrations.MigrationError)) as caught:
        await migrating
    assert "\n" not in str(caught.value)
    await asyncio.to_thread(migrations.upgrade, url)

    assert (await asyncio.to_thread(migrations.status, url)).is_current
