"""`./run work`: the loops in a process of their own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from sqlalchemy import text

from persistence import migrations, users
from persistence.connections.engine import create_engine
from persistence.models.ids import new_id
from persistence.session import Session
from persistence.settings import ROOT, Settings
from persistence.viewer import OPERATOR
from persistence.writes import closing

TASKS = 3 * closing.BATCH


async def closed_account(url: str) -> None:
    """Close an account that owns more than is deleted at once."""
    engine = create_engine(Settings(database_url=url))
    session = Session(engine)

    async def make(session: Session) -> None:
        user = await users.create(session, email="ada@example.org", name="Ada", password_hash="-")
        rows = [{"id": new_id(), "owner": user.id, "title": f"Task {n}"} for n in range(TASKS)]
        statement = "INSERT INTO tasks (id, owner_id, title) VALUES (:id, :owner, :title)"
        await (await session.connection()).execute(text(statement), rows)

    async def close(session: Session) -> None:
        found = await users.credentials(session, "ada@example.org")
        assert found is not None
        await users.delete(session, OPERATOR, found.id)

    await session.transact(make)
    await session.transact(close)
    await session.close()
    await engine.dispose()


async def left(url: str) -> int:
    engine = create_engine(Settings(database_url=url), pooled=False)
    async with engine.connect() as connection:
        count: int = (await connection.execute(text("SELECT count(*) FROM tasks"))).scalar_one()
    await engine.dispose()
    return count


async def until_nothing_is_left(url: str) -> None:
    async with asyncio.timeout(60):
        while await left(url):  # noqa: ASYNC110  # another process does it
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_of_its_own_deletes_what_closed_accounts_own(
    new_database: Callable[[], str], number: signal.Signals
) -> None:
    url = new_database()
    migrations.upgrade(url)
    asyncio.run(closed_account(url))
    before = asyncio.run(left(url))
    process = subprocess.Popen(
        [sys.executable, "-m", "graph", "work"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        asyncio.run(until_nothing_is_left(url))
    finally:
        process.send_signal(number)
        output, error = process.communicate(timeout=90)

    assert before > 0
    assert process.returncode == 0
    assert "Ctrl-C" in output
    assert "Traceback" not in error
