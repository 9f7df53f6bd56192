"""How PostgreSQL plans a list, so that it costs what the asker has, whatever others have and asked before.

A statement that is prepared is soon planned once and for all, for an average owner and an average word. That is good
for a list that is one walk along an index: this is the best plan for everybody, and planning takes as long as a small
list itself. All others are planned each time, for their values.

Even then the planner guesses, and reads the index of everybody's tags or words to find the few rows of one owner. So
there are two ways to the rows of a list that is no walk, and which is taken is seen at run time: of an owner of at most
`FEW` rows all are looked at; with more it is left to the planner. A search of many rows looks at the newest `FEW` first
and asks the index only if these are not enough. What no index can answer (words that must not occur, beginnings of one
letter) is looked for there only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    any_,
    bindparam,
    cast,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.sql.util import ClauseAdapter
from sqlalchemy.sql.visitors import iterate

from persistence.lists.conditions import conditions_of, ordering_of, sort_of, sorts_of, tsquery
from persistence.lists.filters import Shape
from persistence.lists.listing import Query, Trash
from persistence.models import Base

FEW = 5_000
"""So many rows of one owner are looked at one by one, which takes some ms."""

RANKED = 1_000
"""A search by rank ranks so many of the newest rows that match."""

_RANGE = frozenset({"eq", "lt", "lte", "gt", "gte"})


def is_one_walk(query: Query, *, nested: bool, sorted: bool = True) -> bool:
    """Whether the rows of a list are one piece of an index, in its order if `sorted`.

    Such a list has no conditions but on its parent, on columns that must equal a value, and on its sort key.
    """
    listing = query.listing
    if query.searching or query.trash is Trash.ONLY:
        return False
    [order, *_] = query.sorting
    sort = sort_of(query, order.field)
    if sorted and (len(query.sorting) > 2 or (sort.nullable and order.nulls_first != order.descending)):
        return False
    key = getattr(sort.key, "key", None)
    pinned = nested or query.limited
    fixed = set()
    for part in _conjuncts(query.shape):
        match part:
            case ("related", name, ("compare", "id", "eq")) if (
                listing.parent is not None and listing.filterable.relations[name].local is listing.parent
            ):
                pinned = True
            case ("compare", name, comparator) if comparator in _RANGE and sorted and name == key:
                pass
            case ("compare", name, "eq"):
                fixed.add(name)
            case _:
                return False
    parent = [listing.parent.key] if pinned and listing.parent is not None else []
    if not sorted and not parent:
        return not fixed  # everything is counted, or as good as everything
    for columns in _indexes(listing.model):
        if columns[: len(parent)] == parent:
            rest = columns[len(parent) :]
            if set(rest[: len(fixed)]) == fixed and (not sorted or rest[len(fixed) : len(fixed) + 1] == [key]):
                return True
    return False


def _conjuncts(shape: Shape) -> Sequence[Shape]:
    """The conditions that must all hold."""
    return [part for inner in shape[1:] for part in _conjuncts(inner)] if shape[0] == "and" else [shape]


def _indexes(model: type[Base]) -> list[list[str]]:
    """The columns of the ordered indexes of a table."""
    table = model.__table__
    assert isinstance(table, Table)
    ordered: list[Index | UniqueConstraint] = [
        index
        for index in table.indexes
        if (options := index.dialect_options["postgresql"])["using"] != "gin" and options["where"] is None
    ]
    ordered += [constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    return [[column.name for column in index.columns] for index in ordered]


def each_time(query: Query) -> list[ColumnElement[bool]]:
    """A condition that always holds and makes PostgreSQL plan a prepared statement anew for its values, each time.

    It compares what a plan for the values costs with what one for all costs ("PREPARE", "Notes"). With a value this
    condition is gone before anything is planned; without one it seems to cost more than all else in the world. A
    setting would do the same, and be lost in a pooler, or cost a round trip.
    """
    for part in iterate(and_(true(), *conditions_of(query))):
        if isinstance(part, BindParameter):
            return [or_(part.is_not(None), literal_column(_ENDLESS, BigInteger) > literal_column("0", Integer))]
    return []  # what has no values has one plan


_ENDLESS = "(SELECT count(*) FROM generate_series(1, 2147483647) AS a, generate_series(1, 2147483647) AS b)"


def among(query: Query, places: CompoundSelect[Any]) -> ColumnElement[bool]:
    """The rows of a list's table in these places."""
    return literal_column(f"{query.listing.model.__tablename__}.ctid") == any_(func.array(places.scalar_subquery()))


def candidates(
    query: Query,
    after: Sequence[ColumnElement[bool]] = (),
    ordering: Sequence[ColumnElement[Any]] = (),
    limit: int | None = None,
    *,
    parent: ColumnElement[UUID] | None = None,
) -> CompoundSelect[Any]:
    """Where the rows of a list are that fulfil `after` too: the first `limit`, or the newest of a search by rank.

    One half of it looks at rows one by one and the other asks an index; only one of them gives any. `parent` is that of
    a nested list: it stands for one after another.
    """
    listing = query.listing
    owned: list[ColumnElement[bool]] = []
    if listing.parent is not None and (query.limited or parent is not None):
        owned.append(listing.parent == (bindparam("owner", type_=Uuid()) if parent is None else parent))
    conditions = [*conditions_of(query, nested=parent is not None), *owned, *after]
    place: ColumnElement[Any] = literal_column(f"{listing.model.__tablename__}.ctid").label("place")
    newest = ordering_of(sorts_of(replace(query, order=listing.default_order), backward=False))
    if query.is_ranked:
        ordering, limit = newest, RANKED
    is_newest = [str(key) for key in ordering] == [str(key) for key in newest]
    first = None if limit is None else literal_column(str(limit), BigInteger)

    rows = select(place, *listing.model.__table__.c).where(*owned, *(after if is_newest else ()))
    looked_at = rows.order_by(*newest).limit(literal_column(str(FEW), BigInteger)).subquery("newest")
    adapt = ClauseAdapter(looked_at).traverse
    found = select(looked_at.c.place).where(*map(adapt, conditions)).order_by(*map(adapt, ordering)).limit(first)
    by_index = select(place).select_from(listing.model).where(*conditions).order_by(*ordering).limit(first)

    enough = or_(false(), *_enough(query, owned, nested=parent is not None))
    if query.searching and is_newest and first is not None and parent is None:
        known = found.cte("found")
        enough = or_(enough, select(func.count()).select_from(known).scalar_subquery() == first)
        found = select(known.c.place)
    return union_all(found.where(enough), by_index.where(not_(enough)))


def _enough(query: Query, owned: Sequence[ColumnElement[bool]], *, nested: bool) -> Iterator[ColumnElement[bool]]:
    """When nothing but the newest rows is looked at: the owner has no more, or no index can answer the search."""
    if owned:
        one_more = literal_column(str(FEW + 1), BigInteger)
        some = select(true().label("one")).select_from(query.listing.model).where(*owned).limit(one_more).subquery()
        # Found out once, and used by both halves. (Below many parents, by each: it is about one of them.)
        has_few = select((func.count() < one_more).label("all")).select_from(some).cte("few", nesting=nested)
        yield select(has_few.c.all).scalar_subquery()
    if query.searching:
        # "querytree" is what an index can be asked of a search; T: nothing.
        yield func.querytree(tsquery()) == literal_column("'T'", Text)
        yield cast(tsquery(), Text).regexp_match(literal_column(r"$$'[^']':\*$$", Text))
