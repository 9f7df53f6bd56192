"""What a list is: which rows of which table, in which order, and which part of it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Enum, Integer, String, case, literal_column
from sqlalchemy.orm import InstrumentedAttribute

from persistence.lists import filters
from persistence.lists.filters import Filterable, Shape
from persistence.models import Base
from persistence.models.base import public


class Trash(enum.StrEnum):
    """Which rows of those in the trash and those that are not are listed."""

    EXCLUDE = "exclude"
    INCLUDE = "include"
    ONLY = "only"


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
    default_order: tuple[Order, ...] = (Order("created_at", descending=True, nulls_first=True),)
    parent: InstrumentedAttribute[Any] | None = None
    """The column that names the row a list can be nested below, or be limited to."""
    search: InstrumentedAttribute[Any] | None = None
    soft_deleted: InstrumentedAttribute[Any] | None = None

    def __post_init__(self) -> None:
        LISTINGS[self.model] = self


LISTINGS: dict[type[Base], Listing] = {}
"""The list of each entity that has one, once its module is there."""


@dataclass(frozen=True, slots=True)
class Query:
    """One list: which rows in which order. Hashable but for the values, which `values` holds."""

    listing: Listing
    shape: Shape = filters.EMPTY
    order: tuple[Order, ...] = ()
    searching: bool = False
    trash: Trash = Trash.EXCLUDE
    limited: bool = False
    """Whether only the rows of one parent (`owner` of the values) are listed."""
    values: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def without_values(self) -> "Query":
        """The same list, for what must not keep the values of a request."""
        return Query(self.listing, self.shape, self.order, self.searching, self.trash, self.limited)

    def below(self, parent: UUID) -> "Query":
        """The list of one parent's rows. The planner can be told who that is."""
        values = {**self.values, "owner": parent}
        return Query(self.listing, self.shape, self.order, self.searching, self.trash, True, values)

    @property
    def is_ranked(self) -> bool:
        """Whether the best come first: a search without another order."""
        return self.searching and not self.order

    @property
    def sorting(self) -> tuple[Order, ...]:
        """All sort keys: those asked for or the default, then the id in the direction of the last."""
        if self.order:
            keys = self.order
        elif self.is_ranked:
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


def sorts_by_column(model: type[Base]) -> dict[str, Sort]:
    """A way to sort by each public column whose values are in an order: texts by their key, where they have one."""
    sorts = {}
    for name, column in public(model).items():
        nullable = bool(column.expression.nullable)
        if isinstance(column.type, Enum):
            sorts[name] = Sort(rank(column), int, nullable)
        elif isinstance(column.type, (String, Integer, DateTime)):
            sorts[name] = Sort(getattr(model, f"{name}_key", column), column.type.python_type, nullable)
    return sorts


def rank(column: InstrumentedAttribute[Any]) -> ColumnElement[int]:
    """The sort key of an enumeration: the position of the value among its members, not its stored text."""
    kind = column.type
    assert isinstance(kind, Enum)
    assert kind.enum_class is not None
    places = {member.value: literal_column(str(place), Integer) for place, member in enumerate(kind.enum_class)}
    return case({literal_column(f"'{value}'"): place for value, place in places.items()}, value=column)
