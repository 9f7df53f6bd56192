"""Errors of an operation: what a client may see, and what is a bug of ours.

    GraphQLError
    └── RequestError        a client may see it as it is; `code` says what to do about it

Everything else a resolver raises is shown to the application's `classify`; what it does not know is a bug, which is
reported under an id and masked. A refused argument is the client's mistake, wherever graphql-core notices it.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from graphql import FieldNode, GraphQLError, GraphQLSyntaxError, Node
from strawberry.exceptions import StrawberryInputCoercionError

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
BAD_USER_INPUT = "BAD_USER_INPUT"
OPERATION_RESOLUTION_FAILURE = "OPERATION_RESOLUTION_FAILURE"
LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
INTERNAL_SERVER_ERROR = "INTERNAL_SERVER_ERROR"
UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"
UNDONE = frozenset({"UNAVAILABLE", "STORAGE_FULL", "CONTENTION"})
"""Codes that say of a mutation that it had no effect."""

PYTHON = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|\b(?:None|True|False)\b""")
IN_JSON = {"None": "null", "True": "true", "False": "false"}

Classify = Callable[[BaseException], GraphQLError | None]
Report = Callable[[GraphQLError, BaseException], str]


class RequestError(GraphQLError):
    """An error a client may see as it is.

    `code` becomes `extensions.code`, further keyword arguments become further extensions; `status` and `headers` are
    for the HTTP answer when the whole request fails because of it.
    """

    def __init__(
        self,
        message: str,
        code: str,
        *,
        nodes: Collection[Node] | Node | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(message, nodes, extensions={"code": code, **extensions})
        self.code, self.status, self.headers = code, status, dict(headers or {})


def in_json(message: str) -> str:
    """What graphql-core says of a value, with the words of JSON; what is quoted stays as it is."""
    return PYTHON.sub(lambda match: IN_JSON.get(match[0], match[0]), message)


def coded(error: GraphQLError, code: str) -> GraphQLError:
    """The error with `extensions.code`; it keeps a code of its own."""
    error.message = in_json(error.message)
    error.extensions = {"code": code, **(error.extensions or {})}
    return error.with_traceback(None)  # a kept traceback would keep the frames of the request alive


def limit_exceeded(limit: str, allowed: int, actual: int, message: str, nodes: Any = None) -> RequestError:
    """The refusal of a document or request that is larger than `limit` allows."""
    return RequestError(message, LIMIT_EXCEEDED, nodes=nodes, limit=limit, allowed=allowed, actual=actual)


def syntax_error(error: GraphQLError, max_tokens: int | None) -> GraphQLError:
    """What the parser refused: a document that is no GraphQL, or one with more than `max_tokens` tokens."""
    if isinstance(error, GraphQLSyntaxError) and max_tokens is not None and "tokens. Parsing aborted" in error.message:
        message = f"The document has more than {max_tokens} tokens"
        return limit_exceeded("tokens", max_tokens, max_tokens + 1, message)
    return coded(error, PARSE_FAILED)


def cause_of(error: GraphQLError) -> BaseException:
    """What was raised first, under the layers that graphql-core adds to locate it."""
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and not isinstance(cause, RequestError):
        if cause.original_error is None:
            break
        cause = cause.original_error
    return cause


def is_bad_input(cause: BaseException) -> bool:
    """Whether the cause is an argument or variable whose value does not fit.

    graphql-core raises these with the node of the value; its complaints about results carry the nodes of the field.
    """
    if isinstance(cause, StrawberryInputCoercionError):
        return True
    if type(cause) is not GraphQLError or not cause.nodes:
        return False
    return cause.message.startswith("Argument '") or not any(isinstance(node, FieldNode) for node in cause.nodes)


def without_frames(error: BaseException) -> None:
    """Forget where the error and what led to it were raised: the frames of the request know it, which is a cycle."""
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            pending += [each.__cause__, each.__context__, getattr(each, "original_error", None)]


def presentable(error: GraphQLError, classify: Classify, report: Report) -> GraphQLError:
    """The error as a client may see it, with its path and locations; a bug is masked and gets the id of its report."""
    cause = cause_of(error)
    if isinstance(cause, RequestError):
        return error
    known = classify(cause)
    if known is not None:
        message, extensions = known.message, dict(known.extensions or {})
    elif is_bad_input(cause):
        message, extensions = in_json(error.message), {"code": BAD_USER_INPUT}
    else:
        message, extensions = "Internal server error", {"code": INTERNAL_SERVER_ERROR, "id": report(error, cause)}
    # What is known stays the cause: the HTTP answer takes its status and headers from there.
    return GraphQLError(message, error.nodes, error.source, error.positions, error.path, known, extensions)


def after_effect(error: GraphQLError) -> GraphQLError:
    """The error of a mutation, which does not say that nothing was done where the mutation itself had succeeded.

    Then what was asked for of its outcome could not be read.
    """
    if error.path is None or len(error.path) < 2 or (error.extensions or {}).get("code") not in UNDONE:
        return error
    message = (
        "It was done, but its answer could not be read to the end: look, or send it again with the same idempotencyKey."
    )
    extensions = {"code": UNKNOWN_OUTCOME}
    return GraphQLError(message, error.nodes, error.source, error.positions, error.path, extensions=extensions)
