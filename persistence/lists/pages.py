"""Pages of a list: keyset pagination over any order and filter, at the root or for many parents in one statement.

A page after a cursor holds the rows whose sort keys come strictly after the cursor's, so it is stable under writes:
what was inserted or deleted elsewhere neither repeats nor hides a row. The id is always the last key.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    TableValuedAlias,
    Uuid,
    column,
    func,
    literal_column,
    select,
    true,
)

from persistence.lists.conditions import beyond, conditions_of, ordering_of, sort_of, sorts_of
from persistence.lists.listing import Query, Window
from persistence.lists.plans import among, candidates, each_time, is_one_walk
from persistence.lists.statements import built_once, rows_read
from persistence.rows.reading import Dear, Statement, selection, unseen
from persistence.session import Session


@dataclass(slots=True)
class Page:
    """The rows of a window in list order, and whether the list goes on in the direction it was walked, if asked."""

    rows: list[Any]
    more: bool


def sort_kinds(query: Query) -> list[tuple[type, bool]]:
    """The type of each value of the list's cursors, and whether it may be null."""
    return [(sort.kind, sort.nullable) for sort in (sort_of(query, order.field) for order in query.sorting)]


def key_name(position: int) -> str:
    """The attribute of a row that holds its sort key at a position."""
    return f"key{position}"


async def page(
    session: Session, query: Query, window: Window, columns: frozenset[str], *, keys: bool, more: bool = True
) -> Page:
    """One page. `columns` are the attributes its rows have; with `keys`, `key0`, `key1`, ... as well (for cursors)."""
    statement = _page_statement(query, columns, keys, rows_read(window.limit + more), *_window_shape(window), False)
    rows = await session.fetch(statement, _values(query, window))
    return _cut(rows, window)


async def pages(
    session: Session,
    query: Query,
    window: Window,
    columns: frozenset[str],
    parents: Sequence[UUID],
    *,
    keys: bool,
    more: bool = True,
) -> dict[UUID, Page]:
    """The same page below each of many parents, in one statement."""
    if len(parents) == 1 and not query.limited:
        alone = query.below(parents[0])
        return {parents[0]: await page(session, alone, window, columns, keys=keys, more=more)}
    limit = rows_read(window.limit + more)
    statement = _page_statement(query, columns, keys, limit, *_window_shape(window), True)
    rows = await session.fetch(statement, {**_values(query, window), "parents": parents})
    found: dict[int, list[Any]] = {}
    start = 0
    for place, number in Counter(map(itemgetter(0), rows)).items():  # three times as fast as itertools.groupby
        found[place] = rows[start : start + number]
        start += number
    if limit > window.limit or window.backward:
        return {parent: _cut(found.get(place, []), window) for place, parent in enumerate(parents, 1)}
    return {parent: Page(found.get(place, []), False) for place, parent in enumerate(parents, 1)}


async def count(session: Session, query: Query) -> int:
    """How many rows the whole list has."""
    [row] = await session.fetch(_count_statement(query, False), query.values)
    return int(row.count)


async def counts(session: Session, query: Query, parents: Sequence[UUID]) -> dict[UUID, int]:
    """How many rows the list has below each of many parents, in one statement."""
    if len(parents) == 1 and not query.limited:
        return {parents[0]: await count(session, query.below(parents[0]))}
    rows = await session.fetch(_count_statement(query, True), {**query.values, "parents": parents})
    return {row.parent_id: row.count for row in rows}


async def exists_behind(session: Session, query: Query, window: Window) -> bool:
    """Whether the list has rows on the other side of the window's cursor, the cursor's own row included."""
    [row] = await session.fetch(_behind_statement(query, *_window_shape(window), False), _values(query, window))
    return bool(row.found)


async def exist_behind(session: Session, query: Query, window: Window, parents: Sequence[UUID]) -> dict[UUID, bool]:
    """The same below each of many parents, in one statement."""
    if len(parents) == 1 and not query.limited:
        return {parents[0]: await exists_behind(session, query.below(parents[0]), window)}
    statement = _behind_statement(query, *_window_shape(window), True)
    rows = await session.fetch(statement, {**_values(query, window), "parents": parents})
    return {row.parent_id: row.found for row in rows}


def _cut(rows: list[Any], window: Window) -> Page:
    # More rows than asked for may have been fetched, to know whether the list goes on.
    more = len(rows) > window.limit
    if more:
        del rows[window.limit :]
    if window.backward:
        rows.reverse()
    return Page(rows, more)


def _window_shape(window: Window) -> tuple[bool, tuple[bool, ...] | None]:
    nulls = None if window.cursor is None else tuple(value is None for value in window.cursor)
    return window.backward, nulls


def _values(query: Query, window: Window) -> dict[str, Any]:
    cursor = {f"c{n}": value for n, value in enumerate(window.cursor or ()) if value is not None}
    return {**query.values, **cursor}


# -- SQL ----------------------------------------------------------------------------------------------


def _parents() -> TableValuedAlias:
    return (
        func.unnest(unseen("parents", Uuid()))
        .table_valued(column("id", Uuid()), with_ordinality="place", name="parents")
        .render_derived(name="parents")
    )


PARENT: ColumnElement[UUID] = literal_column("parents.id", Uuid())
"""The parent whose rows are looked for, below many of them. Text: SQLAlchemy would not find it from inside of that."""


def _below(parents: TableValuedAlias, query: Query, inner: Select[Any]) -> Select[Any]:
    assert query.listing.parent is not None
    return inner.where(query.listing.parent == parents.c.id)


@built_once
def _page_statement(
    query: Query,
    columns: frozenset[str],
    keys: bool,
    limit: int,
    backward: bool,
    nulls: tuple[bool, ...] | None,
    nested: bool,
) -> Statement[Any]:
    sorts, model = sorts_of(query, backward=backward), query.listing.model
    selected, source = selection(model, columns)
    if keys:
        selected += [sort.key.label(key_name(n)) for n, (_, sort) in enumerate(sorts)]
    after = [] if nulls is None else [beyond(sorts, nulls)]
    # The limit is text: a planner that does not know it sorts everything instead of walking an index.
    rows = literal_column(str(limit), BigInteger)
    statement = select(*selected).select_from(source).order_by(*ordering_of(sorts)).limit(rows)
    if is_one_walk(query, nested=nested):
        statement = statement.where(*conditions_of(query, nested=nested), *after)
    elif not (nested or query.limited or query.searching):
        statement = statement.where(*conditions_of(query), *after, *each_time(query))
    elif query.is_ranked:
        places = candidates(query, parent=PARENT if nested else None)
        statement = statement.where(among(query, places), *after, *each_time(query))
    else:
        places = candidates(query, after, ordering_of(sorts), limit, parent=PARENT if nested else None)
        statement = statement.where(among(query, places), *each_time(query))
    if nested:
        # A lateral join is a nested loop: the rows of a parent stay together and in their order. Which parent it is
        # says a number, the first column.
        parents = _parents()
        found = _below(parents, query, statement).lateral("found")
        names = [column.name for column in selected]
        statement = select(parents.c.place, *(found.c[name] for name in names)).select_from(parents.join(found, true()))
    kind = Statement if is_one_walk(query, nested=nested) else Dear
    return kind(statement, model.__entity__, model)


@built_once
def _count_statement(query: Query, nested: bool) -> Statement[Any]:
    count = func.count().label("count")
    if nested:
        parents = _parents()
        if is_one_walk(query, nested=True, sorted=False):
            statement = select(count).select_from(query.listing.model).where(*conditions_of(query, nested=True))
            number = _below(parents, query, statement).scalar_subquery()
        else:
            number = select(count).select_from(candidates(query, parent=PARENT).subquery()).scalar_subquery()
        return Dear(select(parents.c.id.label("parent_id"), number.label("count")).where(*each_time(query)))
    if is_one_walk(query, nested=False, sorted=False):
        return Dear(select(count).select_from(query.listing.model).where(*conditions_of(query)))
    if not (query.limited or query.searching):
        conditions = conditions_of(query)
        return Dear(select(count).select_from(query.listing.model).where(*conditions, *each_time(query)))
    return Dear(select(count).select_from(candidates(query).subquery()).where(*each_time(query)))


@built_once
def _behind_statement(query: Query, backward: bool, nulls: tuple[bool, ...] | None, nested: bool) -> Statement[Any]:
    assert nulls is not None  # there is a cursor
    sorts, model = sorts_of(query, backward=not backward), query.listing.model
    behind = beyond(sorts, nulls, inclusive=True)
    statement = select(true().label("one")).select_from(model)
    if nested:
        parents = _parents()
        if is_one_walk(query, nested=True):
            found = _below(parents, query, statement.where(*conditions_of(query, nested=True), behind)).exists()
            return Statement(select(parents.c.id.label("parent_id"), found.label("found")))
        if query.is_ranked:
            statement = statement.where(among(query, candidates(query, parent=PARENT)), behind)
        else:
            statement = statement.where(among(query, candidates(query, [behind], ordering_of(sorts), 1, parent=PARENT)))
        found = _below(parents, query, statement).exists()
        return Dear(select(parents.c.id.label("parent_id"), found.label("found")).where(*each_time(query)))
    if is_one_walk(query, nested=False):
        return Statement(select(statement.where(*conditions_of(query), behind).exists().label("found")))
    if not (query.limited or query.searching):
        statement = statement.where(*conditions_of(query), behind)
    elif query.is_ranked:
        statement = statement.where(among(query, candidates(query)), behind)
    else:
        statement = statement.where(among(query, candidates(query, [behind], ordering_of(sorts), 1)))
    return Dear(select(statement.where(*each_time(query)).exists().label("found")))


def decode_key(kind: type, value: Any) -> Any:
    """A cursor's value as the type of its sort key. Raises `ValueError` or `TypeError`."""
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(value)
        return moment
    if kind is UUID and isinstance(value, str):
        return UUID(value)
    if type(value) is not kind:
        raise TypeError(value)
    return value
