"""Accounts are deleted in steps: each is small, several servers share them, and what was interrupted goes on."""

import asyncio
import itertools
import uuid
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, users
from persistence.session import Session
from persistence.writes import closing
from tests.conftest import Account
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio

OWNED = 20


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "BATCH", 3)


async def closed(write: Write, new_account: Any, admin: Account) -> Account:
    """An account that was deleted, of which most is still there."""
    account: Account = await new_account()

    async def fill(session: Session) -> None:
        for n in range(OWNED):
            await tasks.create(session, account.viewer, title=f"Task {n}")

    await write(fill, actor_id=account.id)
    await write(lambda s: users.delete(s, admin.viewer, account.id), actor_id=admin.id)
    return account


async def erase_until_done(engine: AsyncEngine) -> int:
    """What a server does; the number of its batches."""
    batches = 0
    while await Session(engine).transact(closing.erase):
        batches += 1
    return batches


async def left(raw: Raw, account: Account) -> dict[str, int]:
    tables = {"users": "id", "tasks": "owner_id", "tokens": "user_id", "closed_accounts": "user_id"}
    return {
        table: (await raw(f"SELECT count(*) AS n FROM {table} WHERE {owner} = :id", id=account.id))[0].n
        for table, owner in tables.items()
    }


NOTHING = {"users": 0, "tasks": 0, "tokens": 0, "closed_accounts": 0}


async def purged(raw: Raw, account: Account) -> list[tuple[str, int, int]]:
    rows = await raw(
        "SELECT entity, count(*) AS n, count(DISTINCT entity_id) AS ids FROM changes"
        " WHERE owner_id = :id AND action = 'purged' GROUP BY 1 ORDER BY 1",
        id=account.id,
    )
    return [tuple(row) for row in rows]


EACH_ONCE = [("Task", OWNED, OWNED), ("Token", 1, 1), ("User", 1, 1)]


async def test_a_step_deletes_a_batch_and_no_more(
    engine: AsyncEngine, write: Write, raw: Raw, new_account: Any, admin: Account
) -> None:
    account = await closed(write, new_account, admin)
    counts = [(await left(raw, account))["tasks"]]
    while await Session(engine).transact(closing.erase):
        counts.append((await left(raw, account))["tasks"])

    steps = [before - after for before, after in itertools.pairwise(counts)]
    assert counts[0] == OWNED - 3
    assert max(steps) == 3
    assert await left(raw, account) == NOTHING
    assert await purged(raw, account) == EACH_ONCE


async def test_what_little_there_is_is_deleted_at_once(
    write: Write, raw: Raw, new_account: Any, admin: Account
) -> None:
    account = await new_account()
    await write(lambda s: users.delete(s, admin.viewer, account.id), actor_id=admin.id)

    assert await left(raw, account) == NOTHING


async def test_several_servers_delete_each_thing_once(
    engine: AsyncEngine, write: Write, raw: Raw, new_account: Any, admin: Account
) -> None:
    accounts = [await closed(write, new_account, admin) for _ in range(3)]
    batches = await asyncio.gather(*(erase_until_done(engine) for _ in range(4)))
    await erase_until_done(engine)  # what one had locked when the others looked

    assert sum(batches) > 3
    for account in accounts:
        assert await left(raw, account) == NOTHING
        assert await purged(raw, account) == EACH_ONCE


async def test_a_step_that_was_interrupted_leaves_nothing_half_done(
    engine: AsyncEngine, write: Write, raw: Raw, new_account: Any, admin: Account
) -> None:
    account = await closed(write, new_account, admin)
    before = await left(raw, account), await purged(raw, account)

    async def interrupted(session: Session) -> None:
        await closing.erase(session)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Session(engine).transact(interrupted)
    assert (await left(raw, account), await purged(raw, account)) == before

    await erase_until_done(engine)
    assert await left(raw, account) == NOTHING
    assert await purged(raw, account) == EACH_ONCE


async def test_what_came_in_while_the_account_was_closed_goes_too(
    engine: AsyncEngine, write: Write, raw: Raw, new_account: Any, admin: Account
) -> None:
    """A transaction that had begun before may make something for the account after it is closed."""
    account = await closed(write, new_account, admin)
    late = uuid.uuid4()
    async with engine.begin() as open_still:
        driver: Any = (await open_still.get_raw_connection()).driver_connection
        await driver.execute("INSERT INTO tasks (id, owner_id, title) VALUES ($1, $2, 'late')", late, account.id)
        erasing = asyncio.create_task(erase_until_done(engine))
        await asyncio.sleep(0.1)  # time to come to the end, where it waits
    await erasing

    assert await left(raw, account) == NOTHING
    assert (await purged(raw, account))[0] == ("Task", OWNED + 1, OWNED + 1)
    assert await raw("SELECT 1 FROM changes WHERE owner_id = :id AND fields IS NOT NULL", id=account.id) == []
