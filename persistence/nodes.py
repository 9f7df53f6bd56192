"""Any entity by its id, whatever its table, as far as the viewer may see it."""

from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, and_, any_, bindparam, cast, column, func, select

from persistence import access
from persistence.access import Reach
from persistence.models import Base
from persistence.models.base import entities
from persistence.rows.reading import Statement, selection, unseen, view_class
from persistence.session import Session
from persistence.viewer import Viewer


def find(
    session: Session, viewer: Viewer, model: type[Base], id: UUID, columns: frozenset[str]
) -> Awaitable[Any | None]:
    """The row of one table with an id, if the viewer may see it. Who asks at the same time shares a statement."""
    return session.find(visible_by_id(model, columns, access.reach(viewer)), id, viewer.id)


@lru_cache(1_024)
def visible_by_id(model: type[Base], columns: frozenset[str], reach: Reach) -> Statement[Any]:
    """The same for each of `ids` and `viewers`, whose rights reach as far (`Session.find`)."""
    table = model.__table__
    selected, source = selection(model, columns)
    asked = (
        func.unnest(unseen("ids", Uuid()), unseen("viewers", Uuid()))
        .table_valued(column("id", Uuid()), column("viewer", Uuid()), with_ordinality="place", name="asked")
        .render_derived()
    )
    joined = source.join(asked, and_(table.c.id == asked.c.id, access.visible(model, reach, asked.c.viewer)))
    return Statement(select(*selected, asked.c.place).select_from(joined), model.__entity__, model)


@lru_cache(1_024)
def open_by_ids(model: type[Base], columns: frozenset[str]) -> Statement[Any]:
    """Rows of one table by their ids (`ids`), with the given columns, for who may see them; none of closed accounts."""
    table = model.__table__
    selected, _ = selection(model, columns)
    ids = unseen("ids", table.c.id.type)
    asked = table.c.id == any_(cast(ids, ids.type))
    return Statement(select(*selected).where(asked, access.is_open(model)), model.__entity__)


async def by_ids(
    session: Session, viewer: Viewer, ids: Sequence[UUID], columns: Mapping[str, frozenset[str]]
) -> dict[UUID, Any]:
    """The entities with these ids that the viewer may see, of any table, in one statement.

    `columns` says for each entity by its name which columns its rows have.
    """
    statement, views = _statement(tuple(sorted((name, names) for name, names in columns.items())), access.reach(viewer))
    rows = await session.fetch(statement, {"ids": ids, "viewer": viewer.id})
    found: dict[UUID, Any] = {}
    for row in rows:
        for position, view in views:
            if row[position] is not None:
                found.setdefault(row[0], view(row))
    return found


@lru_cache(256)
def _statement(
    columns: tuple[tuple[str, frozenset[str]], ...], reach: Reach
) -> tuple[Statement[Any], list[tuple[int, type]]]:
    """One outer join for each table, and for each a view of its part of the row (present when its id is)."""
    ids = func.unnest(unseen("ids", Uuid())).table_valued(column("id", Uuid()), name="ids").render_derived()
    joined: Any = ids
    selected: list[Any] = [ids.c.id.label("node_id")]
    views: list[tuple[int, type]] = []
    models, viewer = entities(), bindparam("viewer", type_=Uuid())
    for entity, names in columns:
        model = models[entity]
        table = model.__table__
        joined = joined.outerjoin(table, and_(table.c.id == ids.c.id, access.visible(model, reach, viewer)))
        first = len(selected)
        selected += [table.c[name].label(f"{entity}_{name}") for name in sorted(names)]
        parts = {name: (first + n, table.c[name].type) for n, name in enumerate(sorted(names))}
        views.append((parts["id"][0], view_class(entity, parts)))
    return Statement(select(*selected).select_from(joined)), views
