"""Running loops: each again and again, and what fails keeps nothing else from being done."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.session import Session

T = TypeVar("T")

TRANSACTION_SECONDS = 60.0
"""What one transaction may take: a server process that hangs does not end a statement by itself."""

log = structlog.stdlib.get_logger("taskstore")


@dataclass(frozen=True)
class Loop:
    """Something to do again and again, with `seconds` of rest before each time (`first` before the first)."""

    work: Callable[[], Awaitable[object]]
    seconds: float
    first: float | None = None

    async def run(self) -> None:
        rest = self.seconds if self.first is None else self.first
        while True:
            await asyncio.sleep(rest)
            await unless_it_fails(self.work())
            rest = self.seconds


async def run(loops: Sequence[Loop]) -> None:
    """Run loops until this is cancelled."""
    await asyncio.gather(*(loop.run() for loop in loops))


async def unless_it_fails(work: Awaitable[object]) -> None:
    """Do a part of the work. What fails is told in the log and tried again next time."""
    try:
        await work
    except Exception as error:
        log.warning("housekeeping failed", exc_info=error)


async def in_transaction(engine: AsyncEngine, work: Callable[[Session], Awaitable[T]]) -> T:
    """Run something in one transaction of a session of its own, as the system. Raises TimeoutError."""
    session = Session(engine)
    try:
        async with asyncio.timeout(TRANSACTION_SECONDS):
            return await session.transact(work)
    finally:
        await session.close()
