"""Statements that may look at many rows take their share of the connections, and leave the rest to others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks
from persistence.connections.engine import create_engine
from persistence.connections.readers import readers_of
from persistence.connections.shares import Shares
from persistence.lists import pages
from persistence.lists.listing import Order, Query, Window
from persistence.rows.reading import Dear
from persistence.session import Session
from persistence.settings import Settings
from tests.conftest import Account

pytestmark = pytest.mark.anyio

COLUMNS = frozenset({"id"})
FIRST = Window(10)


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine with four connections: two for what may look at many rows, one of them for each owner."""
    engine = create_engine(replace(settings, pool_size=4, pool_overflow=0, pool_timeout=0.2))
    yield engine
    await engine.dispose()


def of(account: Account, **more: Any) -> Query:
    return Query(tasks.LISTING, limited=True, values={"owner": account.id, **more.pop("values", {})}, **more)


async def test_everything_but_a_walk_takes_a_share(account: Account) -> None:
    walk, search = of(account), of(account, searching=True, values={"search": "x"})
    other = of(account, order=(Order("completed_at"),))

    def kinds(query: Query) -> list[bool]:
        statements = [
            pages._page_statement(query, COLUMNS, False, 11, False, None, False),
            pages._count_statement(query, False),
        ]
        return [isinstance(statement, Dear) for statement in statements]

    assert kinds(walk) == [False, True]
    assert kinds(search) == kinds(other) == [True, True]


async def test_others_read_on_while_all_shares_are_taken(
    small: AsyncEngine, account: Account, new_account: Any
) -> None:
    shares, other = readers_of(small).shares, await new_account()
    async with AsyncExitStack() as stack:
        for owner in ("one", "another"):
            await stack.enter_async_context(shares.turn(owner))
        page = await pages.page(Session(small), of(account), FIRST, COLUMNS, keys=False)
        with pytest.raises(exc.TimeoutError):
            await pages.count(Session(small), of(other))

    assert page.rows == []
    assert await pages.count(Session(small), of(other)) == 0


async def test_one_owner_takes_no_share_of_another(small: AsyncEngine, account: Account, new_account: Any) -> None:
    shares, other = readers_of(small).shares, await new_account()
    async with shares.turn(account.id):
        with pytest.raises(exc.TimeoutError):
            await pages.count(Session(small), of(account))
        assert await pages.count(Session(small), of(other)) == 0


async def test_shares_are_bounded_in_all_and_for_each_and_given_back() -> None:
    shares, running, seen = Shares(16, 5.0), dict[int, int](), list[tuple[int, int]]()

    async def ask(owner: int) -> None:
        async with shares.turn(owner):
            running[owner] = running.get(owner, 0) + 1
            seen.append((sum(running.values()), running[owner]))
            try:
                await asyncio.sleep(0)
            finally:
                running[owner] -= 1

    asked = [asyncio.create_task(ask(n % 5)) for n in range(100)]
    await asyncio.sleep(0)
    for task in asked[::7]:
        task.cancel()
    for task in asked:
        with suppress(asyncio.CancelledError):
            await task

    assert (shares.most, shares.each) == (8, 2)
    assert len(seen) > 50
    assert max(total for total, _ in seen) == 8
    assert max(own for _, own in seen) == 2
    assert shares._of == {}
    assert shares._all._value == 8
