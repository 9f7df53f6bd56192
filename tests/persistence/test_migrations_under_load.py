"""Every migration, both ways, on a filled database in which people work: they do not notice.

What holds is asked of the server, not of a clock: clients that let a lock keep them for at most a second, and for each
transaction of a migration the locks it ends with and the rows it read of the tables it kept others out of.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event

from persistence import migrations, online
from persistence.settings import ROOT

pytestmark = pytest.mark.anyio

CLIENTS = 8

FILL = """
INSERT INTO users (id, email, name, password_hash)
SELECT md5('u' || i)::uuid, i || '@example.org', 'Ada', '-' FROM generate_series(1, 2000) AS i;
INSERT INTO tokens (id, user_id, name, kind, scopes, prefix, secret_hash)
SELECT md5('t' || i)::uuid, md5('u' || i)::uuid, 'a', 'session', '{read}', 'tks', sha256(i::text::bytea)
FROM generate_series(1, 2000) AS i;
INSERT INTO tasks (id, owner_id, title, tags)
SELECT md5('k' || i)::uuid, md5('u' || 1 + i % 2000)::uuid, 'Task ' || i, '{a,b}' FROM generate_series(1, 20000) AS i;
INSERT INTO changes (id, entity, entity_id, owner_id, action, version)
SELECT md5('c' || i)::uuid, 'Task', md5('k' || i)::uuid, md5('u' || 1 + i % 2000)::uuid, 'created', 1
FROM generate_series(1, 20000) AS i;
INSERT INTO idempotency_keys (scope_id, key_hash, input_hash, answer)
SELECT md5('u' || 1 + i % 2000)::uuid, sha256(i::text::bytea), '', '{}' FROM generate_series(1, 5000) AS i;
ANALYZE;
"""

# All that a release of revision 0001 writes, each client for a user of its own, in an order of its own.
WRITES: tuple[tuple[str, Callable[[UUID], tuple[Any, ...]]], ...] = (
    ("UPDATE users SET name = 'Bob', version = version + 1 WHERE id = $1", lambda user: (user,)),
    ("INSERT INTO tasks (id, owner_id, title) VALUES ($1, $2, 'New')", lambda user: (uuid4(), user)),
    ("UPDATE tasks SET priority = 'high', version = version + 1 WHERE owner_id = $1", lambda user: (user,)),
    (
        "INSERT INTO tokens (id, user_id, name, kind, scopes, prefix, secret_hash) "
        "VALUES ($1, $2, 'b', 'session', '{read,write}', 'tks', $3)",
        lambda user: (uuid4(), user, os.urandom(32)),
    ),
    (
        "INSERT INTO changes (id, entity, entity_id, owner_id, action) VALUES ($1, 'User', $2, $2, 'updated')",
        lambda user: (uuid4(), user),
    ),
    (
        "INSERT INTO idempotency_keys (scope_id, key_hash, input_hash) VALUES ($1, $2, '')",
        lambda user: (user, os.urandom(32)),
    ),
    ("DELETE FROM tokens WHERE user_id = $1", lambda user: (user,)),
)


@dataclass
class Clients:
    """Eight people at work."""

    url: str
    written: list[int] = field(default_factory=lambda: [0] * CLIENTS)
    longest: float = 0.0
    errors: list[BaseException] = field(default_factory=list)

    async def work(self, number: int) -> None:
        connection = await asyncpg.connect(self.url, server_settings={"lock_timeout": "1000"})
        user = await connection.fetchval("SELECT id FROM users ORDER BY id OFFSET $1 LIMIT 1", number)
        try:
            while True:
                began = time.monotonic()
                async with connection.transaction():
                    for statement, values in random.sample(WRITES, len(WRITES)):
                        await connection.execute(statement, *values(user))
                self.longest = max(self.longest, time.monotonic() - began)
                self.written[number] += 1
        except asyncpg.PostgresError as error:
            self.errors.append(error)
        finally:
            connection.terminate()

    async def progress(self) -> None:
        """Everybody has written something, begun after now."""
        wanted = [number + 2 for number in self.written]
        async with asyncio.timeout(60):
            while not self.errors and any(map(int.__lt__, self.written, wanted)):  # noqa: ASYNC110  # of threads too
                await asyncio.sleep(0.01)
        assert not self.errors, self.errors


@asynccontextmanager
async def at_work(url: str) -> AsyncIterator[Clients]:
    clients = Clients(url)
    tasks = [asyncio.create_task(clients.work(number)) for number in range(CLIENTS)]
    await clients.progress()
    yield clients
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def revisions() -> list[str]:
    script = ScriptDirectory(ROOT / "alembic")
    return [revision.revision for revision in script.walk_revisions()][::-1]


@pytest.fixture
async def filled(new_database: Callable[[], str]) -> str:
    """The URL of a database with the tables of the first revision, and some tens of thousands of rows."""
    database = await asyncio.to_thread(new_database)
    await asyncio.to_thread(migrations.upgrade, database, revisions()[0])
    connection = await asyncpg.connect(database)
    await connection.execute(FILL)
    await connection.close()
    return database


async def test_every_migration_succeeds_under_load_and_keeps_nobody_for_a_second(
    filled: str, record_property: Callable[[str, object], None]
) -> None:
    up, down = revisions()[1:], revisions()[-2::-1]
    assert up
    async with at_work(filled) as clients:
        for revision in up:
            await asyncio.to_thread(migrations.upgrade, filled, revision)
            await clients.progress()
        for revision in down:
            await asyncio.to_thread(migrations.downgrade, filled, revision)
            await clients.progress()
        await asyncio.to_thread(migrations.upgrade, filled)
        await clients.progress()

    record_property("longest_transaction_seconds", round(clients.longest, 3))
    assert clients.errors == []
    await asyncio.to_thread(migrations.check, filled)


class Interrupted(Exception):
    pass


async def test_every_migration_that_was_interrupted_anywhere_is_finished_by_running_it_again(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await asyncio.to_thread(new_database)
    await asyncio.to_thread(migrations.upgrade, database, revisions()[0])
    real_run, left, interruptions = online.run, 0, 0

    def run(*statements: str) -> None:
        nonlocal left
        for statement in statements:
            if left == 0:
                raise Interrupted
            left -= 1
            real_run(statement)

    monkeypatch.setattr(online, "run", run)
    ways = [(migrations.upgrade, revision) for revision in revisions()[1:]]
    ways += [(migrations.downgrade, revision) for revision in revisions()[-2::-1]]
    for way, revision in [*ways, (migrations.upgrade, "head")]:
        for limit in itertools.count(2, 7):
            left = limit
            try:
                await asyncio.to_thread(way, database, revision)
                break
            except Interrupted:
                interruptions += 1

    assert interruptions
    await asyncio.to_thread(migrations.check, database)


STRONG = "('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
HELD = f"""
SELECT c.relname, max(s.seq_tup_read + coalesce(s.idx_tup_fetch, 0))
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_xact_user_tables s ON s.relid = c.oid
WHERE l.pid = pg_backend_pid() AND l.granted AND l.mode IN {STRONG} AND c.relkind = 'r'
GROUP BY c.relname
"""  # a constant
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
LINKED = "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"


@dataclass
class Watch:
    """What the transactions of migrations kept others out of, and how many rows of it they read meanwhile."""

    before: set[str] = field(default_factory=set)
    held: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    transactions: int = 0
    asking: bool = False
    last: str = ""

    def look(self, connection: Connection) -> None:
        self.asking = True
        rows = connection.exec_driver_sql(HELD).all()
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")  # the next transaction counts from zero
        self.asking = False
        self.transactions += 1
        self.held.append((self.last, {name: read for name, read in rows if name in self.before}))


@contextmanager
def watching() -> Iterator[Watch]:
    """Looks at the end of every transaction of this thread's migrations."""
    watch = Watch()

    def before_execute(connection: Connection, cursor: Any, statement: str, *others: Any) -> None:
        if watch.asking:
            return
        if statement == "COMMIT":
            watch.look(connection)
        watch.last = statement

    event.listen(Engine, "before_cursor_execute", before_execute)
    event.listen(Engine, "commit", watch.look)
    try:
        yield watch
    finally:
        event.remove(Engine, "before_cursor_execute", before_execute)
        event.remove(Engine, "commit", watch.look)


async def test_no_migration_locks_two_tables_or_reads_one_that_it_keeps_others_out_of(filled: str) -> None:
    connection = await asyncpg.connect(filled)
    ways = [(migrations.upgrade, revision) for revision in revisions()[1:]]
    ways += [(migrations.downgrade, revision) for revision in revisions()[-2::-1]]
    assert ways
    for way, revision in ways:
        existing = {row[0] for row in await connection.fetch(TABLES)} - {"alembic_version"}
        linked = {frozenset(row) for row in await connection.fetch(LINKED)}
        with watching() as watch:
            watch.before = existing
            await asyncio.to_thread(way, filled, revision)
        linked |= {frozenset(row) for row in await connection.fetch(LINKED)}
        assert watch.transactions
        for statement, held in watch.held:
            tables = frozenset(held)
            assert len(tables) < 2 or tables in linked, f"{revision} locks {set(tables)} at once: {statement}"
            for table, read in held.items():
                assert read < 1_000, f"{revision} reads {read} rows of {table} and keeps others out: {statement}"
    await connection.close()
