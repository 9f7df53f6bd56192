"""DateTime: a moment, with an offset on the way in and in UTC on the way out."""

import re
from datetime import UTC, datetime
from typing import Any

import strawberry
from graphql.pyutils import inspect

from graph.execution.errors import in_json

# RFC 3339, section 5.6: unlike ISO 8601 it leaves no choice of form, and the offset is part of it.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII)

SHOWN = 100
"""Characters of a wrong value that are repeated."""

# The driver takes these two for PostgreSQL's infinities, and gives those back without a zone.
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def parse_datetime(value: Any) -> datetime:
    """A moment in UTC. Raises `ValueError` that says what is missing."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        hint = "an RFC 3339 date and time with an offset, such as 2026-12-01T09:00:00Z"
        raise ValueError(f"DateTime cannot represent {shown(value)}; expected {hint}")
    try:
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"DateTime cannot represent {shown(value)}; there is no such moment") from None
    if not FIRST < moment < LAST:
        raise ValueError(f"DateTime cannot represent {shown(value)}; the first and the last moment stand for infinity")
    return moment


def shown(value: Any) -> str:
    """A value that was refused, as its sender wrote it; not all of a long one."""
    text = in_json(inspect(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def serialize_datetime(value: datetime) -> str:
    """A moment in UTC with `Z`; a fraction only where there is one."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


DateTime = strawberry.scalar(
    name="DateTime",
    description=(
        "A moment, as RFC 3339 has it, such as `2026-12-01T09:00:00+01:00`. "
        "Input without an offset is refused; output is in UTC and ends in `Z`."
    ),
    specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    serialize=serialize_datetime,
    parse_value=parse_datetime,
)
