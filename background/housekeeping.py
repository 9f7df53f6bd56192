"""Deleting what is too old and what closed accounts own, and cutting texts that something else has written.

All of it in small transactions, shared by all processes that do it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from background.loops import Loop, in_transaction, unless_it_fails
from persistence import budgets, throttle
from persistence.session import Session
from persistence.settings import Settings
from persistence.writes import closing, cutting, idempotency

FORGET_SECONDS = 1800.0
FORGET_FIRST = 30.0
"""A server that restarts often deletes what is too old all the same."""
ERASE_SECONDS = 2.0
"""How often it is looked for accounts that are closed and not deleted yet."""
CUT_SECONDS = 30.0


def housekeeping(engine: AsyncEngine, settings: Settings) -> Sequence[Loop]:
    """The loops that keep house in a database."""
    return [
        Loop(partial(forget_old, engine, settings), FORGET_SECONDS, FORGET_FIRST),
        Loop(partial(erase_closed, engine), ERASE_SECONDS),
        Loop(partial(cut_texts, engine), CUT_SECONDS),
    ]


async def forget_old(engine: AsyncEngine, settings: Settings) -> None:
    """Delete what is too old, each batch in a transaction of its own, until nothing is left of it."""
    await unless_it_fails(_forget_answers(engine))
    full = partial(budgets.forget_full, capacity=settings.rate_budget, refill=settings.rate_refill)
    for forget in (throttle.forget_old, full):
        await unless_it_fails(_in_batches(engine, forget))


async def _forget_answers(engine: AsyncEngine) -> None:
    after = await in_transaction(engine, idempotency.forget_old)
    while after is not None:
        after = await in_transaction(engine, partial(idempotency.forget_old, after=after))


async def _in_batches(engine: AsyncEngine, forget: Callable[[Session], Awaitable[bool]]) -> None:
    while await in_transaction(engine, forget):
        pass


async def cut_texts(engine: AsyncEngine, where: str = cutting.UNCUT) -> int:
    """Cut the texts of rows for which that holds: those that something else wrote. Returns how many there were."""
    return await cutting.cut_all(partial(in_transaction, engine), where)


async def erase_closed(engine: AsyncEngine) -> None:
    """Delete what closed accounts own, until nothing is left that no other process is at.

    Others come first: after each batch it rests for as long as that took.
    """
    began = time.monotonic()
    while await in_transaction(engine, closing.erase):
        await asyncio.sleep(min(time.monotonic() - began, 1.0))
        began = time.monotonic()
