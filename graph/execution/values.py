"""What the compiler knows of values: which classes are ordinary, which leaves may stay as they are until JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import GeneratorType, NoneType
from typing import Any, Protocol
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


class Item(Protocol):
    """A column of a row: `row[position]` is what the attribute gives, or its text in the answer."""

    @property
    def position(self) -> int: ...

    @property
    def kind(self) -> type | None:
        """The class of the attribute, where the row has its text; None: the row has the value itself."""
        ...

    @property
    def lengths(self) -> frozenset[int] | None:
        """Text of one of these lengths is that of the answer; other is right, but not of that form. None: all is."""
        ...


class RowClass(Protocol):
    """What classes whose objects are rows, or parts of rows, say of themselves. Reading by position saves a fifth."""

    __row__: str
    """The attribute that holds the row of an object; empty: the object is the row."""
    __items__: Mapping[str, Item]
    """Attributes that are columns of the row."""
    __views__: Mapping[str, type]
    """Attributes that are objects made of the same row: `object.attribute` is `view(row)`."""


def is_row(kind: type) -> bool:
    """Whether it is a `RowClass`."""
    return hasattr(kind, "__items__")


def row_of(kind: Any) -> str:
    """How the row is reached from an object `o` of a `RowClass`."""
    return f"o.{kind.__row__}" if kind.__row__ else "o"


def view_of(kind: Any, attribute: str) -> type | None:
    """The class of the objects that rows of the class bring along as an attribute, which is a `RowClass` too."""
    view: type | None = kind.__views__.get(attribute)
    return view


def position_of(kind: Any, attribute: str) -> int | None:
    """The index for which `row[index]` is what the attribute gives, if it is a column as it is."""
    item: Item | None = kind.__items__.get(attribute)
    return item.position if item is not None and item.kind is None else None


def written_form(kind: Any, attribute: str) -> Item | None:
    """The item whose text the row has in place of the attribute's value, if it does."""
    item: Item | None = kind.__items__.get(attribute)
    return item if item is not None and item.kind is not None else None


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
