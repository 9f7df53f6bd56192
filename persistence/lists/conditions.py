"""The SQL of a list: its conditions, its order, and what comes after a cursor."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    REAL,
    ColumnElement,
    Uuid,
    and_,
    bindparam,
    cast,
    false,
    func,
    or_,
    tuple_,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from persistence.access import is_open
from persistence.lists import filters
from persistence.lists.listing import Order, Query, Sort, Trash


def tsquery() -> ColumnElement[Any]:
    """What is searched for (`search` of the values, as `persistence.words.searching` makes it)."""
    return bindparam("search", type_=TSQUERY())


def sort_of(query: Query, name: str) -> Sort:
    """The sort key of a list with a name."""
    if name == "rank":
        return Sort(cast(func.ts_rank_cd(query.listing.search, tsquery()), REAL), float)
    if name == "id":
        return Sort(query.listing.model.__table__.c.id, UUID)
    return query.listing.sorts[name]


def conditions_of(query: Query, *, nested: bool = False) -> list[ColumnElement[bool]]:
    """What the rows of a list fulfil; its values have the names of `query.values`. The parents of a nested list are
    seen already, and so is what is theirs."""
    listing = query.listing
    conditions = [filters.predicate(listing.filterable, query.shape)] if query.shape != filters.EMPTY else []
    if query.limited:
        assert listing.parent is not None
        conditions.append(listing.parent == bindparam("owner", type_=Uuid()))
    if listing.soft_deleted is not None and query.trash is not Trash.INCLUDE:
        is_in_trash = listing.soft_deleted.is_not(None)
        conditions.append(is_in_trash if query.trash is Trash.ONLY else listing.soft_deleted.is_(None))
    if query.searching:
        assert listing.search is not None
        conditions.append(listing.search.op("@@", is_comparison=True)(tsquery()))
    if not nested:
        conditions.append(is_open(listing.model))
    return conditions


def beyond(
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


def ordering_of(sorts: Sequence[tuple[Order, Sort]]) -> list[ColumnElement[Any]]:
    """ORDER BY."""
    ordering = []
    for order, sort in sorts:
        key = sort.key.desc() if order.descending else sort.key.asc()
        # PostgreSQL's own default is nulls last when ascending; saying so would hide an index.
        if sort.nullable and order.nulls_first != order.descending:
            key = key.nulls_first() if order.nulls_first else key.nulls_last()
        ordering.append(key)
    return ordering


def sorts_of(query: Query, *, backward: bool) -> list[tuple[Order, Sort]]:
    """All sort keys of a list, in the direction in which it is walked."""
    return [(order.reversed() if backward else order, sort_of(query, order.field)) for order in query.sorting]
