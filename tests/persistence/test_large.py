"""What is asked costs what the asker has: on tables where others have very much, and whatever they asked before.

Tests look at the buffers that PostgreSQL read (EXPLAIN), never at a clock.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from benchmarks import large
from benchmarks.data import named_id
from persistence import migrations

pytestmark = pytest.mark.anyio

SHAPE = large.Shape.of(0.02)


@pytest.fixture(scope="module")
def large_url(new_database: Callable[[], str]) -> str:
    """A database of the shape that grows."""
    url = new_database()
    migrations.upgrade(url)
    asyncio.run(large.report(url, SHAPE))
    return url


@pytest.fixture
async def connection(large_url: str) -> Any:
    connection = await asyncpg.connect(large_url)
    yield connection
    await connection.close()


async def test_the_large_database_has_the_shape_it_says(connection: Any) -> None:
    counts = await connection.fetch("SELECT owner_id, count(*) FROM tasks GROUP BY 1 ORDER BY 2")

    smallest, largest = counts[0], counts[-1]
    assert (str(smallest[0]), smallest[1]) == (named_id(large.SMALL), large.SMALL_TASKS)
    assert (str(largest[0]), largest[1]) == (named_id(large.LARGE), SHAPE.large)
    assert len(counts) == SHAPE.users == await connection.fetchval("SELECT count(*) FROM users")
    assert sum(count for _, count in counts) == SHAPE.tasks
    assert await connection.fetchval("SELECT count(*) FROM changes") == SHAPE.changes
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == SHAPE.keys


async def test_a_large_database_is_not_made_over_another(connection: Any) -> None:
    with pytest.raises(ValueError, match="tasks already"):
        await large.fill(connection, SHAPE)
