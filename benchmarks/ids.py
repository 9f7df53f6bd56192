"""What it costs to create a task that its id is unique over all entities.

    python -m benchmarks.ids [--blocks 100]

One PostgreSQL has two databases that differ in this: in one the triggers are gone that register ids. Tasks are created
in both as the server creates them, in turns of a fraction of a second, each alone and 16 at the same time. Prints, as
Markdown, the processor time that the connection's process at PostgreSQL took for a task: medians, and the median of
each turn's ratio.
"""

import argparse
import asyncio
import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.data import FILL, PUBLIC_TEXT, Database, database
from persistence import tasks
from persistence.connections.engine import create_engine
from persistence.models import Role, Scope, Task, TaskPriority
from persistence.models.base import entities
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from persistence.writes import creation, idempotency
from persistence.writes.unique_ids import EVENTS

COLUMNS = frozenset({"id", "title", "status", "version", "created_at"})
WARM_UP = 3
"""Turns that do not count."""
ALONE, TOGETHER, TIMES = 30, 16, 15
"""Tasks one after another, and how many at the same time how often, in a turn."""


class Store:
    """One of the databases, with one connection."""

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = create_engine(Settings(database_url=url, pool_size=1, pool_overflow=0))
        self.sessions = [Session(self.engine) for _ in range(TOGETHER)]
        self.pid = 0

    async def look(self) -> list[uuid.UUID]:
        """The ids of the users."""
        async with self.engine.connect() as connection:
            [self.pid] = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalars()
            return list((await connection.exec_driver_sql("SELECT id FROM users ORDER BY id")).scalars())

    async def create(self, session: Session, viewer: Viewer, owner_id: uuid.UUID) -> None:
        values = {
            "title": f"Measured task {random.randrange(10**6)}",
            "description": PUBLIC_TEXT,
            "priority": TaskPriority.HIGH,
            "tags": ["home", "work"],
            "due_at": datetime(2027, 1, 10, tzinfo=UTC),
        }
        key = idempotency.key_of(viewer.id, uuid.uuid4().hex, b"measured")
        row = tasks.new(viewer, tasks.checked(values), owner_id=owner_id)
        assert await creation.create(session, Task, row, "task", key, COLUMNS) is not None

    async def turn(self, viewer: Viewer, owners: Sequence[uuid.UUID]) -> tuple[float, float]:
        """Microseconds for a task alone, and for one of those at the same time, which share statements."""
        began = self.used()
        for owner in random.choices(owners, k=ALONE):
            await self.create(self.sessions[0], viewer, owner)
        alone = self.used()
        for _ in range(TIMES):
            chosen = random.choices(owners, k=TOGETHER)
            await asyncio.gather(*(self.create(s, viewer, o) for s, o in zip(self.sessions, chosen, strict=True)))
        return (alone - began) / ALONE, (self.used() - alone) / (TIMES * TOGETHER)

    def used(self) -> float:
        """The processor time of the connection's process, in microseconds."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1000


async def measure(database: Database, blocks: int) -> dict[bool, list[tuple[float, float]]]:
    """Each turn's microseconds, with the triggers and without them."""
    base, _, options = database.url.partition("?")
    server, _, name = base.rpartition("/")
    other = await asyncpg.connect(f"{server}/template1?{options}")
    await other.execute(f'CREATE DATABASE without TEMPLATE "{name}"')
    await other.close()
    url = f"{server}/without?{options}"
    connection = await asyncpg.connect(url)
    for model in entities().values():
        for trigger in EVENTS:
            await connection.execute(f"DROP TRIGGER {trigger} ON {model.__tablename__}")
    await connection.close()
    stores = {True: Store(database.url), False: Store(url)}
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for store in stores.values():
        owners = await store.look()
    viewer = Viewer(owners[0], Role.ADMIN, frozenset(Scope), owners[0])
    for block in range(WARM_UP + blocks):
        for which in random.sample([True, False], 2):
            taken = await stores[which].turn(viewer, owners)
            if block >= WARM_UP:
                found[which].append(taken)
    for store in stores.values():
        await store.engine.dispose()
    return found


def table(found: dict[bool, list[tuple[float, float]]]) -> str:
    lines = [
        "| PostgreSQL's CPU, us per task | ids unique over all | triggers dropped | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for place, title in enumerate(("alone", f"{TOGETHER} at the same time")):
        with_them, without = ([turn[place] for turn in found[which]] for which in (True, False))
        ratio = median(a / b for a, b in zip(with_them, without, strict=True))
        lines.append(f"| {title} | {median(with_them):.0f} | {median(without):.0f} | {ratio:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=100)
    blocks = parser.parse_args().blocks
    with database() as made:
        made.execute(FILL, "VACUUM ANALYZE")
        print(table(asyncio.run(measure(made, blocks))))


if __name__ == "__main__":
    main()
