"""Pages of a list: keyset pagination over any order and filter, at the root or for many parents in one statement.

A page after a cursor holds the rows whose sort keys come strictly after the cursor's, so it is stable under writes:
what was inserted or deleted elsewhere neither repeats nor hides a row. The id is always the last key.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    REAL,
    BigInteger,
    ColumnElement,
    Enum,
    Integer,
    Select,
    TableValuedAlias,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import InstrumentedAttribute

from persistence import filters
from persistence.filters import Filterable, Shape
from persistence.models import Base
from persistence.reading import Statement, selection, unseen
from persistence.session import Session
from persistence.statements import built_once, rows_read


@dataclass(frozen=True, eq=False)
class Sort:
    """One way to sort: the expression, whether it may be null, and the type of its values in a cursor."""

    key: Any
    kind: type
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One sort key of a list."""

    field: str
    descending: bool = False
    nulls_first: bool = False

    def reversed(self) -> "Order":
        return Order(self.field, not self.descending, not self.nulls_first)


@dataclass(frozen=True, eq=False)
class Listing:
    """What can be listed, and how."""

    model: type[Base]
    filterable: Filterable
    sorts: Mapping[str, Sort]
    default_order: tuple[Order, ...]
    parent: InstrumentedAttribute[Any] | None = None
    """The column that names the row a list can be nested below, or be limited to."""
    search: InstrumentedAttribute[Any] | None = None
    soft_deleted: InstrumentedAttribute[Any] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One list: which rows in which order. Hashable but for the values, which `values` holds."""

    listing: Listing
    shape: Shape = filters.EMPTY
    order: tuple[Order, ...] = ()
    searching: bool = False
    trash: bool = False
    """Whether rows in the trash are listed too."""
    limited: bool = False
    """Whether only the rows of one parent (`owner` of the values) are listed."""
    values: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def without_values(self) -> "Query":
        """The same list, for what must not keep the values of a request."""
        return Query(self.listing, self.shape, self.order, self.searching, self.trash, self.limited)

    @property
    def sorting(self) -> tuple[Order, ...]:
        """All sort keys: those asked for or the default, then the id in the direction of the last."""
        if self.order:
            keys = self.order
        elif self.searching:
            keys = (Order("rank", descending=True, nulls_first=True),)
        else:
            keys = self.listing.default_order
        last = keys[-1].descending
        return (*(key for key in keys if key.field != "id"), Order("id", last, last))


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: `limit` rows after the cursor, or before it when `backward`.

    `cursor` holds the sort keys' values of the row next to the window.
    """

    limit: int
    backward: bool = False
    cursor: tuple[Any, ...] | None = None


@dataclass(slots=True)
class Page:
    """The rows of a window in list order, and whether the list goes on in the direction it was walked, if asked."""

    rows: list[Any]
    more: bool


def rank(column: InstrumentedAttribute[Any]) -> ColumnElement[int]:
    """The sort key of an enumeration: the position of the value among its members, not its stored text."""
    kind = column.type
    assert isinstance(kind, Enum)
    assert kind.enum_class is not None
    places = {member.value: literal_column(str(place), Integer) for place, member in enumerate(kind.enum_class)}
    return case({literal_column(f"'{value}'"): place for value, place in places.items()}, value=column)


def key_name(position: int) -> str:
    """The attribute of a row that holds its sort key at a position."""
    return f"key{position}"


async def page(
    session: Session, query: Query, window: Window, columns: frozenset[str], *, keys: bool, more: bool = True
) -> Page:
    """One page. `columns` are the attributes its rows have; with `keys`, `key0`, `key1`, ... as well (for cursors)."""
    statement = _page_statement(query, columns, keys, rows_read(window.limit + more), *_window_shape(window), False)
    rows = await session.fetch(statement, {**query.values, **_cursor_values(window)})
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
    limit = rows_read(window.limit + more)
    statement = _page_statement(query, columns, keys, limit, *_window_shape(window), True)
    rows = await session.fetch(statement, {**query.values, **_cursor_values(window), "parents": parents})
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
    rows = await session.fetch(_count_statement(query, True), {**query.values, "parents": parents})
    return {row.parent_id: row.count for row in rows}


async def exists_behind(session: Session, query: Query, window: Window) -> bool:
    """Whether the list has rows on the other side of the window's cursor, the cursor's own row included."""
    [row] = await session.fetch(_behind_statement(query, *_window_shape(window), False), _behind_values(query, window))
    return bool(row.found)


async def exist_behind(session: Session, query: Query, window: Window, parents: Sequence[UUID]) -> dict[UUID, bool]:
    """The same below each of many parents, in one statement."""
    statement = _behind_statement(query, *_window_shape(window), True)
    rows = await session.fetch(statement, {**_behind_values(query, window), "parents": parents})
    return {row.parent_id: row.found for row in rows}


def _behind_values(query: Query, window: Window) -> dict[str, Any]:
    return {**query.values, **_cursor_values(window)}


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


def _cursor_values(window: Window) -> dict[str, Any]:
    return {f"c{n}": value for n, value in enumerate(window.cursor or ()) if value is not None}


# -- SQL ----------------------------------------------------------------------------------------------

# Every lexeme becomes a prefix: 'rep' finds "report". PostgreSQL's own output of a tsquery quotes each lexeme.
_LEXEME, _PREFIXED = "$$'((?:[^']|'')*)'$$", r"$$'\1':*$$"


def _tsquery() -> ColumnElement[Any]:
    plain = func.websearch_to_tsquery(literal_column("'simple'"), bindparam("search", type_=Text))
    every_lexeme, prefixed = literal_column(_LEXEME, Text), literal_column(_PREFIXED, Text)
    return cast(func.regexp_replace(cast(plain, Text), every_lexeme, prefixed, literal_column("'g'")), TSQUERY)


def _sort(query: Query, name: str) -> Sort:
    if name == "rank":
        return Sort(cast(func.ts_rank_cd(query.listing.search, _tsquery()), REAL), float)
    if name == "id":
        return Sort(query.listing.model.__table__.c.id, UUID)
    return query.listing.sorts[name]


def sort_kinds(query: Query) -> list[tuple[type, bool]]:
    """The type of each value of the list's cursors, and whether it may be null."""
    return [(sort.kind, sort.nullable) for sort in (_sort(query, order.field) for order in query.sorting)]


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    listing = query.listing
    conditions = [filters.predicate(listing.filterable, query.shape)] if query.shape != filters.EMPTY else []
    if query.limited:
        assert listing.parent is not None
        conditions.append(listing.parent == bindparam("owner", type_=Uuid()))
    if listing.soft_deleted is not None and not query.trash:
        conditions.append(listing.soft_deleted.is_(None))
    if query.searching:
        assert listing.search is not None
        conditions.append(listing.search.op("@@", is_comparison=True)(_tsquery()))
    return conditions


def _beyond(
    sorts: Sequence[tuple[Order, Sort]], nulls: tuple[bool, ...], *, inclusive: bool = False
) -> ColumnElement[bool]:
    """The condition for rows that come after the cursor `c0`, `c1`, ... (where `nulls` says which are null)."""
    bound = [bindparam(f"c{n}", type_=sort.key.type) for n, (_, sort) in enumerate(sorts)]
    directions = {order.descending for order, _ in sorts}
    if len(directions) == 1 and not any(sort.nullable for _, sort in sorts):
        # One row comparison: PostgreSQL walks an index with it.
        keys, values = tuple_(*(sort.key for _, sort in sorts)), tuple_(*bound)
        if directions == {True}:
            return keys <= values if inclusive else keys < values
        return keys >= values if inclusive else keys > values
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for n, (order, sort) in enumerate(sorts):
        key, value = sort.key, bound[n]
        if nulls[n]:
            after = key.is_not(None) if order.nulls_first else false()
        else:
            after = key < value if order.descending else key > value
            if sort.nullable and not order.nulls_first:
                after = or_(after, key.is_(None))
        alternatives.append(and_(*equal, after))
        equal.append(key.is_(None) if nulls[n] else key == value)
    if inclusive:
        alternatives.append(and_(*equal))
    return or_(*alternatives)


def _ordering(sorts: Sequence[tuple[Order, Sort]]) -> list[ColumnElement[Any]]:
    ordering = []
    for order, sort in sorts:
        key = sort.key.desc() if order.descending else sort.key.asc()
        # PostgreSQL's own default is nulls last when ascending; saying so would hide an index.
        if sort.nullable and order.nulls_first != order.descending:
            key = key.nulls_first() if order.nulls_first else key.nulls_last()
        ordering.append(key)
    return ordering


def _sorts(query: Query, *, backward: bool) -> list[tuple[Order, Sort]]:
    return [(order.reversed() if backward else order, _sort(query, order.field)) for order in query.sorting]


def _parents() -> TableValuedAlias:
    return (
        func.unnest(unseen("parents", Uuid()))
        .table_valued(column("id", Uuid()), with_ordinality="place", name="parents")
        .render_derived()
    )


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
    sorts, model = _sorts(query, backward=backward), query.listing.model
    selected, source = selection(model, columns)
    if keys:
        selected += [sort.key.label(key_name(n)) for n, (_, sort) in enumerate(sorts)]
    conditions = _conditions(query)
    if nulls is not None:
        conditions.append(_beyond(sorts, nulls))
    # The limit is text: a planner that does not know it sorts everything instead of walking an index.
    statement = (
        select(*selected)
        .select_from(source)
        .where(*conditions)
        .order_by(*_ordering(sorts))
        .limit(literal_column(str(limit), BigInteger))
    )
    if nested:
        # A lateral join is a nested loop: the rows of a parent stay together and in their order. Which parent it is
        # says a number, the first column.
        parents = _parents()
        found = _below(parents, query, statement).lateral("found")
        names = [column.name for column in selected]
        statement = select(parents.c.place, *(found.c[name] for name in names)).select_from(parents.join(found, true()))
    return Statement(statement, model.__entity__, model)


@built_once
def _count_statement(query: Query, nested: bool) -> Statement[Any]:
    statement = select(func.count().label("count")).select_from(query.listing.model).where(*_conditions(query))
    if nested:
        parents = _parents()
        number = _below(parents, query, statement).scalar_subquery()
        statement = select(parents.c.id.label("parent_id"), number.label("count"))
    return Statement(statement)


@built_once
def _behind_statement(query: Query, backward: bool, nulls: tuple[bool, ...] | None, nested: bool) -> Statement[Any]:
    assert nulls is not None  # there is a cursor
    sorts = _sorts(query, backward=not backward)
    conditions = [*_conditions(query), _beyond(sorts, nulls, inclusive=True)]
    statement = select(true().label("one")).select_from(query.listing.model).where(*conditions)
    if not nested:
        return Statement(select(statement.exists().label("found")))
    parents = _parents()
    found = _below(parents, query, statement).exists()
    return Statement(select(parents.c.id.label("parent_id"), found.label("found")))


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
