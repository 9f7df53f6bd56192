"""Rows of any table of entities, made from its columns, so that a new table is tested without a word about it."""

import uuid
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Enum, Integer, LargeBinary, String, Table, Uuid

from persistence.models import Base
from persistence.models.ids import new_id

BY_COLUMN: dict[str, Any] = {"scopes": ["read"]}
"""What a sample of the type does not do for."""


def row_of(model: type[Base], owner_id: UUID, n: int = 0) -> dict[str, Any]:
    """The values of all columns that a row must have, of a row of somebody; `n` tells it from others."""
    table = model.__table__
    assert isinstance(table, Table)
    required = [
        column
        for column in table.columns
        if not column.nullable and column.server_default is None and column.computed is None and column.name != "id"
    ]
    values = {column.name: value_of(column.name, column.type, n) for column in required}
    return {"id": new_id(), **values, model.__owner__: owner_id}


def value_of(name: str, kind: Any, n: int) -> Any:
    if name in BY_COLUMN:
        return BY_COLUMN[name]
    match kind:
        case Enum():
            return next(iter(kind.enum_class or ()))
        case Uuid():
            return new_id()
        case String():
            return f"Sample {n}"[: kind.length]
        case LargeBinary():
            return uuid.uuid4().bytes * 2
        case Integer():
            return n
        case DateTime():
            return datetime.now(UTC)
        case ARRAY():
            return [value_of("", kind.item_type, n)]
    raise AssertionError(f"say in tests/rows.py what {name} ({kind!r}) may be")
