"""Errors as the API shows them.

What the sender of a mutation can mend is a `UserError` in its payload. What nobody can mend by another input
(not signed in, a limit, an outage) is a top-level error with `extensions.code`.
"""

from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from asyncpg import DataError, QueryCanceledError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from graph.execution.errors import RequestError
from graph.types.naming import camel
from graph.types.node import Node
from persistence.connections.engine import DatabaseUnreachable
from persistence.connections.failures import Contended, UnknownOutcome, is_out_of_order, is_unreachable, sqlstate
from persistence.rules.errors import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    KeyReused,
    LimitReached,
    NotFound,
    Problem,
)

if TYPE_CHECKING:
    from graph.tasks import Task

TaskReference = Annotated["Task", strawberry.lazy("graph.tasks")]
"""Resolved late: tasks have errors too."""


@strawberry.interface(
    description="Something that the sender of a mutation can mend. When there is one, nothing was changed."
)
class UserError:
    code: str = strawberry.field(description="What is wrong, for programs. Codes are never renamed.")
    message: str = strawberry.field(description="What is wrong, for people, in English.")
    path: list[str] = strawberry.field(
        description="Where in `input` it is: names of fields, and positions in lists. Empty: the input as a whole."
    )


@strawberry.type(description="A value of the input breaks a rule.")
class ValidationError(UserError):
    pass


@strawberry.type(
    description="There is no such thing. It may exist and not be the viewer's: nobody can tell the difference."
)
class NotFoundError(UserError):
    pass


@strawberry.type(description="It is not in the state that the input expects, for example because somebody was faster.")
class ConflictError(UserError):
    current_version: int | None = strawberry.field(description="The version it has now, where it has one.")
    current: TaskReference | None = strawberry.field(
        description="The task as it is now, where the conflict is about one."
    )
    current_node: Node | None = strawberry.field(description="What the conflict is about, as it is now.")


@strawberry.type(description="The viewer may not do this.")
class ForbiddenError(UserError):
    pass


@strawberry.type(description="The idempotency key was used before with a different input.")
class IdempotencyError(UserError):
    pass


@strawberry.type(description="Too much, or too fast.")
class LimitError(UserError):
    retry_after: float | None = strawberry.field(description="Seconds after which it may be tried again.")


USER_ERRORS = [ValidationError, NotFoundError, ConflictError, ForbiddenError, IdempotencyError, LimitError]

SIMPLE: dict[type[DomainError], type[UserError]] = {
    NotFound: NotFoundError,
    Forbidden: ForbiddenError,
    KeyReused: IdempotencyError,
}


def user_errors(error: DomainError) -> list[UserError]:
    """The errors of a payload for a domain error: one, or one for each problem of an input."""
    match error:
        case Invalid():
            return [user_error(ValidationError, problem) for problem in error.problems]
        case Conflict():
            current: Any = error.current
            is_task = current is not None and type(current).__entity__ == "Task"
            return [
                user_error(
                    ConflictError,
                    error,
                    current_version=getattr(current, "version", None),
                    current=current if is_task else None,
                    current_node=current,
                )
            ]
        case LimitReached():
            seconds = error.retry_after.total_seconds() if error.retry_after else None
            return [user_error(LimitError, error, retry_after=seconds)]
    return [user_error(SIMPLE[type(error)], error)]


def user_error(kind: type[UserError], problem: DomainError | Problem, **more: Any) -> UserError:
    path = [camel(part) if isinstance(part, str) else str(part) for part in problem.path]
    return kind(code=problem.code, message=problem.message, path=path, **more)


def unauthenticated(message: str = "Sign in first: send `Authorization: Bearer <token>`.") -> RequestError:
    return RequestError(
        message, "UNAUTHENTICATED", status=401, headers={"WWW-Authenticate": 'Bearer realm="taskstore"'}
    )


def forbidden(message: str) -> RequestError:
    return RequestError(message, "FORBIDDEN")


def bad_input(message: str) -> RequestError:
    return RequestError(message, "BAD_USER_INPUT")


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
