"""What the compiler knows of values: which classes are ordinary, which leaves may stay as they are until JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import itemgetter
from types import GeneratorType, NoneType
from typing import Any
from uuid import UUID

import orjson
from graphql import (
    GraphQLAbstractType,
    GraphQLID,
    GraphQLObjectType,
    GraphQLSchema,
    is_scalar_type,
    is_specified_scalar_type,
)
from strawberry.types.unset import UnsetType

# The classes known to be right, and what examines others: True, or Surprise.
Acceptance = tuple[set[type], Callable[[Any], bool]]

# Classes are remembered for good; a program that makes classes without end starts over here.
MAX_CLASSES = 10_000


# Values that nobody can change: they may be shared between calls and between requests.
IMMUTABLE = (NoneType, bool, int, float, str, bytes, Enum, UUID, date, datetime, time, timedelta, Decimal, UnsetType)

UNSEEN = object()


class Surprise(Exception):
    """Generated code met something it was not made for; graphql-core completes this position instead."""


# Classes whose instances are plain data: neither awaitable nor an exception nor an iterator.
ORDINARY: set[type] = {NoneType, bool, int, float, str, bytes, list, tuple, dict, set, frozenset}


def ordinary(value: Any) -> bool:
    """True for plain data; raises Surprise for what graphql-core treats in a special way."""
    kind = type(value)
    if kind not in ORDINARY:
        if isinstance(value, (Exception, GeneratorType)) or hasattr(value, "__await__") or hasattr(value, "__aiter__"):
            raise Surprise
        remember(ORDINARY, kind)
    return True


def remember(classes: set[type], kind: type) -> None:
    if len(classes) >= MAX_CLASSES:
        classes.intersection_update({NoneType, bool, int, float, str, bytes, list, tuple, dict, set, frozenset})
    classes.add(kind)


def classes_of(items: Any) -> set[type]:
    """The classes of the items of a list, all of them ordinary."""
    kinds = set(map(type, items))
    if not kinds <= ORDINARY:
        for item in items:
            ordinary(item)
    return kinds


def is_accepted(kind: type, accepted: Acceptance) -> bool:
    """Whether objects of the class are of the type, of which the class alone decides."""
    known, accept = accepted
    try:
        return kind in known or accept(object.__new__(kind))
    except Surprise:
        return False


def all_accepted(kinds: set[type], items: list[Any], accepted: Acceptance) -> bool:
    """Whether every item is an object of the type; null is no object, a wrong object a Surprise."""
    if NoneType in kinds:
        return False
    known, accept = accepted
    if not kinds <= known:
        for item in items:
            if type(item) not in known:
                accept(item)
    return True


def plain_items(value: Any) -> Any:
    """A list or tuple of plain data; one-shot iterators and the like are left to graphql-core."""
    if type(value) is not list and type(value) is not tuple:
        raise Surprise
    classes_of(value)
    return value


def plain_member(source: Any, name: str) -> Any:
    """What graphql-core's default resolver returns, where that is no function."""
    value = source.get(name) if isinstance(source, (dict, Mapping)) else getattr(source, name, None)
    if callable(value):
        raise Surprise
    return value


def getter_of(kind: type, attribute: str) -> Any:
    """The getter of a property, which may read from the row that the object holds."""
    member = getattr(kind, attribute, None)
    getter = member.fget if isinstance(member, property) else None
    return getattr(getter, "read", None) if hasattr(kind, "__row__") else getter


def row_of(kind: type) -> str:
    """How the row is reached from an object `o` of the class: it is the row, or holds it as its class says."""
    return f"o.{kind.__row__}" if hasattr(kind, "__row__") else "o"


def view_of(kind: type, attribute: str) -> type | None:
    """The class for which `object.attribute` is `view(object)`: a part of a row, as an object of its own (`row_of`)."""
    member = getattr(kind, attribute, None)
    getter = member.fget if isinstance(member, property) else None
    return getter if isinstance(getter, type) and hasattr(getter, "__row__") else None


def position_of(kind: type, attribute: str) -> int | None:
    """The index for which `row[index]` is what `row.attribute` gives, when the class is made so.

    Rows of the database are sequences whose attributes are `property(itemgetter(index))`; asking for the item itself
    saves a fifth of the time. See `row_of` for objects that are a part of a row.
    """
    getter = getter_of(kind, attribute)
    if type(getter) is not itemgetter:
        return None
    index: Any = getter.__reduce__()[1]  # what it was made with
    return index[0] if len(index) == 1 and type(index[0]) is int and index[0] >= 0 else None


def written_form(kind: type, attribute: str) -> Any:
    """What reads a value that a row already has as the text of the answer, or None.

    It is the getter of a property: `row[getter.position]` (see `row_of`) is then the text, in that form when its
    length is one of `getter.lengths` (None: always), or None for null; `getter.kind` is the class of the attribute.
    """
    getter = getter_of(kind, attribute)
    return getter if hasattr(getter, "lengths") else None


DATETIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 0, 0, 1, UTC),
    datetime(2000, 1, 1, 0, 0, 0, 1000, UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
    datetime(9999, 12, 31, 1, 2, 3, tzinfo=UTC),
]
SAMPLES: dict[type, list[Any]] = {
    datetime: DATETIMES,
    date: [date(1, 1, 1), date(1969, 12, 31), date(9999, 2, 28)],
    UUID: [UUID(int=0), UUID(int=2**127 + 1), UUID("01890a5d-ac96-774b-bcce-b302099a8057")],
}


def written(kind: type, option: int) -> list[Any]:
    return [orjson.loads(orjson.dumps(sample, option=option)) for sample in SAMPLES[kind]]


def serialised(scalar: Any, kind: type) -> list[Any] | None:
    """What the scalar makes of the samples; None when it refuses one."""
    try:
        return [scalar.coerce_output_value(sample) for sample in SAMPLES[kind]]
    except Exception:  # a scalar may refuse in any way it likes
        return None


@dataclass
class Natives:
    """Which scalars write a class exactly as orjson does, found by trying; `option` is how orjson has to be called."""

    schema: GraphQLSchema
    enabled: bool = True
    option: int = 0
    classes: dict[str, set[type]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.enabled:
            return
        scalars = [t for t in self.schema.type_map.values() if is_scalar_type(t) and not is_specified_scalar_type(t)]
        zulu = written(datetime, orjson.OPT_UTC_Z)
        if any(serialised(scalar, datetime) == zulu for scalar in scalars):
            self.option = orjson.OPT_UTC_Z
        for scalar in scalars:
            self.classes[scalar.name] = {
                kind for kind in SAMPLES if serialised(scalar, kind) == written(kind, self.option)
            }

    def writes(self, type_: Any, kind: type) -> bool:
        """Whether the leaf type writes values of the class as orjson does."""
        if type_ is GraphQLID:
            return self.enabled and issubclass(kind, UUID)
        return any(issubclass(kind, native) for native in self.classes.get(getattr(type_, "name", ""), ()))


def is_by_class(function: Any) -> bool:
    """Whether an `is_type_of` or `resolve_type` promises to look at nothing but the class of the object."""
    return bool(getattr(getattr(function, "__func__", function), "by_class", False))


class Types:
    """Which classes of objects stand for which GraphQL types, as far as a class alone can tell."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._accepted: dict[str, Acceptance | None] = {}
        self._rows: dict[type, bool] = {}

    def is_row(self, kind: type) -> bool:
        """Whether attributes of the class are items of it."""
        known = self._rows.get(kind)
        if known is None:
            if len(self._rows) >= MAX_CLASSES:
                self._rows.clear()
            known = self._rows[kind] = any(
                position_of(kind, name) is not None or written_form(kind, name) is not None for name in vars(kind)
            )
        return known

    def acceptance(self, type_: GraphQLObjectType) -> Acceptance | None:
        """The classes known to be of the type, and what examines others (True or Surprise); None: ask each object."""
        if type_.name not in self._accepted:
            self._accepted[type_.name] = self._acceptance(type_)
        return self._accepted[type_.name]

    @staticmethod
    def _acceptance(type_: GraphQLObjectType) -> Acceptance | None:
        is_type_of: Any = type_.is_type_of
        if is_type_of is None:
            return ORDINARY, ordinary
        if not is_by_class(is_type_of):
            return None
        accepted: set[type] = set()

        def accept(value: Any) -> bool:
            ordinary(value)
            if is_type_of(value, None) is not True:
                raise Surprise
            remember(accepted, type(value))
            return True

        return accepted, accept

    def resolve_by_class(self, type_: GraphQLAbstractType) -> Callable[[Any], GraphQLObjectType] | None:
        """What names the type of an object by its class; None: `resolve_type` has to be asked with the real info."""
        resolve_type: Any = type_.resolve_type
        if not is_by_class(resolve_type):
            return None
        possible = {t.name: t for t in self.schema.get_possible_types(type_)}

        def resolve(value: Any) -> GraphQLObjectType:
            name = resolve_type(value, None, type_)
            if type(name) is not str or name not in possible:
                raise Surprise
            return possible[name]

        return resolve
