"""Budgets that processes share: never overspent, refilled by the clock of the database."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import budgets
from persistence.budgets import Held
from persistence.connections.engine import create_engine
from persistence.session import Session
from persistence.settings import Settings
from tests.persistence.conftest import Raw, Write, backends, terminate, url_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def engines(settings: Settings) -> AsyncIterator[list[AsyncEngine]]:
    """What two processes have."""
    both = [create_engine(settings), create_engine(settings)]
    yield both
    for engine in both:
        await engine.dispose()


async def take(engine: AsyncEngine, key: str, points: int, capacity: int = 100, refill: float = 0.0) -> Held:
    return await budgets.take(Session(engine), key, points, capacity=capacity, refill=refill)


async def pass_time(raw: Raw, key: str, seconds: float) -> None:
    await raw(
        "UPDATE rate_budgets SET counted_at = counted_at - :seconds * interval '1 second' WHERE key_hash = :key",
        seconds=seconds,
        key=budgets.hashed(key),
    )


async def rows(raw: Raw, key: str) -> int:
    return len(await raw("SELECT 1 FROM rate_budgets WHERE key_hash = :key", key=budgets.hashed(key)))


async def test_points_are_taken_until_they_are_gone(engine: AsyncEngine, key: str) -> None:
    held = [await take(engine, key, 40) for _ in range(3)]

    assert [(one.points, one.taken) for one in held] == [(60, True), (20, True), (20, False)]


async def test_looking_takes_nothing_and_leaves_nothing(engine: AsyncEngine, raw: Raw, key: str) -> None:
    new = await take(engine, key, 0)
    kept = await rows(raw, key)
    await take(engine, key, 30)
    known = await take(engine, key, 0)

    assert (new.points, known.points) == (100, 70)
    assert (kept, new.taken, known.taken) == (0, False, False)


async def test_more_than_the_capacity_is_never_there(engine: AsyncEngine, raw: Raw, key: str) -> None:
    held = await take(engine, key, 101, refill=1e9)

    assert (held.points, held.taken) == (100, False)
    assert await rows(raw, key) == 0


async def test_a_budget_refills_with_time_up_to_its_capacity(engine: AsyncEngine, raw: Raw, key: str) -> None:
    await take(engine, key, 100)
    before = await take(engine, key, 1, refill=1e-6)
    await pass_time(raw, key, 3.0)
    after = await take(engine, key, 25, refill=10.0)
    await pass_time(raw, key, 3600.0)
    full = await take(engine, key, 0, refill=10.0)

    assert not before.taken
    assert after.taken
    assert 5 <= after.points < 100, "30 and what the test itself took"
    assert full.points == 100


async def test_time_that_goes_back_takes_nothing_and_gives_nothing(engine: AsyncEngine, raw: Raw, key: str) -> None:
    await take(engine, key, 90)
    await pass_time(raw, key, -3600.0)
    held = [await take(engine, key, 1, refill=10.0) for _ in range(2)]
    [counted] = await raw(
        "SELECT counted_at > now() + interval '50 minutes' AS later FROM rate_budgets WHERE key_hash = :key",
        key=budgets.hashed(key),
    )

    assert [one.points for one in held] == [9, 8]
    assert counted.later, "otherwise the same hour would refill it a second time"


async def test_the_moment_is_that_of_the_database(engine: AsyncEngine, raw: Raw, key: str) -> None:
    [before] = await raw("SELECT extract(epoch FROM now())::float AS at")
    held = [await take(engine, key, 1), await take(engine, key, 0), await take(engine, key, 1000)]
    [after] = await raw("SELECT extract(epoch FROM now())::float AS at")

    assert all(before.at <= one.at <= after.at for one in held)


async def test_takers_in_several_processes_never_overspend(engines: list[AsyncEngine], raw: Raw, key: str) -> None:
    held = await asyncio.gather(*(take(engines[n % 2], key, 7, capacity=500) for n in range(200)))
    [row] = await raw("SELECT points FROM rate_budgets WHERE key_hash = :key", key=budgets.hashed(key))

    spent = [one for one in held if one.taken]
    assert len(spent) == 500 // 7
    assert sorted(one.points for one in spent) == [500 - 7 * n for n in range(71, 0, -1)]
    assert row.points == 500 % 7


async def test_takers_at_once_get_no_more_than_what_refills(engines: list[AsyncEngine], key: str) -> None:
    refill = 200.0
    first = await take(engines[0], key, 100, refill=refill)
    held = [
        one
        for _ in range(10)
        for one in await asyncio.gather(*(take(engines[n % 2], key, 3, refill=refill) for n in range(20)))
    ]
    last = await take(engines[0], key, 0, refill=refill)

    spent = 3 * sum(one.taken for one in held)
    assert spent > 0
    assert spent + last.points <= (last.at - first.at) * refill + 0.001


async def test_each_key_has_a_budget_of_its_own(engine: AsyncEngine, key: str) -> None:
    await take(engine, key, 100)

    assert (await take(engine, f"{key}x", 100)).taken
    assert (await take(engine, f"{key}\ud800", 100)).taken


async def test_budgets_that_are_full_again_are_forgotten(engine: AsyncEngine, write: Write, raw: Raw, key: str) -> None:
    other = uuid.uuid4().hex
    await take(engine, key, 100)
    await take(engine, other, 100)
    await pass_time(raw, other, 11.0)
    await write(lambda s: budgets.forget_full(s, capacity=100, refill=10.0))

    assert await rows(raw, other) == 0
    assert await rows(raw, key) == 1


async def test_what_never_refills_is_never_forgotten(engine: AsyncEngine, write: Write, raw: Raw, key: str) -> None:
    await take(engine, key, 1)
    await pass_time(raw, key, 1e6)
    await write(lambda s: budgets.forget_full(s, capacity=100, refill=0.0))

    assert await rows(raw, key) == 1


async def test_a_broken_connection_is_replaced(own_engine: AsyncEngine, key: str) -> None:
    await take(own_engine, key, 1)
    await terminate(url_of(own_engine), *await backends(own_engine))
    held = await take(own_engine, key, 1)

    assert held.taken


async def test_no_wal_is_written_for_budgets(raw: Raw) -> None:
    [row] = await raw("SELECT relpersistence AS kind FROM pg_class WHERE relname = 'rate_budgets'")

    assert row.kind in ("u", b"u")
