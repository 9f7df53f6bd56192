"""What goes wrong with a database, apart from what is wrong with a statement."""

import asyncpg
from sqlalchemy.connectors.asyncio import AsyncAdapt_Error
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

# What a driver or the operating system raises when the server is away, or going away.
UNREACHABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,  # class 08; a pooler says so of the server behind it
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # the server is a standby, or became one
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server died in the middle of an answer
)

# Everything that a driver may raise, as itself or wrapped by SQLAlchemy.
FAILURES: tuple[type[BaseException], ...] = (SQLAlchemyError, AsyncAdapt_Error, asyncpg.PostgresError, *UNREACHABLE)


READ_ONLY = "25006"
"""SQLSTATE of read_only_sql_transaction (PostgreSQL documentation, appendix A)."""


class ConnectionBroke(ConnectionError):
    """The connection broke during a statement, which may have been carried out or not."""


class NothingDone(ConnectionBroke):
    """The connection was of no use for a statement, which has certainly not been carried out."""


class Contended(Exception):
    """Others kept what a write needs for too long; nothing was written."""


class UnknownOutcome(Exception):
    """The connection broke while a write was being saved: it may be there or not. A retry with the same key is safe."""


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the database is away, rather than that a statement is wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = of_driver(error)
    if isinstance(cause, asyncpg.InterfaceError):
        return "closed" in str(cause)  # it is also raised for a connection that is busy, which is a bug here
    return isinstance(cause, UNREACHABLE)


def is_out_of_order(error: BaseException) -> bool:
    """Whether the database cannot serve anybody now, and says so: no disk, memory or connection left, files that it
    cannot read or write, a user or database that it does not know. Classes 53, 58, 28 and 3D of appendix A."""
    return (sqlstate(error) or "").startswith(("53", "58", "28", "3D"))


def is_outdated(error: BaseException) -> bool:
    """Whether the schema changed under a prepared statement; prepared anew, it will do."""
    return isinstance(of_driver(error), asyncpg.InvalidCachedStatementError)


def is_undone(error: BaseException) -> bool:
    """Whether an error that means that the database is away says as well that the statement was not carried out.

    The driver refuses to send over a connection that it knows to be closed; a read-only server refuses to write.
    """
    return isinstance(of_driver(error), (asyncpg.InterfaceError, asyncpg.ReadOnlySQLTransactionError))


def of_driver(error: BaseException) -> BaseException:
    """The driver's error in one that SQLAlchemy has wrapped once or twice (while a connection is set up)."""
    adapted = error.orig if isinstance(error, DBAPIError) else error if isinstance(error, AsyncAdapt_Error) else None
    return error if adapted is None else adapted.__cause__ or adapted


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error, plain or wrapped by SQLAlchemy (PostgreSQL documentation, appendix A)."""
    state: str | None = getattr(of_driver(error), "sqlstate", None)
    return state
