"""The session of one request: reads one at a time on a lazily opened connection, writes in whole transactions."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import Connection, Engine, PoolProxiedConnection, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.util import greenlet_spawn

from persistence.constraints import violated
from persistence.engine import FAILURES, is_unreachable
from persistence.reading import Row, Statement

T = TypeVar("T")

ATTEMPTS = 4
"""How often a transaction is tried that lost to a concurrent one."""
RETRIABLE = {"40001", "40P01"}
"""SQLSTATE of serialization_failure and deadlock_detected (PostgreSQL documentation, appendix A)."""


class UnknownOutcome(Exception):
    """The connection broke during COMMIT: the write may be there or not. Retrying with the same key is safe."""


class RecordedSession(SyncSession):
    """The ORM session whose flushes are written to the change log (`persistence.changes`)."""


@event.listens_for(RecordedSession, "after_begin")
def own_connection(session: SyncSession, transaction: Any, connection: Connection) -> None:
    connection.info["session"] = session.info


@event.listens_for(Engine, "before_cursor_execute")
def count_statement(connection: Connection, *_: Any) -> None:
    info = connection.info.get("session")
    if info is not None:
        info["statements"] = info.get("statements", 0) + 1


class Session(AsyncSession):
    """Reads and writes of one request.

    Sibling resolvers run concurrently and a connection cannot: `fetch` lets them in one after another.
    Nothing is connected before the first statement, and `close` gives everything back.
    """

    sync_session_class = RecordedSession

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine, expire_on_commit=False, autoflush=False)
        self._engine = engine
        self._turn = asyncio.Lock()
        self._reader: PoolProxiedConnection | None = None
        self._fetches = 0
        self.rows = 0
        """How many rows `fetch` got."""

    @property
    def statements(self) -> int:
        """How many statements it ran, not counting BEGIN and COMMIT."""
        written: int = self.info.get("statements", 0)
        return self._fetches + written

    @property
    def actor_id(self) -> UUID | None:
        """Who is written into the change log; None: the system."""
        actor: UUID | None = self.info.get("actor_id")
        return actor

    @actor_id.setter
    def actor_id(self, value: UUID | None) -> None:
        self.info["actor_id"] = value

    async def fetch(self, statement: Statement[Row], values: Mapping[str, Any]) -> list[Row]:
        """The rows of a read; inside a transaction, the read sees its writes.

        Outside a transaction each statement is a snapshot of its own and costs one round trip: there is
        no BEGIN. A connection that broke since its last use is replaced once.
        """
        arguments = statement.arguments(values)
        async with self._turn:
            self._fetches += 1
            if self.in_transaction():
                await self.flush()
                proxy = await (await self.connection()).get_raw_connection()
                rows = await _records(proxy, statement, arguments)
            else:
                rows = await self._read(statement, arguments)
            self.rows += len(rows)
            return rows

    async def _read(self, statement: Statement[Row], arguments: list[Any]) -> list[Row]:
        if self._reader is None:
            self._reader = await self._engine.raw_connection()
        try:
            return await _records(self._reader, statement, arguments)
        except Exception as error:
            if not is_unreachable(error):
                raise
            await self._discard_reader(error)
        self._reader = await self._engine.raw_connection()
        return await _records(self._reader, statement, arguments)

    async def _discard_reader(self, error: Exception) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            # The others in the pool are as old and most likely broken too: none is used again, which
            # is what SQLAlchemy does when it meets a broken connection itself.
            await greenlet_spawn(self._engine.sync_engine.pool._invalidate, reader, error)
            await greenlet_spawn(reader.close)

    def release(self) -> None:
        """Give the reading connection back to the pool; the next read takes one again."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()  # nothing to await: no transaction was begun

    async def close(self) -> None:
        self.release()
        if self.in_transaction():
            await super().close()

    async def transact(self, work: Callable[["Session"], Awaitable[T]]) -> T:
        """Run `work` in one transaction, committed when this returns; on any error nothing of it remains.

        A transaction that lost to a concurrent one, or whose connection broke before COMMIT, is tried
        again as a whole, so `work` starts from what it reads itself. Raises `UnknownOutcome` when the
        connection broke during COMMIT, and whatever `work` raises.
        """
        self.release()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(work)
            except Exception as error:
                lost = sqlstate(error) in RETRIABLE
                broken = is_unreachable(error) and attempt == 1
                if attempt == ATTEMPTS or not (lost or broken):
                    if isinstance(error, IntegrityError):
                        raise violated(error) from error
                    raise
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  # jitter, not a secret
        raise AssertionError("unreachable")

    async def _attempt(self, work: Callable[["Session"], Awaitable[T]]) -> T:
        self.expunge_all()
        await self.begin()  # opens no connection yet, but from here on a read belongs to the transaction
        try:
            result = await work(self)
            await self.flush()
        except BaseException:
            self.expunge_all()  # a row that an error shows stays readable
            with suppress(*FAILURES):
                await self.rollback()
            raise
        try:
            await self.commit()
        except Exception as error:
            with suppress(*FAILURES):
                await self.rollback()
            if is_unreachable(error):
                raise UnknownOutcome from error
            raise
        return result


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error, plain or wrapped by SQLAlchemy."""
    state: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state


async def _records(proxy: PoolProxiedConnection, statement: Statement[Row], arguments: list[Any]) -> list[Row]:
    connection: asyncpg.Connection[Any] = proxy.driver_connection  # type: ignore[assignment]  # SQLAlchemy types it as Any|None
    rows: list[Row] = await connection.fetch(statement.sql, *arguments, record_class=statement.record)
    return rows
