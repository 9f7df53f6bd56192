"""Errors as the API shows them.

What the sender of a mutation can mend is a `UserError` in its payload; what no other input mends is a refusal
(`graph.request.refusals`).
"""

from typing import Any

import strawberry

from graph.types.naming import camel
from graph.types.node import Node
from graph.writes.codes import UserErrorCode
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


@strawberry.interface(
    description="Something that the sender of a mutation can mend. When there is one, nothing was changed."
)
class UserError:
    code: UserErrorCode = strawberry.field(description="What is wrong, for programs.")
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
    current: Node | None = strawberry.field(description="What the conflict is about, as it is now.")


@strawberry.type(description="The viewer may not do this.")
class ForbiddenError(UserError):
    pass


@strawberry.type(description="The idempotency key was used before with a different input.")
class IdempotencyError(UserError):
    pass


@strawberry.type(description="Too much, or too fast.")
class LimitError(UserError):
    retry_after_seconds: float | None = strawberry.field(description="Seconds after which it may be tried again.")


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
            version = getattr(error.current, "version", None)
            return [user_error(ConflictError, error, current_version=version, current=error.current)]
        case LimitReached():
            seconds = error.retry_after.total_seconds() if error.retry_after else None
            return [user_error(LimitError, error, retry_after_seconds=seconds)]
    return [user_error(SIMPLE[type(error)], error)]


def user_error(kind: type[UserError], problem: DomainError | Problem, **more: Any) -> UserError:
    path = [camel(part) if isinstance(part, str) else str(part) for part in problem.path]
    return kind(code=UserErrorCode(problem.code), message=problem.message, path=path, **more)
