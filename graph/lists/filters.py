"""Filters as typed inputs, and how they become shapes and values for the persistence layer.

Every field is optional and none takes null: absent says nothing, and null would be mistaken for it.
"""

import enum
from datetime import datetime
from typing import Any, Generic, TypeVar

import strawberry

from graph.execution.preparing.bounds import at_most
from graph.request.refusals import bad_argument
from graph.types.naming import camel
from persistence.lists.filters import Shape
from persistence.models.ids import parse_id
from persistence.rules.text import composed, fold
from persistence.rules.validation import storable
from persistence.words import folding

MAX_DEPTH = 10
MAX_NODES = 100
MAX_VALUES = 1_000
SHOWN = 100
"""Characters of a wrong value that are repeated in what is said of it."""

T = TypeVar("T")


def comparator(description: str, name: str | None = None) -> Any:
    return strawberry.field(description=description, name=name, default=None)


def listed(description: str, name: str | None = None) -> Any:
    """A comparator that takes a list."""
    return strawberry.field(description=description, name=name, default=None, metadata=at_most(MAX_VALUES))


EQ = "Equal to this."
NE = "Not equal to this; a value that is not there passes."
IN = f"One of these, at most {MAX_VALUES:,}; of none when the list is empty."
NOT_IN = f"None of these, at most {MAX_VALUES:,}; a value that is not there passes."
LT, LTE = "Less than this.", "Less than or equal to this."
GT, GTE = "Greater than this.", "Greater than or equal to this."
NULL = "Whether the value is missing."
IGNORING = "whatever case, accents and width both have"


@strawberry.input(description="Compares an id.")
class IDFilter:
    eq: strawberry.Maybe[strawberry.ID] = comparator(EQ)
    ne: strawberry.Maybe[strawberry.ID] = comparator(NE)
    in_: strawberry.Maybe[list[strawberry.ID]] = listed(IN, "in")
    not_in: strawberry.Maybe[list[strawberry.ID]] = listed(NOT_IN)


@strawberry.input(description="Compares a text: character by character, unless the comparator ignores case.")
class StringFilter:
    eq: strawberry.Maybe[str] = comparator(EQ)
    ne: strawberry.Maybe[str] = comparator(NE)
    in_: strawberry.Maybe[list[str]] = listed(IN, "in")
    not_in: strawberry.Maybe[list[str]] = listed(NOT_IN)
    lt: strawberry.Maybe[str] = comparator("Before this in the order of code points.")
    lte: strawberry.Maybe[str] = comparator("Before this in the order of code points, or equal.")
    gt: strawberry.Maybe[str] = comparator("After this in the order of code points.")
    gte: strawberry.Maybe[str] = comparator("After this in the order of code points, or equal.")
    contains: strawberry.Maybe[str] = comparator("Has this in it.")
    starts_with: strawberry.Maybe[str] = comparator("Begins with this.")
    ends_with: strawberry.Maybe[str] = comparator("Ends with this.")
    eq_ignore_case: strawberry.Maybe[str] = comparator(f"Equal to this, {IGNORING}.")
    contains_ignore_case: strawberry.Maybe[str] = comparator(f"Has this in it, {IGNORING}.")
    starts_with_ignore_case: strawberry.Maybe[str] = comparator(f"Begins with this, {IGNORING}.")


@strawberry.input(description="Compares a whole number.")
class IntFilter:
    eq: strawberry.Maybe[int] = comparator(EQ)
    ne: strawberry.Maybe[int] = comparator(NE)
    in_: strawberry.Maybe[list[int]] = listed(IN, "in")
    not_in: strawberry.Maybe[list[int]] = listed(NOT_IN)
    lt: strawberry.Maybe[int] = comparator(LT)
    lte: strawberry.Maybe[int] = comparator(LTE)
    gt: strawberry.Maybe[int] = comparator(GT)
    gte: strawberry.Maybe[int] = comparator(GTE)


@strawberry.input(description="Compares a moment.")
class DateTimeFilter:
    eq: strawberry.Maybe[datetime] = comparator(EQ)
    ne: strawberry.Maybe[datetime] = comparator(NE)
    in_: strawberry.Maybe[list[datetime]] = listed(IN, "in")
    not_in: strawberry.Maybe[list[datetime]] = listed(NOT_IN)
    lt: strawberry.Maybe[datetime] = comparator("Before this.")
    lte: strawberry.Maybe[datetime] = comparator("Before this, or at it.")
    gt: strawberry.Maybe[datetime] = comparator("After this.")
    gte: strawberry.Maybe[datetime] = comparator("After this, or at it.")
    is_null: strawberry.Maybe[bool] = comparator(NULL)


@strawberry.input(description="Compares a value of an enumeration.")
class EnumFilter(Generic[T]):
    eq: strawberry.Maybe[T] = comparator(EQ)
    ne: strawberry.Maybe[T] = comparator(NE)
    in_: strawberry.Maybe[list[T]] = listed(IN, "in")
    not_in: strawberry.Maybe[list[T]] = listed(NOT_IN)


@strawberry.input(description="Compares a list of tags, without regard to case.")
class TagsFilter:
    has_all: strawberry.Maybe[list[str]] = listed(f"Has all of these, at most {MAX_VALUES:,}.")
    has_any: strawberry.Maybe[list[str]] = listed(f"Has at least one of these, at most {MAX_VALUES:,}.")
    has_none: strawberry.Maybe[list[str]] = listed(f"Has none of these, at most {MAX_VALUES:,}.")


COMPARATORS = (IDFilter, StringFilter, IntFilter, DateTimeFilter, EnumFilter, TagsFilter)


def filter_field(description: str, name: str | None = None) -> Any:
    return strawberry.field(description=description, name=name, default=None)


def filter_list(description: str, name: str) -> Any:
    """A field of a filter that takes a list of filters."""
    return strawberry.field(description=description, name=name, default=None, metadata=at_most(MAX_NODES))


AND = f"All of these hold, at most {MAX_NODES}. An empty list holds for everything."
OR = f"At least one of these holds, at most {MAX_NODES}. An empty list holds for nothing."
NOT = "This does not hold."


def parse(filter: object) -> tuple[Shape, list[Any]]:
    """The shape of a filter input and its values in the order of the shape. Raises `RequestError` (BAD_USER_INPUT)."""
    parser = _Parser()
    return parser.conjunction(filter, "filter", 1), parser.values


class _Parser:
    def __init__(self) -> None:
        self.values: list[Any] = []
        self.nodes = 0

    def conjunction(self, filter: Any, path: str, depth: int) -> Shape:
        if depth > MAX_DEPTH:
            raise bad_argument(path, f"the filter is deeper than {MAX_DEPTH}.")
        parts: list[Shape] = []
        for name, given in _given(filter):
            self._count(path)
            here = f"{path}.{camel(name.rstrip('_'))}"
            if name in ("and_", "or_"):
                inner = []
                for n, part in enumerate(given):
                    self._count(here)  # an empty one, too
                    inner.append(self.conjunction(part, f"{here}[{n}]", depth + 1))
                parts.append((name[:-1], *inner))
            elif name == "not_":
                parts.append(("not", self.conjunction(given, here, depth + 1)))
            elif isinstance(given, COMPARATORS):
                parts.extend(self.comparison(name, given, here))
            else:
                parts.append(("related", name, self.conjunction(given, here, depth + 1)))
        return parts[0] if len(parts) == 1 else ("and", *parts)

    def comparison(self, field: str, filter: Any, path: str) -> list[Shape]:
        parts: list[Shape] = []
        for name, given in _given(filter):
            self._count(path)
            if name == "is_null":
                parts.append(("null", field, given))
                continue
            here = f"{path}.{camel(name.rstrip('_'))}"
            if isinstance(given, list) and len(given) > MAX_VALUES:
                raise bad_argument(here, f"{len(given):,} values; at most {MAX_VALUES:,} are allowed.")
            value: Any
            if isinstance(given, list):
                value = [_value(filter, item, here) for item in given]
            else:
                value = _value(filter, given, here)
            self.values.append(folding.fold(value) if name.endswith("_ignore_case") else value)
            parts.append(("compare", field, name.rstrip("_")))
        return parts

    def _count(self, path: str) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise bad_argument(path, f"the filter has more than {MAX_NODES} conditions.")


def _given(filter: Any) -> list[tuple[str, Any]]:
    """The fields of an input that are not absent."""
    return [(name, maybe.value) for name, maybe in vars(filter).items() if maybe is not None]


def _value(filter: object, value: Any, path: str) -> Any:
    """A value as the database compares it."""
    if isinstance(filter, IDFilter):
        id = parse_id(value)
        if id is None:
            raise bad_argument(path, f"{value[:SHOWN]!r} is not an id; an id is a UUID.")
        return id
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str) and not storable(value):
        raise bad_argument(path, "the text contains a character that cannot be stored.")
    if isinstance(filter, TagsFilter):
        return fold(value)
    return composed(value) if isinstance(value, str) else value
