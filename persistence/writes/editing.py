"""Rows that are about to be edited: locked, if the viewer may edit them and means the version that there is."""

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select

from persistence import access
from persistence.access import Reach
from persistence.models import Base
from persistence.rules.errors import Conflict, NotFound
from persistence.session import Session
from persistence.viewer import Viewer
from persistence.writes import rights

M = TypeVar("M", bound=Base)


async def for_update(
    session: Session,
    viewer: Viewer,
    model: type[M],
    id: UUID,
    if_version: int | None = None,
    *,
    reach: Reach | None = None,
) -> M:
    """A row the viewer may edit, locked. Raises `NotFound`, and `Conflict` when the version is another.

    `reach` is how far the viewer's rights reach, for who has made sure of that in this transaction already.
    """
    if reach is None:
        reach = await rights.reach(session, viewer)
    table: Any = model
    query = select(model).where(table.id == id, access.editable(model, reach, viewer.id)).with_for_update()
    row: Any = await session.scalar(query)
    what = model.__entity__.lower()
    if row is None:
        raise NotFound(what)
    if if_version is not None and row.version != if_version:
        message = f"The {what} is at version {row.version}, not {if_version}."
        raise Conflict(message, code="STALE_VERSION", path=("ifVersion",), current=row)
    return row  # type: ignore[no-any-return]
