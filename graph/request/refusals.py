"""What no other input mends (not signed in, a limit, an outage): a top-level error with `extensions.code`."""

from asyncpg import DataError, QueryCanceledError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from graph.execution.errors import RequestError
from persistence.connections.engine import DatabaseUnreachable
from persistence.connections.failures import Contended, UnknownOutcome, is_out_of_order, is_unreachable, sqlstate
from persistence.rules.errors import DomainError


def unauthenticated(message: str = "Sign in first: send `Authorization: Bearer <token>`.") -> RequestError:
    return RequestError(
        message, "UNAUTHENTICATED", status=401, headers={"WWW-Authenticate": 'Bearer realm="taskstore"'}
    )


def forbidden(message: str) -> RequestError:
    return RequestError(message, "FORBIDDEN")


def bad_input(message: str) -> RequestError:
    return RequestError(message, "BAD_USER_INPUT")


def bad_argument(path: str, problem: str) -> RequestError:
    """What is wrong with an argument; `path` leads to it, such as `filter.or[1].title`."""
    return RequestError(f"{path}: {problem}", "BAD_USER_INPUT", argument=path)


def vanished(what: str) -> RequestError:
    """What a field leads to was deleted since the row that it belongs to was read, and is gone with all it owned."""
    return RequestError(f"The {what.lower()} that this leads to was deleted a moment ago.", "NOT_FOUND")


DISK_FULL = "53100"
"""SQLSTATE of disk_full."""


def classify(error: BaseException) -> RequestError | None:
    """What a client may see of an exception, or None for a bug. No text of the driver ever leaves."""
    if isinstance(error, UnknownOutcome):
        return RequestError(
            "The connection to the database broke while the change was being saved: it may be saved or not. "
            "Look, or send it again with the same idempotencyKey.",
            "UNKNOWN_OUTCOME",
        )
    if sqlstate(error) == DISK_FULL:
        return RequestError(
            "The database has no space left on its disk, so this was not done; its operator has to make room.",
            "STORAGE_FULL",
            status=503,
            headers={"Retry-After": "30"},
        )
    if isinstance(error, (DatabaseUnreachable, PoolTimeout)) or is_unreachable(error) or is_out_of_order(error):
        return RequestError(
            "The database cannot be reached right now; try again soon.",
            "UNAVAILABLE",
            status=503,
            headers={"Retry-After": "1"},
        )
    cause = getattr(getattr(error, "orig", None), "__cause__", None) or error
    if isinstance(cause, QueryCanceledError):
        return RequestError("The database needed too long for this; ask for less.", "TIMEOUT")
    if isinstance(cause, DataError):
        return bad_input("A value of the request cannot be stored or compared by the database.")
    if isinstance(error, Contended) or sqlstate(error) in ("40001", "40P01", "55P03"):
        return RequestError("Others are changing the same things; try again.", "CONTENTION")
    if isinstance(error, DomainError):
        return RequestError(error.message, error.code)
    return None
