"""What goes wrong with a database, apart from what is wrong with a statement."""

import asyncpg
from sqlalchemy.connectors.asyncio import AsyncAdapt_Error
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

# What a driver or the operating system raises when the server is away, or going away.
UNREACHABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.ConnectionFailureError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server died in the middle of an answer
)

# Everything that a driver may raise, as itself or wrapped by SQLAlchemy.
FAILURES: tuple[type[BaseException], ...] = (SQLAlchemyError, AsyncAdapt_Error, asyncpg.PostgresError, *UNREACHABLE)


class ConnectionBroke(ConnectionError):
    """The connection broke during a statement, which may have been carried out or not."""


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the database is away, rather than that a statement is wrong."""
    if isinstance(error, DBAPIError):
        driver_error = getattr(error.orig, "__cause__", None)
        return error.connection_invalidated or (driver_error is not None and is_unreachable(driver_error))
    if isinstance(error, AsyncAdapt_Error):  # not wrapped yet: the server died while the connection was set up
        return error.__cause__ is not None and is_unreachable(error.__cause__)
    if isinstance(error, asyncpg.InterfaceError):
        return "closed" in str(error)  # it is also raised for a connection that is busy, which is a bug here
    return isinstance(error, UNREACHABLE)
