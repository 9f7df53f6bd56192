"""Fills this project's tables with the benchmark's users and tasks: `SOURCE_DATABASE_URL` to `DATABASE_URL`.

Also makes the admin whose token every request of the benchmark sends (`benchmarks.data.SECRET`).
"""

import asyncio
import os
from typing import Any

import asyncpg

from benchmarks.data import cut, make_admin
from persistence import migrations

TASK = "id, owner_id, title, description, status, priority, tags, due_at, completed_at, version, created_at, updated_at"


async def copy(source: Any, target: Any) -> None:
    users = await source.fetch("SELECT id, email, name, '!', created_at, created_at FROM users")
    columns = ["id", "email", "name", "password_hash", "created_at", "updated_at"]
    await target.copy_records_to_table("users", records=users, columns=columns)
    tasks = await source.fetch(f"SELECT {TASK} FROM tasks ORDER BY created_at")
    await target.copy_records_to_table("tasks", records=tasks, columns=TASK.split(", "))


async def main() -> None:
    source = await asyncpg.connect(os.environ["SOURCE_DATABASE_URL"])
    target = await asyncpg.connect(os.environ["DATABASE_URL"])
    await copy(source, target)
    await make_admin(target)
    await source.close()
    await target.close()
    await cut(os.environ["DATABASE_URL"])


if __name__ == "__main__":
    migrations.upgrade(os.environ["DATABASE_URL"])
    asyncio.run(main())
