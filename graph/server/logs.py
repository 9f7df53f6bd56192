"""Logs: one line per operation, as JSON for machines or in columns for people.

A line never holds a secret, a value of a request, a statement or the text of an exception, because those may
hold what somebody wrote. A bug is logged with its id, the type of the exception and where it was raised.
"""

import logging
import sys
import traceback
from pathlib import Path
from secrets import token_hex
from typing import Any

import structlog
from graphql import GraphQLError

from graph.request.context import Context
from graph.transport.host import OperationRecord
from persistence.settings import ROOT, Settings

log = structlog.stdlib.get_logger("taskstore")


def configure(settings: Settings) -> None:
    """Send all logs of this process, the libraries' as well, to standard error."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_exception_text,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for theirs in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # uvicorn's own command gives them handlers
        logger = logging.getLogger(theirs)
        logger.handlers.clear()
        logger.propagate = True
    # It asks for every request whether anybody could want its line, and the operations have lines of their own.
    logging.getLogger("uvicorn.access").propagate = False
    for noisy in ("asyncio", "uvicorn.error", "persistence.connections.pool"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def without_exception_text(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace an exception by its type and place."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event |= {"exception": type(error).__name__, "where": place(error)}
        # asyncio shows the exception once more, in the lines below the first.
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def place(error: BaseException) -> str:
    """Where an exception was raised: the innermost line of this project, as `graph/tasks.py:12 in task`."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT) and ".venv" not in frame.filename]
    for frame in reversed(own or list(frames)):
        path = Path(frame.filename)
        return f"{path.relative_to(ROOT) if own else path.name}:{frame.lineno} in {frame.name}"
    return "unknown"


def report(error: GraphQLError, cause: BaseException) -> str:
    """Log a bug and return the id that the client gets."""
    id = token_hex(8)
    path = ".".join(map(str, error.path or []))
    log.error("bug", id=id, exception=type(cause).__name__, where=place(cause), path=path)
    return id


def operations_are_logged() -> bool:
    """Whether a line for each operation is wanted, as `configure` was told."""
    enabled: bool = log.is_enabled_for(logging.INFO)
    return enabled


def operation(context: Context | None, record: OperationRecord) -> None:
    """Log an operation that is over."""
    line: dict[str, Any] = {
        "name": record.name,
        "kind": record.kind,
        "status": record.status,
        "ms": round(record.duration * 1000, 2),
        "cost": record.cost,
        "bytes": record.bytes,
        "request": record.request_id,
    }
    if context is not None:
        line |= {"statements": context.session.statements, "rows": context.session.rows}
        if context.viewer is not None:
            line["viewer"] = context.viewer.name
    if record.transport != "http":
        line |= {"transport": record.transport, "events": record.events}
    if record.codes:
        line["codes"] = record.codes
    if record.stopped:
        line["stopped"] = record.stopped
    log.info("operation", **{name: value for name, value in line.items() if value is not None})
