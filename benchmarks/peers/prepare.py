"""Fills this project's tables with the benchmark's users and tasks: `SOURCE_DATABASE_URL` to `DATABASE_URL`.

Also makes the admin whose token every request of the benchmark sends (`entry.SECRET`).
"""

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import asyncpg

from benchmarks.peers.entry import SECRET
from persistence import migrations
from persistence.ids import new_id
from persistence.tokens import hashed

TASK = "id, owner_id, title, description, status, priority, tags, due_at, completed_at, version, created_at, updated_at"


async def copy(source: Any, target: Any) -> None:
    users = await source.fetch("SELECT id, email, name, '!', created_at, created_at FROM users")
    columns = ["id", "email", "name", "password_hash", "created_at", "updated_at"]
    await target.copy_records_to_table("users", records=users, columns=columns)
    tasks = await source.fetch(f"SELECT {TASK} FROM tasks ORDER BY created_at")
    await target.copy_records_to_table("tasks", records=tasks, columns=TASK.split(", "))


async def make_admin(target: Any) -> None:
    # In the last place by address, so that no page of the benchmark shows it.
    admin, now = new_id(), datetime.now(UTC)
    await target.execute(
        "INSERT INTO users (id, email, name, role, password_hash, created_at)"
        " VALUES ($1, $2, 'Admin', 'admin', '!', $3)",
        admin,
        "zzz@example.com",
        now,
    )
    await target.execute(
        "INSERT INTO tokens (id, user_id, name, kind, scopes, prefix, secret_hash)"
        " VALUES ($1, $2, 'benchmark', 'personal', '{read,write,admin}', $3, $4)",
        new_id(),
        admin,
        SECRET[:12],
        hashed(SECRET),
    )


async def main() -> None:
    source = await asyncpg.connect(os.environ["SOURCE_DATABASE_URL"])
    target = await asyncpg.connect(os.environ["DATABASE_URL"])
    await copy(source, target)
    await make_admin(target)
    await source.close()
    await target.close()


if __name__ == "__main__":
    migrations.upgrade(os.environ["DATABASE_URL"])
    asyncio.run(main())
