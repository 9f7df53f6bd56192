"""The change log: every flush of the ORM writes what it changes, in the same transaction.

Nothing has to remember it: a listener sees each new, edited and deleted row. Bookkeeping that is no edit
(when a token was last used, failed sign-ins, idempotency keys) has no entity and is not logged.
"""

import enum
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect, null, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session as SyncSession
from sqlalchemy.orm import UOWTransaction
from sqlalchemy.sql.schema import CallableColumnDefault, ScalarElementColumnDefault

from persistence.access import OWNER, owner_of
from persistence.models import Action, Base, Change
from persistence.models.ids import new_id
from persistence.session import RecordedSession

UNLOGGED = frozenset({"id", "version", "created_at", "updated_at"})
"""Columns that a change has in other places, or that the database sets."""


def plain(value: Any) -> Any:
    """A value of a column as JSON has it, as the API shows it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@cache
def logged(model: type[Base]) -> tuple[str, ...]:
    """The columns whose values enter the log."""
    return tuple(c.key for c in inspect(model).column_attrs if c.key not in UNLOGGED | model.__private__)


def initial(model: type[Base], values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The columns with which a row begins, of those whose values enter the log, and their values."""
    fields = []
    for name in logged(model):
        value = values.get(name)
        if value or value not in (None, [], ""):
            fields.append((name, value))
    return fields


def entry(row: Base, actor_id: UUID | None, action: Action, fields: dict[str, Any] | None) -> Change:
    version: int | None = getattr(row, "version", None)
    if version is not None and action not in (Action.CREATED, Action.PURGED):
        version += 1  # the flush that follows counts it up
    return Change(
        id=new_id(),
        entity=row.__entity__,
        entity_id=row.id,  # type: ignore[attr-defined]  # every entity is Identified
        owner_id=owner_of(row),
        actor_id=actor_id,
        action=action,
        version=version,
        fields=fields,
    )


@event.listens_for(RecordedSession, "before_flush")
def record(session: SyncSession, flush: UOWTransaction, instances: Any) -> None:
    actor_id = session.info.get("actor_id")
    entries = []
    for row in session.new:
        if type(row) in OWNER:
            set_defaults(row)
            fields = {name: [None, plain(value)] for name, value in initial(type(row), vars(row))}
            entries.append(entry(row, actor_id, Action.CREATED, fields))
    for row in session.dirty:
        if type(row) in OWNER and session.is_modified(row):
            changed = differences(row)
            action = Action.UPDATED
            if "deleted_at" in changed:
                action = Action.RESTORED if changed["deleted_at"][1] is None else Action.DELETED
            # A change of a private column alone (a password) is logged without a value.
            entries.append(entry(row, actor_id, action, changed))
    purged = [row for row in session.deleted if type(row) in OWNER]
    entries += [entry(row, actor_id, Action.PURGED, None) for row in purged]
    session.add_all(entries)


def set_defaults(row: Base) -> None:
    """Give a new row the defaults of its columns now; its INSERT would, but the log is written before that."""
    for name, make in defaults(type(row)).items():
        if getattr(row, name) is None:
            setattr(row, name, make())


@cache
def defaults(model: type[Base]) -> dict[str, Callable[[], Any]]:
    """What makes the defaults of the columns that have some in Python."""
    return {column.key: maker(column.default) for column in inspect(model).columns if column.default is not None}


def maker(default: Any) -> Callable[[], Any]:
    if isinstance(default, CallableColumnDefault):
        return lambda: default.arg(None)  # type: ignore[arg-type]  # SQLAlchemy lets it ignore its context
    assert isinstance(default, ScalarElementColumnDefault)
    return lambda: default.arg


def differences(row: Base) -> dict[str, Any]:
    """`{field: [before, after]}` of what a flush would change in a row."""
    changed = {}
    attributes = inspect(row).attrs
    for name in logged(type(row)):
        history = attributes[name].history
        if history.has_changes():
            before = history.deleted[0] if history.deleted else None
            changed[name] = [plain(before), plain(history.added[0] if history.added else None)]
    return changed


async def forget(session: AsyncSession, row: Base) -> None:
    """Take the content out of a row's history, for a purge: that it was there stays, what it was goes."""
    # The owner and the entity too: somebody else may have given another thing the same id.
    own = (Change.entity_id == row.id, Change.entity == row.__entity__, Change.owner_id == owner_of(row))  # type: ignore[attr-defined]
    await session.execute(update(Change).where(*own).values(fields=null()))
