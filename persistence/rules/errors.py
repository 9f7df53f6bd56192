"""What can be wrong with a request, for its sender to mend.

DomainError
├── Invalid         the input breaks rules: all of them, each with its path
├── NotFound        no such thing for this viewer (it may be somebody else's)
├── Conflict        it is not in the state that the request expects
├── Forbidden       the viewer may not do this
├── KeyReused       an idempotency key came back with another input
└── LimitReached    too much or too fast

They are raised inside the transaction, so that nothing of it remains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

Code = Literal[
    "CONFLICT",
    "EMAIL_TAKEN",
    "FORBIDDEN",
    "IDEMPOTENCY_KEY_REUSED",
    "ID_TAKEN",
    "INVALID",
    "INVALID_CHARACTER",
    "INVALID_EMAIL",
    "INVALID_ID",
    "INVALID_KEY",
    "INVALID_TIME_ZONE",
    "IN_TRASH",
    "LAST_ADMIN",
    "LIMIT_REACHED",
    "NOT_FOUND",
    "NOT_IN_FUTURE",
    "NULL_NOT_ALLOWED",
    "OUTLIVES_TOKEN",
    "PASSWORD_THROTTLED",
    "SCOPE_NOT_HELD",
    "SIGN_IN_THROTTLED",
    "SIGN_UP_THROTTLED",
    "STALE_VERSION",
    "TOO_FEW",
    "TOO_LONG",
    "TOO_MANY",
    "TOO_SHORT",
    "WRONG_CREDENTIALS",
    "WRONG_PASSWORD",
]
"""What programs know a problem by. A code is never renamed, and its meaning for clients is told by the API."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: a code for programs, a message for people, and the path into the input."""

    code: Code
    message: str
    path: tuple[str | int, ...] = ()


class DomainError(Exception):
    """The request cannot be done; nothing was changed."""

    code: Code

    def __init__(self, message: str, *, code: Code | None = None, path: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.message, self.path = message, tuple(path)
        self.code = code or self.code


class Invalid(DomainError):
    code: Code = "INVALID"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class NotFound(DomainError):
    code: Code = "NOT_FOUND"

    def __init__(self, what: str, path: Sequence[str | int] = ("id",)) -> None:
        super().__init__(f"There is no such {what}.", path=path)


class Conflict(DomainError):
    """`current` is the row as it is, where the viewer may see it."""

    code: Code = "CONFLICT"

    def __init__(self, message: str, *, code: Code | None = None, path: Sequence[str | int] = (), current: Any = None):
        super().__init__(message, code=code, path=path)
        self.current = current


class Forbidden(DomainError):
    code: Code = "FORBIDDEN"


class KeyReused(DomainError):
    code: Code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self) -> None:
        super().__init__("This idempotency key was used before with a different input.", path=("idempotencyKey",))


class LimitReached(DomainError):
    code: Code = "LIMIT_REACHED"

    def __init__(self, message: str, *, code: Code | None = None, retry_after: timedelta | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
