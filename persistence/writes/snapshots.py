"""Rows as JSON and back, for answers that are kept: what a retry sees is what the first request saw."""

from datetime import datetime
from typing import Any
from uuid import UUID

from persistence.models import Base
from persistence.models.base import entities, public
from persistence.writes import idempotency
from persistence.writes.changes import plain
from persistence.writes.idempotency import ENTITY


def snapshot(value: Any, key: str, purpose: str) -> Any:
    """A part of an answer as JSON: a row with its public columns, an id, or a secret sealed with the client's key."""
    if isinstance(value, Base):
        return {ENTITY: value.__entity__, **{name: plain(getattr(value, name)) for name in public(type(value))}}
    if isinstance(value, UUID):
        return {"id": str(value)}
    return {"sealed": idempotency.sealed(value, key, purpose)}


def revive(value: Any, key: str, purpose: str) -> Any:
    """What `snapshot` made JSON of. A row belongs to no session: it is what it was, not what it is."""
    if "sealed" in value:
        return idempotency.unsealed(value["sealed"], key, purpose)
    if ENTITY not in value:
        return UUID(value["id"])
    model = entities()[value[ENTITY]]
    columns = model.__table__.c
    row = {name: _typed(columns[name].type.python_type, item) for name, item in value.items() if name != ENTITY}
    return model(**row)


def _typed(kind: type, value: Any) -> Any:
    if value is None or kind is list:
        return value
    return datetime.fromisoformat(value) if kind is datetime else kind(value)
