"""The order in which connections are given out, and how many are kept."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from sqlalchemy import PoolProxiedConnection, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.queue import Empty, Full

from persistence.connections import pool
from persistence.connections.engine import create_engine
from persistence.connections.failures import FAILURES, is_unreachable
from persistence.connections.pool import FairPool, FairQueue, goes_on
from persistence.connections.readers import readers_of
from persistence.settings import Settings

pytestmark = pytest.mark.anyio

SIZE, OVERFLOW = 2, 3


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(replace(settings, pool_size=SIZE, pool_overflow=OVERFLOW, pool_timeout=0.2))
    yield engine
    await engine.dispose()


async def hold(engine: AsyncEngine) -> list[PoolProxiedConnection]:
    """Take all connections there may be."""
    return [await engine.raw_connection() for _ in range(SIZE + OVERFLOW)]


def give_back(connection: PoolProxiedConnection) -> None:
    connection.close()


async def test_who_waits_longest_gets_the_next_connection(small: AsyncEngine) -> None:
    held = await hold(small)
    served: list[int] = []

    async def wait(number: int) -> None:
        connection = await small.raw_connection()
        served.append(number)
        await asyncio.sleep(0)
        give_back(connection)

    waiting = [asyncio.create_task(wait(number)) for number in range(20)]
    await asyncio.sleep(0.01)
    give_back(held.pop())
    late = asyncio.create_task(wait(20))  # comes when one is free that somebody else waits for
    await asyncio.gather(*waiting, late)
    for connection in held:
        give_back(connection)

    assert served == list(range(21))


async def test_a_pool_without_a_free_connection_says_so_in_time(small: AsyncEngine) -> None:
    held = await hold(small)
    with pytest.raises(PoolTimeout):
        await small.raw_connection()
    for connection in held:
        give_back(connection)
    async with small.connect() as another:
        assert await another.scalar(text("SELECT 1")) == 1


async def test_a_waiter_that_is_cancelled_leaves_the_connection_to_the_next(small: AsyncEngine) -> None:
    held = await hold(small)
    first, second = (asyncio.create_task(small.raw_connection()) for _ in range(2))
    await asyncio.sleep(0.01)
    give_back(held.pop())  # handed to the first, which will not take it
    first.cancel()
    taken = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    for connection in [taken, *held]:
        give_back(connection)

    assert isinstance(small.pool, FairPool)
    assert small.pool.checkedout() == 0


async def test_a_waiter_that_is_cancelled_alone_gives_the_connection_back(small: AsyncEngine) -> None:
    held = await hold(small)
    waiter = asyncio.create_task(small.raw_connection())
    await asyncio.sleep(0.01)
    give_back(held.pop())
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    for connection in held:
        give_back(connection)

    assert isinstance(small.pool, FairPool)
    assert (small.pool.checkedout(), small.pool.checkedin()) == (0, SIZE + OVERFLOW)


async def test_busy_connections_are_kept_beyond_the_size_of_the_pool(small: AsyncEngine) -> None:
    backends = set()
    for _ in range(3):
        held = await hold(small)
        backends |= {connection.driver_connection.get_server_pid() for connection in held}  # type: ignore[union-attr]
        for connection in held:
            give_back(connection)

    assert len(backends) == SIZE + OVERFLOW


async def test_connections_that_were_not_needed_for_a_while_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: FairQueue[str] = FairQueue(2)
    for item in "abc":
        queue.put_nowait(item)
    monkeypatch.setattr(pool, "KEEP_SECONDS", -1.0)

    with pytest.raises(Full):
        await greenlet_spawn(queue.put_nowait, "d")
    assert [queue.get_nowait() for _ in range(queue.qsize())] == ["c", "b", "a"]


async def test_a_failed_wait_leaves_nothing_behind() -> None:
    queue: FairQueue[str] = FairQueue(1)
    with pytest.raises(Empty):
        await greenlet_spawn(queue.get, True, 0.01)
    queue.put_nowait("a")

    assert queue.qsize() == 1


async def test_who_waits_for_the_pool_comes_before_the_next_read(small: AsyncEngine) -> None:
    readers = readers_of(small)
    reading = await readers.take()
    held = [await small.raw_connection() for _ in range(SIZE + OVERFLOW - 1)]
    first = asyncio.create_task(readers.take())
    await asyncio.sleep(0.01)
    readers.give(reading)
    second = asyncio.create_task(readers.take())
    await asyncio.sleep(0.01)

    assert (first.done(), second.done()) == (True, False)
    readers.give(await first)
    readers.give(await second)
    for connection in held:
        give_back(connection)


async def test_a_connection_that_idles_after_a_read_is_there_for_who_writes(small: AsyncEngine) -> None:
    readers = readers_of(small)
    readers.give(await readers.take())
    held = await hold(small)

    assert readers.idle == 0
    for connection in held:
        give_back(connection)


async def test_work_that_goes_on_comes_before_work_that_begins(small: AsyncEngine) -> None:
    held = await hold(small)
    served: list[str] = []

    async def wait(name: str, again: bool) -> None:
        goes_on.set(again)
        connection = await small.raw_connection()
        served.append(name)
        give_back(connection)

    waiting = [asyncio.create_task(wait(*who)) for who in (("new 1", False), ("new 2", False), ("again", True))]
    await asyncio.sleep(0.01)
    give_back(held.pop())
    await asyncio.gather(*waiting)
    for connection in held:
        give_back(connection)

    assert served == ["again", "new 1", "new 2"]


def test_a_server_that_dies_while_a_connection_is_set_up_is_unreachable() -> None:
    error = AsyncAdapt_asyncpg_dbapi.Error("broken")  # type: ignore[no-untyped-call]  # as the pool raises it
    error.__cause__ = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    assert is_unreachable(error)
    assert isinstance(error, FAILURES)


async def test_a_read_passes_its_connection_on_to_the_read_that_waits(small: AsyncEngine) -> None:
    readers = readers_of(small)
    taken = [await readers.take() for _ in range(SIZE + OVERFLOW)]
    waiting = asyncio.create_task(readers.take())
    await asyncio.sleep(0.01)
    readers.give(taken[0])

    assert await waiting is taken[0]
    for reader in taken:
        readers.give(reader)


async def test_a_read_that_waits_gets_a_connection_that_comes_back_to_the_pool(small: AsyncEngine) -> None:
    readers, held = readers_of(small), await hold(small)
    waiting = asyncio.create_task(readers.take())
    await asyncio.sleep(0.01)
    give_back(held.pop())
    reader = await waiting

    assert await reader.driver.fetchval("SELECT 1") == 1
    readers.give(reader)
    for connection in held:
        give_back(connection)


async def test_a_write_that_waits_comes_before_a_read_that_came_later(small: AsyncEngine) -> None:
    readers = readers_of(small)
    taken = [await readers.take() for _ in range(SIZE + OVERFLOW)]
    writing = asyncio.create_task(small.raw_connection())
    await asyncio.sleep(0.01)
    reading = asyncio.create_task(readers.take())
    await asyncio.sleep(0.01)
    readers.give(taken.pop())
    connection = await writing

    assert not reading.done()
    give_back(connection)
    for reader in [*taken, await reading]:
        readers.give(reader)


async def test_a_read_that_is_cancelled_when_it_was_its_turn_leaves_the_connection_to_the_next(
    small: AsyncEngine,
) -> None:
    readers = readers_of(small)
    taken = [await readers.take() for _ in range(SIZE + OVERFLOW)]
    first, second = asyncio.create_task(readers.take()), asyncio.create_task(readers.take())
    await asyncio.sleep(0.01)
    readers.give(taken[0])
    first.cancel()

    assert await second is taken[0]
    for reader in taken:
        readers.give(reader)


async def test_a_read_that_waits_for_too_long_is_told_so(small: AsyncEngine) -> None:
    readers = readers_of(small)
    taken = [await readers.take() for _ in range(SIZE + OVERFLOW)]
    with pytest.raises(PoolTimeout):
        await readers.take()
    for reader in taken:
        readers.give(reader)
