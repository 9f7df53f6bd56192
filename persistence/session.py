"""The session of one request: reads one at a time on a lazily opened connection, writes in whole transactions."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar
from uuid import UUID
from weakref import ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session as SyncSession

from persistence.connections.failures import (
    FAILURES,
    READ_ONLY,
    UnknownOutcome,
    is_outdated,
    is_undone,
    is_unreachable,
    sqlstate,
)
from persistence.connections.patience import SETTLE_SECONDS, bounded
from persistence.connections.pool import goes_on
from persistence.connections.readers import Asked, Kind, Readers, readers_of
from persistence.rows.reading import Dear, Row, Statement
from persistence.rules.constraints import violated

T = TypeVar("T")

ORM_ATTRIBUTES = frozenset({"_proxied", "sync_session", "_async_bind", "_async_binds", "bind", "binds"})
"""What the constructor of SQLAlchemy's session sets."""

ATTEMPTS = 4
"""How often a transaction is tried that lost to a concurrent one."""
OUTDATED = 10
"""How often it is tried that meets prepared statements which the last steps of a migration have outdated."""
CANCELLED = "57014"
"""SQLSTATE of query_canceled. In the first second it was not meant for this statement."""
RETRIABLE = {"40001", "40P01"}
"""SQLSTATE of serialization_failure and deadlock_detected (PostgreSQL documentation, appendix A)."""


class RecordedSession(SyncSession):
    """The ORM session whose flushes are written to the change log (`persistence.writes.changes`)."""


@event.listens_for(RecordedSession, "after_begin")
def own_connection(session: SyncSession, transaction: Any, connection: Connection) -> None:
    connection.info["session"] = session.info
    session.info["connection"] = ref(connection)


@event.listens_for(Engine, "before_cursor_execute")
def count_statement(connection: Connection, *_: Any) -> None:
    info = connection.info.get("session")
    if info is not None:
        info["statements"] = info.get("statements", 0) + 1


class Session(AsyncSession):
    """Reads and writes of one request.

    Sibling resolvers run concurrently and a connection cannot: `fetch` lets them in one after another.
    A connection is taken when a statement needs one and given back after it, or after the transaction.
    """

    sync_session_class = RecordedSession

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn: asyncio.Lock | None = None
        self._readers = readers_of(engine)
        self._actor_id: UUID | None = None
        self._fetches = 0
        self.rows = 0
        """How many rows `fetch` got."""

    def __getattr__(self, name: str) -> Any:
        """Make the ORM's session on first use: most requests only read, and it takes as long as a small read."""
        if name not in ORM_ATTRIBUTES or "_proxied" in self.__dict__:
            raise AttributeError(name)
        super().__init__(self._engine, expire_on_commit=False, autoflush=False)
        self.info["actor_id"] = self._actor_id
        return self.__dict__[name]

    @property
    def statements(self) -> int:
        """How many statements it ran, not counting BEGIN and COMMIT."""
        written: int = self.info.get("statements", 0) if "_proxied" in self.__dict__ else 0
        return self._fetches + written

    def in_transaction(self) -> bool:
        """Whether a transaction has begun."""
        return "_proxied" in self.__dict__ and super().in_transaction()

    @property
    def actor_id(self) -> UUID | None:
        """Who is written into the change log; None: the system."""
        return self._actor_id

    @actor_id.setter
    def actor_id(self, value: UUID | None) -> None:
        self._actor_id = value
        if "_proxied" in self.__dict__:
            self.info["actor_id"] = value

    def _one_at_a_time(self) -> asyncio.Lock:
        if self._turn is None:
            self._turn = asyncio.Lock()
        return self._turn

    async def fetch(self, statement: Statement[Row], values: Mapping[str, Any]) -> list[Row]:
        """The rows of a read; inside a transaction, the read sees its writes.

        Outside a transaction each statement is a snapshot of its own and costs one round trip: there is
        no BEGIN. A connection that broke since its last use is replaced once.
        """
        arguments = statement.arguments(values)
        async with self._one_at_a_time():
            self._fetches += 1
            if self.in_transaction():
                await self.flush()
                proxy: Any = await (await self.connection()).get_raw_connection()
                if proxy.dbapi_connection._transaction is None:  # SQLAlchemy begins with its own first statement
                    await proxy.dbapi_connection._start_transaction()
                driver: Any = proxy.driver_connection
                rows: list[Row] = await driver.rows(statement.sql, arguments, statement.record)
            else:
                if self._fetches > 1:
                    goes_on.set(True)  # of this task and thereby of this operation, which needs no reset
                if isinstance(statement, Dear):
                    async with self._readers.shares.turn(values.get("owner")):
                        rows = await self._readers.read(statement, arguments)
                else:
                    rows = await self._readers.read(statement, arguments)
            self.rows += len(rows)
            return rows

    def find(self, statement: Statement[Row], id: UUID, viewer: UUID) -> Awaitable[Row | None]:
        """The row with an id, as far as the viewer may see it, from a statement for lookups (`persistence.nodes`).

        Outside a transaction the statement is shared with others who ask at the same time
        (`persistence.connections.sharing`).
        """
        if self.in_transaction():
            return self._find(statement, id, viewer)
        self._fetches += 1
        return self._readers.share(statement, look_up, (id, viewer, self))

    async def _find(self, statement: Statement[Row], id: UUID, viewer: UUID) -> Row | None:
        rows = await self.fetch(statement, {"ids": [id], "viewers": [viewer]})
        return rows[0] if rows else None

    def share(
        self,
        kind: Kind,
        run: "Callable[[Kind, Readers, list[Asked]], Awaitable[Sequence[Any]]]",
        asked: Asked,
        apart: frozenset[Hashable],
    ) -> Awaitable[Any]:
        """Ask outside of any transaction, together with others (`Readers.share`)."""
        self._fetches += 1
        return self._readers.share(kind, run, asked, apart)

    def turn_of(self, what: Hashable) -> asyncio.Lock:
        """What lets in one after another of the process who are about to wait for the same thing of the database."""
        return self._readers.turns.setdefault(what, asyncio.Lock())

    async def close(self) -> None:
        if self.in_transaction():
            with self._bounded():
                await super().close()

    def _bounded(self) -> AbstractContextManager[Any]:
        """Undoing a transaction must not wait for ever, nor keep an answer from a client: a server may have hung."""
        driver = self._driver()
        return nullcontext() if driver is None else bounded(driver)

    def _driver(self) -> Any:
        """The driver's connection of the transaction, if it has one."""
        found = self.info["connection"]() if "connection" in self.info else None
        return None if found is None or found.closed or found.invalidated else found.connection.driver_connection

    async def transact(self, work: Callable[["Session"], Awaitable[T]]) -> T:
        """Run `work` in one transaction, committed when this returns; on any error nothing of it remains.

        A transaction that lost to a concurrent one, whose connection broke before COMMIT, or whose prepared
        statements a migration has outdated, is tried again as a whole, so `work` starts from what it reads
        itself. Raises `UnknownOutcome` when the connection broke during COMMIT, and whatever `work` raises.
        """
        self._readers.make_room()
        outdated, attempt, began = 0, 0, time.monotonic()
        while attempt < ATTEMPTS:
            attempt += 1
            try:
                return await self._attempt(work)
            except Exception as error:
                self._readers.troubles.note(error)
                if is_outdated(error) and outdated < OUTDATED:
                    outdated, attempt = outdated + 1, attempt - 1
                    dialect: Any = self._engine.dialect
                    dialect._invalidate_schema_cache()  # of every connection, before its next statement
                    continue
                lost = sqlstate(error) in RETRIABLE
                stray = sqlstate(error) == CANCELLED and time.monotonic() - began < SETTLE_SECONDS
                broken = (is_unreachable(error) or stray) and attempt == 1
                if attempt == ATTEMPTS or not (lost or broken):
                    domain_error = violated(error) if isinstance(error, IntegrityError) else None
                    if domain_error is not None:
                        raise domain_error from error
                    raise
            await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  # jitter, not a secret
        raise AssertionError("unreachable")

    async def note(self, work: Callable[["Session"], Awaitable[T]]) -> T:
        """As `transact`, for what no answer speaks of, such as the count of failures before a password is changed.

        Nobody waits for that, so where nobody can say whether it was saved, the database was away, and nothing is done.
        """
        try:
            return await self.transact(work)
        except UnknownOutcome as error:
            cause = error.__cause__
        assert cause is not None
        raise cause

    async def _attempt(self, work: Callable[["Session"], Awaitable[T]]) -> T:
        self.expunge_all()
        await self.begin()  # opens no connection yet, but from here on a read belongs to the transaction
        try:
            result = await work(self)
            await self.flush()
        except BaseException as error:
            self.expunge_all()  # a row that an error shows stays readable
            if sqlstate(error) == READ_ONLY:
                self._readers.renew()
            with suppress(*FAILURES), self._bounded():
                await self.rollback()
            raise
        driver = self._driver()
        try:
            await self.commit()
        except BaseException as error:
            if driver is not None and not isinstance(error, Exception):
                driver.terminate()  # nothing can be undone, and nobody should wait until it is done
            with suppress(*FAILURES), self._bounded():
                await self.rollback()
            if is_unreachable(error) and not is_undone(error):
                raise UnknownOutcome from error
            raise
        return result


async def look_up(
    statement: Statement[Row], readers: Readers, wanted: list[tuple[UUID, UUID, Session]]
) -> list[Row | None]:
    """The rows with these ids, as far as each viewer may see it; the session of who asks counts them."""
    values = {"ids": [id for id, _, _ in wanted], "viewers": [viewer for _, viewer, _ in wanted]}
    rows: list[Any] = await readers.read(statement, statement.arguments(values), quick=True)
    found: list[Row | None] = [None] * len(wanted)
    for row in rows:
        place = row.place - 1
        found[place] = row
        wanted[place][2].rows += 1
    return found
