"""The connection pool: from a database URL as people paste it to an engine that heals itself."""

import asyncio
import socket
import ssl
import time
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from persistence.connections.address import parse, set_by_options
from persistence.connections.driver import Driver
from persistence.connections.failures import FAILURES, is_unreachable
from persistence.connections.patience import bounded
from persistence.connections.pool import FairPool
from persistence.settings import Settings

STATEMENT_CACHE = 512
"""Prepared statements a connection keeps; a statement is one shape of a list, so there are more than asyncpg's 100."""


class DatabaseUnreachable(Exception):
    """The database did not answer; the message is one line without credentials."""


def create_engine(settings: Settings, *, pooled: bool = True) -> AsyncEngine:
    """The engine for `settings.database_url`; without `pooled`, every connection is closed after use (migrations)."""
    assert settings.database_url is not None, "the embedded server's URL is set when it has started"
    address = parse(settings.database_url)
    url, arguments = address.url, address.arguments
    arguments.setdefault("timeout", settings.connect_timeout)
    arguments["connection_class"] = Driver
    # `persistence.rows.reading` has moments written as text. Poolers understand this parameter (PgBouncer
    # documentation, "track_extra_parameters"); most others they refuse.
    arguments["server_settings"] = {"datestyle": "ISO", **arguments.get("server_settings", {})}
    if settings.pgbouncer:
        # In transaction mode consecutive statements may meet different servers, so none may be prepared.
        arguments |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    else:
        arguments["statement_cache_size"] = STATEMENT_CACHE
        arguments["server_settings"] = {
            "application_name": "taskstore",
            "timezone": "UTC",
            "jit": "off",  # compiling costs more than any of these statements
            "statement_timeout": milliseconds(settings.statement_timeout),
            "lock_timeout": milliseconds(settings.lock_timeout),
            "idle_in_transaction_session_timeout": milliseconds(settings.idle_in_transaction_timeout),
            **arguments["server_settings"],
        }
    # What is sent by name would win over `options`.
    chosen = set_by_options(arguments["server_settings"].get("options", "")) - {"datestyle"}
    arguments["server_settings"] = {n: v for n, v in arguments["server_settings"].items() if n not in chosen}
    if not pooled:
        return create_async_engine(url, connect_args=arguments, poolclass=NullPool)
    if not settings.pgbouncer:
        # What is read is in memory or on a disk without heads. With the default, 4, a walk along an index looks dearer
        # than to read and sort all that an average owner has, and that is slow for those who have much.
        arguments["server_settings"].setdefault("random_page_cost", "1.1")
    engine = create_async_engine(
        url,
        connect_args=arguments,
        echo=settings.echo,
        hide_parameters=True,
        poolclass=FairPool,
        pool_size=settings.pool_size,
        max_overflow=settings.pool_overflow,
        pool_timeout=settings.pool_timeout,
        pool_recycle=settings.pool_recycle,
        pool_use_lifo=True,
    )
    test_idle_connections(engine, settings.pool_ping_after)
    return engine


def milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def test_idle_connections(engine: AsyncEngine, after: float) -> None:
    """Test a pooled connection before use when it idled for longer than `after` seconds.

    Instead of `pool_pre_ping`, which pays a round trip at every check-out; a connection that breaks
    within those seconds is met by the retry of the read or the transaction.
    """

    @event.listens_for(engine.sync_engine, "checkin")
    def checkin(dbapi_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def checkout(dbapi_connection: Any, record: Any, proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None:
            return
        if time.monotonic() - idle_since <= after and idle_since > engine.pool.distrusted_since:  # type: ignore[attr-defined]
            return
        try:
            with bounded(dbapi_connection.driver_connection):
                engine.dialect.do_ping(dbapi_connection)
        except Exception as error:
            raise DisconnectionError from error  # the pool connects anew

    @event.listens_for(engine.sync_engine, "checkout")
    def refuse_open_transaction(dbapi_connection: Any, record: Any, proxy: Any) -> None:
        # Somebody was cancelled while it began, and SQLAlchemy does not know of it: what is written next would be
        # part of it, and lost with it.
        driver = dbapi_connection.driver_connection
        if driver.is_in_transaction() or driver._top_xact is not None:
            raise DisconnectionError("a transaction was left open")


async def ping(engine: AsyncEngine) -> None:
    """Ask the database for a sign of life. Raises `DatabaseUnreachable`."""
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except FAILURES as error:
        raise DatabaseUnreachable(reason(engine, error)) from None


async def wait_until_reachable(engine: AsyncEngine, seconds: float) -> None:
    """Ping until the database answers, for at most `seconds`. Raises `DatabaseUnreachable`.

    What no waiting mends (a wrong password, a missing database) is raised at once.
    """
    deadline = time.monotonic() + seconds
    delay = 0.05
    while True:
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                return
        except FAILURES as error:
            if not is_unreachable(error) or time.monotonic() + delay > deadline:
                raise DatabaseUnreachable(reason(engine, error)) from None
        await asyncio.sleep(delay)
        delay = min(delay * 2, 2.0)


REASONS: dict[type[BaseException], str] = {
    asyncpg.InvalidPasswordError: "the user or the password is wrong",
    asyncpg.InvalidAuthorizationSpecificationError: "the user may not connect",
    asyncpg.InvalidCatalogNameError: "there is no such database",
    asyncpg.TooManyConnectionsError: "it has no connection left",
    asyncpg.CannotConnectNowError: "it is starting or stopping",
    ConnectionRefusedError: "nothing listens there",
    FileNotFoundError: "its socket does not exist",
    socket.gaierror: "its name has no address",
    asyncpg.TargetServerAttributeNotMatched: "none of its hosts is of the kind that is asked for",
    TimeoutError: "it did not answer in time",
    ssl.SSLCertVerificationError: "its certificate does not prove that it is the one (sslrootcert, sslmode)",
    ssl.SSLError: "the TLS handshake failed",
    asyncpg.ProtocolViolationError: "a pooler such as PgBouncer refuses time limits (TASKSTORE_PGBOUNCER)",
}


def reason(engine: AsyncEngine, error: BaseException) -> str:
    """One line that says where the database should be and why it is not there, without credentials."""
    where = parse(str(engine.url)).where
    cause: BaseException | None = error
    while cause is not None:
        for kind, words in REASONS.items():
            if isinstance(cause, kind):
                return f"the database at {where} is unreachable: {words}"
        if isinstance(cause, ConnectionError) and "rejected SSL" in str(cause):
            return f"the database at {where} is unreachable: it does not speak TLS, which sslmode asks for"
        cause = getattr(cause, "orig", None) or cause.__cause__
    return f"the database at {where} is unreachable"
