"""A database of the shape that grows: many owners with some tasks each, one with very many, and long histories.

    python -m benchmarks.large [--scale 0.1] [--url postgresql://...]

At full scale 3 million tasks of 20,000 users (one with 300,000, one with 27), 4 million changes and 1.5 million kept
answers; `--scale` makes all of it so much smaller, but for the 27. With `--url` it fills a migrated database without
data and leaves it there; otherwise an embedded one in a temporary directory, which is gone at the end. Everything is
made inside of the database, and the indexes after the rows. Prints how large the tables are and how long each took.

Of every thousand tasks of an owner 400 have the tag `common` and the word `report`, 100 `tenth`, 10 `hundredth` and one
`rare`. Every title has the word `task`, and begins with a letter of its own.
"""

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks import data
from benchmarks.data import database

LARGE, SMALL = "large user", "small user"
"""What the ids of the two are derived from (`benchmarks.data.named_id`)."""
SMALL_TASKS = 27


@dataclass(frozen=True)
class Shape:
    """How many rows each table gets."""

    users: int
    tasks: int
    large: int
    changes: int
    keys: int

    @classmethod
    def of(cls, scale: float) -> "Shape":
        users, tasks, large, changes, keys = (
            max(round(full * scale), 100) for full in (20_000, 3_000_000, 300_000, 4_000_000, 1_500_000)
        )
        return cls(users, tasks, large, changes, keys)


# Task n is the large user's or the small one's, or those of all others in turn: everybody's are all over the table.
# (A statement that makes a table takes no parameters.)
OWNERS = f"""
CREATE TEMPORARY TABLE owned AS
SELECT n, CASE WHEN n % (tasks / large) = 0 THEN md5('{LARGE}')::uuid
               WHEN n % (tasks / {SMALL_TASKS}) = 1 AND n / (tasks / {SMALL_TASKS}) < {SMALL_TASKS}
               THEN md5('{SMALL}')::uuid
               ELSE md5('user ' || n % (users - 2))::uuid END AS owner_id
FROM (SELECT {{0.users}} AS users, {{0.tasks}} AS tasks, {{0.large}} AS large) shape, generate_series(1, tasks) n
"""

USERS = f"""
INSERT INTO users (id, email, name, password_hash, created_at)
SELECT md5(who)::uuid, replace(who, ' ', '') || '@example.org', who, '!', timestamptz '2025-01-01Z' + n * interval '1 s'
FROM (SELECT n, 'user ' || n AS who FROM generate_series(0, $1 - 3) n
      UNION ALL VALUES (-1, '{LARGE}'), (-2, '{SMALL}')) planned
"""

TASKS = f"""
INSERT INTO tasks (id, owner_id, title, description, status, priority, tags, due_at, completed_at, version,
                   created_at, updated_at, deleted_at)
SELECT md5('task ' || n)::uuid, owner_id,
       chr(97 + place::int % 26) || ' task ' || n || CASE WHEN place % 5 < 2 THEN ' report' ELSE '' END
       || CASE WHEN place % 10 = 0 THEN ' tenth' ELSE '' END || CASE WHEN place % 100 = 0 THEN ' hundredth' ELSE '' END
       || CASE WHEN place % 1000 = 7 THEN ' rare' ELSE '' END,
       '{data.PUBLIC_TEXT}', status, (ARRAY['low', 'medium', 'high', 'urgent'])[place % 4 + 1],
       array_remove(ARRAY[CASE WHEN place % 5 < 2 THEN 'common' END, CASE WHEN place % 10 = 0 THEN 'tenth' END,
                          CASE WHEN place % 100 = 0 THEN 'hundredth' END, CASE WHEN place % 1000 = 7 THEN 'rare' END],
                    NULL),
       CASE WHEN place % 3 > 0 THEN at + interval '30 days' END,
       CASE WHEN status = 'done' THEN at + interval '1 day' END, place % 3 + 1, at, at + interval '2 days',
       CASE WHEN place % 50 = 49 THEN at + interval '3 days' END
FROM (SELECT n, owner_id, place, timestamptz '2025-02-01Z' + n * interval '10 s' AS at,
             (ARRAY['done', 'done', 'done', 'todo', 'in_progress', 'cancelled'])[place % 6 + 1] AS status
      FROM (SELECT n, owner_id, row_number() OVER (PARTITION BY owner_id ORDER BY n) AS place FROM owned) placed
      ORDER BY n) planned
"""

CHANGES = """
INSERT INTO changes (id, entity, entity_id, owner_id, actor_id, action, version, fields, at)
SELECT md5('change ' || change)::uuid, 'Task', md5('task ' || n)::uuid, owner_id, owner_id,
       CASE WHEN change < tasks THEN 'created' ELSE 'updated' END, 1 + change / tasks,
       jsonb_build_object('title', jsonb_build_array(NULL, 'Task ' || n)),
       timestamptz '2025-02-01Z' + change * interval '1 s'
FROM (SELECT $2::int AS tasks) shape, generate_series(0, $1::int - 1) change JOIN owned ON n = change % $2 + 1
"""

KEYS = f"""
INSERT INTO idempotency_keys (scope_id, key_hash, input_hash, answer, created_at)
SELECT owner_id, sha256(('key ' || n)::bytea), sha256(('input ' || n)::bytea),
       jsonb_build_object('task', jsonb_build_object(
           '__entity__', 'Task', 'id', md5('task ' || n)::uuid, 'owner_id', owner_id, 'title', 'Task ' || n,
           'description', '{data.PUBLIC_TEXT}', 'status', 'todo', 'priority', 'medium', 'tags', '[]'::jsonb,
           'due_at', NULL, 'completed_at', NULL, 'created_at', now(), 'updated_at', now(), 'version', 1,
           'deleted_at', NULL)),
       now() - random() * interval '23 hours'
FROM owned WHERE n <= $1
"""


INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename = $1 AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


async def fill(connection: Any, shape: Shape) -> list[tuple[str, int, float]]:
    """Fill the tables of a migrated database without data: the name of each, its rows, and the seconds that it took.

    Raises `ValueError` when there is something in it.
    """
    if await connection.fetchval("SELECT EXISTS (SELECT FROM tasks)"):
        raise ValueError("this database has tasks already")
    done = []
    await connection.execute("SET maintenance_work_mem = '256MB'; SET work_mem = '128MB'; SET synchronous_commit = off")
    await connection.execute(OWNERS.format(shape))
    for name, statement, arguments in (
        ("users", USERS, (shape.users,)),
        ("tasks", TASKS, ()),
        ("changes", CHANGES, (shape.changes, shape.tasks)),
        ("idempotency_keys", KEYS, (shape.keys,)),
    ):
        started = time.monotonic()
        indexes = await connection.fetch(INDEXES, name)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['indexname']}")
        await connection.execute(statement, *arguments)
        for index in indexes:
            await connection.execute(index["indexdef"])
        await connection.execute(f"VACUUM ANALYZE {name}")
        rows = await connection.fetchval(f"SELECT count(*) FROM {name}")
        done.append((name, rows, time.monotonic() - started))
    await connection.execute("DROP TABLE owned; RESET maintenance_work_mem; RESET work_mem; RESET synchronous_commit")
    return done


async def report(url: str, shape: Shape) -> None:
    connection = await asyncpg.connect(url)
    try:
        for name, rows, seconds in await fill(connection, shape):
            print(f"{name}: {rows:,} rows in {seconds:.0f} s", flush=True)
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--url", help="of a migrated database without data; what is made stays there")
    options = parser.parse_args()
    shape = Shape.of(options.scale)
    if options.url:
        asyncio.run(report(options.url, shape))
        return
    with database() as store:
        asyncio.run(report(store.url, shape))


if __name__ == "__main__":
    main()
