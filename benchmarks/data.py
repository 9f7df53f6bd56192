"""A database of its own for one benchmark: an embedded PostgreSQL in a temporary directory, migrated and filled."""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from background.housekeeping import cut_texts
from persistence import migrations
from persistence.connections.engine import create_engine
from persistence.embedded.server import EmbeddedPostgres
from persistence.models.ids import new_id
from persistence.settings import Settings
from persistence.tokens import hashed

SECRET = "tsk_for-the-benchmark-only-not-a-real-secret-0000"
"""The admin's token, in databases of the benchmarks only."""

USERS, TASKS_EACH = 1_000, 100
PUBLIC_TEXT = "A description of the length that people write when they remind themselves of something, and no more."

OPTIONS = {"autovacuum": "off", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
"""Vacuum and checkpoints would fall into some of the compared runs and not into others; `tidy` does both in between."""

# Task n belongs to user n % 1,000, so the tasks of one user are spread over the whole table, as they are in life.
# Sixty of a user's hundred are done.
FILL = f"""
INSERT INTO users (id, email, name, password_hash, created_at)
SELECT md5('user ' || n)::uuid, format('user%s@example.org', to_char(n, 'FM0000')), 'User ' || n, '!',
       timestamptz '2025-01-01Z' + n * interval '1 minute'
FROM generate_series(0, {USERS} - 1) n;

INSERT INTO tasks (id, owner_id, title, description, status, priority, tags, due_at, completed_at, version,
                   created_at, updated_at)
SELECT md5('task ' || n)::uuid, md5('user ' || n % {USERS})::uuid, 'Task ' || n || ', one of many', '{PUBLIC_TEXT}',
       status, (ARRAY['low', 'medium', 'high', 'urgent'])[n % 4 + 1],
       (ARRAY['home', 'work', 'errand', 'phone', 'travel'])[n % 3 + 1 : n % 3 + n % 4],
       CASE WHEN n % 3 > 0 THEN at + interval '30 days' END, CASE WHEN status = 'done' THEN at + interval '1 day' END,
       n % 5 + 1, at, at + interval '2 days'
FROM (SELECT n, timestamptz '2025-02-01Z' + n * interval '2 minutes' AS at,
             (ARRAY['done', 'done', 'done', 'done', 'done', 'done', 'todo', 'todo', 'in_progress', 'cancelled'])
                 [n / {USERS} % 10 + 1] AS status
      FROM generate_series(0, {USERS} * {TASKS_EACH} - 1) n) AS planned
"""

VACUUM = "VACUUM ANALYZE"

# What the measured mutations wrote: each run starts from the same tables.
FORGET = (
    "DELETE FROM tasks WHERE created_at > '2026-01-01'",
    "DELETE FROM entities WHERE entity = 'Task' AND id NOT IN (SELECT id FROM tasks)",
    "TRUNCATE changes, idempotency_keys",
    VACUUM,
    "CHECKPOINT",
)


def user_id(number: int) -> str:
    return named_id(f"user {number}")


def task_id(number: int) -> str:
    return named_id(f"task {number}")


def named_id(name: str) -> str:
    """The id that `md5(name)::uuid` is in SQL."""
    return str(UUID(hashlib.md5(name.encode()).hexdigest()))


class Database:
    """A running PostgreSQL with the tables of this project."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        assert server.postmaster_pid is not None
        self.url, self.pid = server.url, server.postmaster_pid

    def execute(self, *statements: str) -> None:
        """Run statements one after another, outside of a transaction."""

        async def work(connection: Any) -> None:
            for statement in statements:
                await connection.execute(statement)

        self.work(work)

    def work(self, action: Any) -> None:
        """Await `action(connection)` on a connection of its own."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                await action(connection)
            finally:
                await connection.close()

        asyncio.run(run())

    def forget(self) -> None:
        self.execute(*FORGET)


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """A database with tables and an admin, whose token is `SECRET`. Gone when the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix="taskstore-bench-") as directory,
        EmbeddedPostgres(Path(directory), options=OPTIONS) as server,
    ):
        migrations.upgrade(server.url)
        made = Database(server)
        made.work(make_admin)
        yield made


async def cut(url: str) -> None:
    """Cut the texts of rows written in SQL, which the server would otherwise do while it is measured."""
    engine = create_engine(Settings(database_url=url))
    await cut_texts(engine)
    await engine.dispose()


async def make_admin(connection: Any) -> None:
    # In the last place by address, so that no page of a benchmark shows it.
    await make_user(connection, "zzz@example.com", "admin", SECRET)


async def make_user(connection: Any, email: str, role: str, secret: str) -> UUID:
    """A user with a token of all scopes, and nothing else."""
    user = new_id()
    await connection.execute(
        "INSERT INTO users (id, email, name, role, password_hash, created_at)"
        " VALUES ($1, $2, 'Of the benchmark', $3, '!', '2025-01-01Z')",
        user,
        email,
        role,
    )
    await connection.execute(
        "INSERT INTO tokens (id, user_id, name, kind, scopes, prefix, secret_hash)"
        " VALUES ($1, $2, 'benchmark', 'personal', '{read,write,admin}', $3, $4)",
        new_id(),
        user,
        secret[:12],
        hashed(secret),
    )
    return user
