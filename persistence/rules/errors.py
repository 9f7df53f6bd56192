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
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule: a code for programs, a message for people, and the path into the input."""

    code: str
    message: str
    path: tuple[str | int, ...] = ()


class DomainError(Exception):
    """The request cannot be done; nothing was changed."""

    code = "ERROR"

    def __init__(self, message: str, *, code: str | None = None, path: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.message, self.path = message, tuple(path)
        self.code = code or self.code


class Invalid(DomainError):
    code = "INVALID"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class NotFound(DomainError):
    code = "NOT_FOUND"

    def __init__(self, what: str, path: Sequence[str | int] = ("id",)) -> None:
        super().__init__(f"There is no such {what}.", path=path)


class Conflict(DomainError):
    """`current` is the row as it is, where the viewer may see it."""

    code = "CONFLICT"

    def __init__(self, message: str, *, code: str | None = None, path: Sequence[str | int] = (), current: Any = None):
        super().__init__(message, code=code, path=path)
        self.current = current


class Forbidden(DomainError):
    code = "FORBIDDEN"


class KeyReused(DomainError):
    code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self) -> None:
        super().__init__("This idempotency key was used before with a different input.", path=("idempotencyKey",))


class LimitReached(DomainError):
    code = "LIMIT_REACHED"

    def __init__(self, message: str, *, code: str | None = None, retry_after: timedelta | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
