"""Migrations: back and forth, the same as the models, patient but not for ever, on every supported PostgreSQL."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Column, Integer, text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import migrations, online, tasks, users
from persistence.connections.engine import DatabaseUnreachable, create_engine
from persistence.lists import pages
from persistence.lists.listing import Query, Window
from persistence.migrations import MigrationError
from persistence.models import Base, Role, Scope
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from persistence.words.searching import tsquery
from tests.conftest import QUICK_HASH
from tests.persistence import servers
from tests.persistence.servers import Server


@pytest.fixture(params=["embedded", "15"])
def empty_database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, on the embedded server and on PostgreSQL 15."""
    if request.param == "embedded":
        make: Callable[[], str] = request.getfixturevalue("new_database")
        return make()
    url: str = request.getfixturevalue("postgres15").url
    execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return url


def execute(url: str, *statements: str) -> list[Any]:
    """The first column of the last statement's rows."""

    async def run() -> list[Any]:
        engine = create_engine(Settings(database_url=url), pooled=False)
        try:
            async with engine.begin() as connection:
                for statement in statements:
                    result = await connection.execute(text(statement))
                return list(result.scalars()) if result.returns_rows else []
        finally:
            await engine.dispose()

    return asyncio.run(run())


TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"


def test_migrations_go_up_down_and_up_again_and_agree_with_the_models(empty_database: str) -> None:
    migrations.upgrade(empty_database)
    assert set(execute(empty_database, TABLES)) == {"alembic_version", *Base.metadata.tables}
    migrations.check(empty_database)

    migrations.downgrade(empty_database)
    assert execute(empty_database, TABLES) == ["alembic_version"]
    assert execute(empty_database, FUNCTIONS) == []

    migrations.upgrade(empty_database)
    migrations.check(empty_database)
    assert migrations.status(empty_database).is_current


def test_an_empty_database_has_no_revision(empty_database: str) -> None:
    status = migrations.status(empty_database)

    assert (status.current, status.head, status.is_current) == (None, migrations.head(), False)


def test_a_migrated_database_has_the_revision_of_the_code(settings: Settings) -> None:
    assert settings.database_url is not None
    assert migrations.status(settings.database_url) == migrations.Status(migrations.head(), migrations.head())


@pytest.mark.anyio
async def test_the_current_revision_is_read_through_a_pool(engine: AsyncEngine) -> None:
    assert await migrations.current(engine) == migrations.head()


def test_upgrading_again_does_nothing(settings: Settings) -> None:
    assert settings.database_url is not None
    migrations.upgrade(settings.database_url)


def test_a_model_with_another_column_is_found(settings: Settings) -> None:
    assert settings.database_url is not None
    table = Base.metadata.tables["tasks"]
    column = Column("surprise", Integer)
    table.append_column(column)

    try:
        with pytest.raises(MigrationError, match="surprise") as caught:
            migrations.check(settings.database_url)
    finally:
        table._columns.remove(column)

    assert "\n" not in str(caught.value)
    migrations.check(settings.database_url)


def test_every_way_in_which_a_database_differs_from_the_models_is_named(migrated: str) -> None:
    execute(
        migrated,
        "ALTER TABLE users ADD COLUMN surprise integer",
        "ALTER TABLE users ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE users ALTER COLUMN time_zone SET DEFAULT 'Europe/Berlin'",
        "ALTER TABLE tokens ALTER COLUMN name TYPE varchar(100)",
        "DROP INDEX ix_tasks_owner_id_due_at_id",
        "ALTER TABLE tokens DROP CONSTRAINT uq_tokens_secret_hash",
        "ALTER TABLE tokens DROP CONSTRAINT fk_tokens_user_id_users",
        "ALTER TABLE changes ALTER COLUMN xact DROP DEFAULT, ALTER COLUMN xact TYPE bigint USING 1",
        "CREATE TABLE stranger (id integer)",
    )

    with pytest.raises(MigrationError) as caught:
        migrations.check(migrated)

    message = str(caught.value)
    assert "\n" not in message
    for difference in (
        "surprise",
        "modify_nullable",
        "modify_default",
        "modify_type', None, 'tokens', 'name'",
        "ix_tasks_owner_id_due_at_id",
        "add_constraint",
        "add_fk",
        "modify_type', None, 'changes', 'xact'",
        "stranger",
    ):
        assert difference in message


@pytest.fixture
def migrated(new_database: Callable[[], str]) -> str:
    url = new_database()
    migrations.upgrade(url)
    return url


def test_the_sql_for_people_gives_the_same_database(new_database: Callable[[], str]) -> None:
    script = migrations.sql()
    url = new_database()

    psql = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]
    done = subprocess.run(psql, input=script, text=True, capture_output=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert "lock_timeout" in script
    assert migrations.status(url).is_current
    migrations.check(url)


def test_a_migration_gives_up_when_another_session_holds_a_lock(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "LOCK_TIMEOUT", 100)
    monkeypatch.setattr(online, "PATIENCE", 1.0)

    async def hold() -> None:
        engine = create_engine(Settings(database_url=migrated), pooled=False)
        async with engine.begin() as connection:
            await connection.execute(text("LOCK TABLE sign_in_attempts IN ACCESS SHARE MODE"))
            with pytest.raises(MigrationError) as caught:
                await asyncio.to_thread(migrations.downgrade, migrated)
            assert "another session holds a lock" in str(caught.value)
            assert "\n" not in str(caught.value)
        await engine.dispose()

    asyncio.run(hold())

    assert migrations.status(migrated).current == "0001", "those before it are done, each in its transaction"


def test_two_servers_that_start_together_migrate_once(new_database: Callable[[], str]) -> None:
    url = new_database()
    programs = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from persistence import migrations; migrations.upgrade(sys.argv[1])",
                url,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]

    with ThreadPoolExecutor() as threads:
        outcomes = list(threads.map(lambda program: (program.communicate()[1], program.returncode), programs))

    assert outcomes == [("", 0)] * 3
    assert migrations.status(url).is_current


def test_an_unknown_revision_is_named(migrated: str) -> None:
    with pytest.raises(MigrationError, match="nowhere"):
        migrations.upgrade(migrated, "nowhere")


def test_a_database_of_a_later_version_is_named(migrated: str) -> None:
    execute(migrated, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(MigrationError, match="9999"):
        migrations.upgrade(migrated)
    assert migrations.status(migrated).current == "9999"


def test_a_table_in_the_way_is_named_in_one_line_and_nothing_is_changed(new_database: Callable[[], str]) -> None:
    url = new_database()
    execute(url, "CREATE TABLE tokens (id integer)")

    with pytest.raises(MigrationError, match='relation "tokens" already exists') as caught:
        migrations.upgrade(url)

    assert "\n" not in str(caught.value)
    assert set(execute(url, TABLES)) <= {"tokens", "alembic_version"}


def test_an_unreachable_database_is_told_in_one_line_without_the_password() -> None:
    for action in (migrations.upgrade, migrations.status):
        with pytest.raises(DatabaseUnreachable) as caught:
            action("postgresql://ada:s3cret@127.0.0.1:1/tasks")

        assert str(caught.value) == "the database at 127.0.0.1:1/tasks is unreachable: nothing listens there"


@pytest.mark.anyio
async def test_the_store_works_on_postgresql_15(postgres15: Server) -> None:
    await asyncio.to_thread(migrations.upgrade, postgres15.url)
    engine = create_engine(Settings(database_url=postgres15.url))
    session = Session(engine)

    async def work(session: Session) -> Viewer:
        user = await users.create(session, email="ada@example.org", name="Ada", password_hash=QUICK_HASH)
        viewer = Viewer(user.id, Role.MEMBER, frozenset(Scope), user.id)
        for title in ("Write the report", "Water the plants"):
            await tasks.create(session, viewer, title=title, tags=["Größe"])
        return viewer

    viewer = await session.transact(work)
    query = Query(tasks.LISTING, limited=True, values={"owner": viewer.id})
    listed = await pages.page(session, query, Window(10), frozenset({"title", "tags"}), keys=True)
    search = Query(tasks.LISTING, searching=True, limited=True, values={"owner": viewer.id, "search": tsquery("rep")})
    found = await pages.page(session, search, Window(10), frozenset({"title"}), keys=True)
    await session.transact(lambda s: users.delete(s, viewer, viewer.id))

    assert [(row.title, row.tags) for row in listed.rows] == [
        ("Water the plants", ["grösse"]),
        ("Write the report", ["grösse"]),
    ]
    assert [row.title for row in found.rows] == ["Write the report"]
    assert await pages.count(session, query) == 0
    await session.close()
    await engine.dispose()


STARTED_WITH = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,jit,extra_float_digits"


@pytest.mark.parametrize("ignored", ["extra_float_digits", STARTED_WITH])
def test_a_migration_through_a_pooler_is_refused_by_name_and_leaves_nothing_behind(
    postgres15: Server, ignored: str
) -> None:
    if not servers.PGBOUNCER.exists():
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    execute(postgres15.url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    with servers.pgbouncer(postgres15, ignore_startup_parameters=ignored) as pooled:
        for action in (migrations.upgrade, migrations.downgrade, migrations.check):
            with pytest.raises(MigrationError, match="refused: a pooler such as PgBouncer is in between") as caught:
                action(pooled)
            assert "\n" not in str(caught.value)
        if ignored == STARTED_WITH:
            # PgBouncer gives each client its own encoding, style of dates and time zone.
            limits = "SELECT name FROM pg_settings WHERE source = 'session' AND name ~ 'timeout|jit'"
            assert execute(pooled, limits) == []
        held = execute(postgres15.url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")

    assert held == []
    assert execute(postgres15.url, TABLES) == []


def test_a_migration_is_refused_where_a_pooler_is_configured(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKSTORE_PGBOUNCER", "true")

    with pytest.raises(MigrationError, match="refused: a pooler"):
        migrations.upgrade(migrated)
    assert migrations.status(migrated).is_current


def test_a_database_that_does_not_tell_its_revision_is_no_empty_one(migrated: str) -> None:
    execute(migrated, "ALTER TABLE alembic_version RENAME COLUMN version_num TO other")

    with pytest.raises(MigrationError, match='column "version_num" does not exist') as caught:
        migrations.status(migrated)
    assert "\n" not in str(caught.value)


def test_a_row_that_breaks_a_new_rule_is_not_shown(migrated: str) -> None:
    migrations.downgrade(migrated, "0002")
    execute(
        migrated,
        "ALTER TABLE users DROP CONSTRAINT ck_users_role",
        "INSERT INTO users (id, email, name, password_hash, role) "
        "VALUES (gen_random_uuid(), 'grace@example.org', 'Grace', 's3cret', 'owner')",
        "ALTER TABLE alembic_version ADD CHECK (version_num <> '0003')",
    )

    with pytest.raises(MigrationError, match='"ck_users_role" of relation "users" is violated by some row') as caught:
        migrations.upgrade(migrated)
    execute(migrated, "UPDATE users SET role = 'admin'")
    with pytest.raises(MigrationError, match='relation "alembic_version" violates check constraint') as other:
        migrations.upgrade(migrated)

    for message in (str(caught.value), str(other.value)):
        assert "\n" not in message
        assert not any(part in message for part in ("DETAIL", "grace", "s3cret", "0003)"))


OLD_TEXTS = (
    "INSERT INTO users (id, email, name, time_zone, password_hash) VALUES "
    "('00000000-0000-7000-8000-000000000001', 'ada@b\u00fccher.example', 'Ade\u0301le\u200b', "
    "'posix/Europe/Berlin', '-'), "
    "('00000000-0000-7000-8000-000000000002', 'ann\u200b@example.com', E'\u2800', 'localtime', '-'), "
    "('00000000-0000-7000-8000-000000000003', 'ann@example.com', 'Ann', 'UTC', '-'), "
    "('00000000-0000-7000-8000-000000000004', 'bob@xn--bcher-kva.example', 'Bob', 'UTC', '-'), "
    "('00000000-0000-7000-8000-000000000005', 'bob@b\u00fccher.example', 'Bob', 'UTC', '-')",
    "INSERT INTO tokens (id, user_id, name, kind, scopes, prefix, secret_hash) VALUES "
    "('00000000-0000-7000-8000-000000000011', '00000000-0000-7000-8000-000000000001', E'my\ntoken', 'personal', "
    "'{read}', 'tsk', sha256('1'))",
    "INSERT INTO tasks (id, owner_id, title, description, tags) VALUES "
    "('00000000-0000-7000-8000-000000000021', '00000000-0000-7000-8000-000000000001', E'two\nlines\u200b', "
    "E'Cafe\u0301\r\n', ARRAY['ur\u200bgent', 'urgent', E'a\nb', '\u2800']), "
    "('00000000-0000-7000-8000-000000000022', '00000000-0000-7000-8000-000000000001', E'\u202e\u200b', '', '{a}'), "
    "('00000000-0000-7000-8000-000000000023', '00000000-0000-7000-8000-000000000001', 'Fine', 'x', '{a}'), "
    "('00000000-0000-7000-8000-000000000024', '00000000-0000-7000-8000-000000000001', repeat(U&'\\0958', 500), '', "
    "ARRAY[repeat(U&'\\0958', 50)])",
)


def test_texts_that_break_new_rules_are_brought_into_their_form_and_logged(
    migrated: str, caplog: pytest.LogCaptureFixture
) -> None:
    migrations.downgrade(migrated, "0006")
    execute(migrated, *OLD_TEXTS)

    with caplog.at_level("WARNING", "taskstore.migrations"):
        migrations.upgrade(migrated)

    users = execute(migrated, "SELECT concat_ws('|', email, name, time_zone, version) FROM users ORDER BY id")
    assert users == [
        "ada@xn--bcher-kva.example|Ad\u00e9le|Europe/Berlin|3",
        "ann\u200b@example.com|\u2014|UTC|2",
        "ann@example.com|Ann|UTC|1",
        "bob@xn--bcher-kva.example|Bob|UTC|1",
        "bob@b\u00fccher.example|Bob|UTC|1",
    ]
    assert execute(migrated, "SELECT name FROM tokens") == ["my token"]
    tasks = execute(migrated, "SELECT jsonb_build_array(title, description, tags, version) FROM tasks ORDER BY id")
    assert tasks == [
        ["two lines", "Caf\u00e9\r\n", ["urgent", "a b"], 2],
        ["\u2014", "", ["a"], 2],
        ["Fine", "x", ["a"], 1],
        ["\u0958" * 500, "", ["\u0958" * 50], 1],
    ]
    log = execute(migrated, "SELECT entity || version || fields::text FROM changes WHERE actor_id IS NULL ORDER BY seq")
    assert len(log) == 6
    (token,) = execute(migrated, "SELECT fields FROM changes WHERE entity = 'Token'")
    assert token == {"name": ["my\ntoken", "my token"]}
    (said,) = caplog.messages
    assert said.startswith("2 accounts keep an address")
    assert "000000000002" in said
    assert "000000000005" in said
    assert "ann" not in said


LATE = (
    "INSERT INTO tasks (id, owner_id, title) VALUES "
    "(gen_random_uuid(), '00000000-0000-7000-8000-000000000001', E'two\nlines')"
)


def test_the_release_before_may_write_while_texts_are_mended(migrated: str) -> None:
    """What comes between the first look and the rule is seen at the second look."""
    migrations.downgrade(migrated, "0006")
    execute(migrated, OLD_TEXTS[0])
    real = online.add_constraint

    def late(table: str, name: str, rule: str) -> None:
        if name == "ck_tasks_title_length":
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(execute, migrated, LATE).result()
        real(table, name, rule)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "add_constraint", late)
        migrations.upgrade(migrated)

    assert execute(migrated, "SELECT title FROM tasks ORDER BY id") == ["two lines"]
