"""A schema in which everything occurs: every kind of type, value, resolver and mistake."""

import asyncio
import datetime as dt
import decimal
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Optional

import strawberry
from graphql import GraphQLResolveInfo
from strawberry import Info, Maybe
from strawberry.permission import BasePermission
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from graph.execution.errors import RequestError
from graph.execution.preparing.documents import Operation

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


class AwareDateTime(dt.datetime):
    """Only a name for the scalar that writes UTC with `Z`."""


def write_datetime(value: dt.datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("a time without an offset")
    return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


CONFIG = StrawberryConfig(
    scalar_map={
        AwareDateTime: strawberry.scalar(
            name="DateTime", serialize=write_datetime, parse_value=dt.datetime.fromisoformat
        )
    }
)


@strawberry.enum
class Color(StrEnum):
    RED = "r"
    DARK_BLUE = "b"


@strawberry.enum
class Size(Enum):
    SMALL = 1
    LARGE = (2, "x")


@dataclass(frozen=True)
class Item:
    position: int
    kind: type | None = None
    lengths: frozenset[int] | None = None


def record_class(name: str, columns: Sequence[str], **views: type) -> type:
    """Like the rows of a database driver: a sequence whose attributes are its items."""
    members: dict[str, Any] = {column: property(itemgetter(place)) for place, column in enumerate(columns)}
    members |= {attribute: property(view) for attribute, view in views.items()}
    items = {column: Item(place) for place, column in enumerate(columns)}
    return type(name, (tuple,), {"__slots__": (), "__row__": "", "__items__": items, "__views__": views, **members})


class LeafPart:
    """A leaf that is made of the items of a wider row."""

    __slots__ = ("row",)
    __row__ = "row"
    __items__ = {"name": Item(10), "n": Item(11), "f": Item(12), "color": Item(13)}
    __views__: dict[str, type] = {}

    def __init__(self, row: Any) -> None:
        self.row = row

    def __getattr__(self, name: str) -> Any:
        return self.row[self.__items__[name].position]


LeafRow = record_class("LeafRow", ["name", "n", "f", "color"])
ThingRow = record_class(
    "ThingRow",
    ["id", "a", "leaf", "leaves", "opt", "colors", "matrix", "when", "day", "amount"],
    part_row=LeafPart,
)


class LocalUUID(uuid.UUID):
    """Drivers have subclasses of their own."""


class Loader:
    """Answers in the next turn of the loop all that was asked for in this one; counts its batches."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self.batches: list[list[Any]] = []

    def load(self, key: Any) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_soon(self.dispatch)
        future = loop.create_future()
        self.waiting.append((key, future))
        return future

    def dispatch(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.batches.append([key for key, _ in waiting])
        for key, future in waiting:
            if future.done():
                continue
            if key == "broken":
                future.set_exception(ValueError("the loader is broken"))
            else:
                future.set_result(key)


@dataclass
class Context:
    loader: Loader = field(default_factory=Loader)
    log: list[str] = field(default_factory=list)
    operation: Operation | None = None


def by_class(function: Any) -> Any:
    function.by_class = True
    return function


@strawberry.interface
class Node:
    id: strawberry.ID
    kinds: ClassVar[dict[type, str]] = {}

    @classmethod
    @by_class
    def resolve_type(cls, obj: Any, info: GraphQLResolveInfo[Any], abstract: Any) -> str | None:
        return cls.kinds.get(type(obj))


@strawberry.interface
class Named:
    name: str


@strawberry.enum
class Mood(Enum):
    """How a field answers that is resolved for many objects at once."""

    GOOD = 1
    RAISES = 2
    FAILS = 3
    FAILS_SOME = 4
    NULL_SOME = 5
    REFUSES = 6


def value_of(source: Any, mood: Mood, value: Any) -> Any:
    odd = "1" in str(source.n if hasattr(source, "n") else source.id)
    if mood is Mood.FAILS or (mood is Mood.FAILS_SOME and odd):
        return ValueError("failed" if mood is Mood.FAILS else f"failed {value}")
    return None if mood is Mood.NULL_SOME and odd else value


async def soon(source: Any, mood: Mood, value: Any) -> Any:
    await asyncio.sleep(0)
    value = value_of(source, mood, value)
    if isinstance(value, Exception):
        raise value
    return value


def batch(values: Any) -> Any:
    """The metadata of a field: `values` makes what there is for each of many objects when all goes well."""

    def resolve(sources: list[Any], info: Info[Any, None], mood: Mood) -> Any:
        if mood is Mood.RAISES:
            raise ValueError("raised")
        if mood is Mood.REFUSES:
            return NotImplemented

        async def answer() -> list[Any]:
            await asyncio.sleep(0)
            if mood is Mood.FAILS:
                raise ValueError("failed")
            return [value_of(source, mood, value) for source, value in zip(sources, values(sources), strict=True)]

        return answer()

    return {"batch": resolve}


@strawberry.type
class Leaf:
    name: str
    n: int
    f: float | None
    color: Color | None

    @strawberry.field(metadata=batch(lambda leaves: [leaf.name.upper() for leaf in leaves]))
    def title(self, info: Info[Context, None], mood: Mood = Mood.GOOD) -> str | None:
        if mood is Mood.RAISES:
            raise ValueError("raised")
        return soon(self, mood, self.name.upper())  # type: ignore[return-value]  # awaited by the executor

    @strawberry.field(metadata=batch(lambda leaves: [[leaf, leaf] for leaf in leaves]))
    def twins(self, info: Info[Context, None], mood: Mood = Mood.GOOD) -> list["Leaf"]:
        if mood is Mood.RAISES:
            raise ValueError("raised")
        return soon(self, mood, [self, self])  # type: ignore[return-value]

    @strawberry.field
    def where(self, info: Info[Context, None]) -> str:
        return f"{info.path.as_list()} {info.selected_fields}"


@strawberry.type
class Plain(Named):
    size: Size | None
    flag: bool = True


@strawberry.type
class Other(Node, Named):
    b: str | None

    @classmethod
    @by_class
    def is_type_of(cls, obj: Any, info: GraphQLResolveInfo[Any]) -> bool:
        return type(obj) is Other


Anything = Annotated["Thing | Plain | Other", strawberry.union("Anything")]


class Never(BasePermission):
    message = "not yours"
    error_extensions = {"code": "FORBIDDEN"}

    def has_permission(self, source: Any, info: Info[Any, Any], **arguments: Any) -> bool:
        return bool(arguments.get("ok", False))


@strawberry.input
class Point:
    x: int
    y: int | None = None
    colors: list[Color] = strawberry.field(default_factory=lambda: [Color.RED])
    inner: Optional["Point"] = None


@strawberry.input
class Change:
    name: Maybe[str | None]
    n: Maybe[int]
    when: Maybe[AwareDateTime | None]


@strawberry.input(one_of=True)
class Either:
    left: Maybe[int]
    right: Maybe[str]


@strawberry.type
class Thing(Node):
    a: int | None
    leaf: Leaf
    leaves: list[Leaf]
    opt: Leaf | None
    colors: list[Color]
    matrix: list[list[int | None]]
    when: AwareDateTime | None
    day: dt.date
    amount: decimal.Decimal
    meta: JSON | None = None
    key: uuid.UUID = uuid.UUID(int=5)
    bad: int | None = 1
    worse: int = 1
    named: Named | None = None
    many: list[Anything | None] = strawberry.field(default_factory=list)

    @classmethod
    @by_class
    def is_type_of(cls, obj: Any, info: GraphQLResolveInfo[Any]) -> bool:
        return type(obj) in (Thing, ThingRow)

    @strawberry.field(metadata={"carried": "part_row"})
    def part(self) -> Leaf:
        return self.part_row if hasattr(self, "part_row") else self.leaf

    @strawberry.field(metadata=batch(lambda things: [thing(int(str(t.id)[-1])) for t in things]))
    def mate(self, info: Info[Context, None], mood: Mood = Mood.GOOD) -> Optional["Thing"]:
        if mood is Mood.RAISES:
            raise ValueError("raised")
        return soon(self, mood, thing(int(str(self.id)[-1])))  # type: ignore[return-value]

    @strawberry.field
    def double(self, k: int = 2) -> int:
        return (self.a or 0) * k

    @strawberry.field
    async def slow(self, info: Info[Context, None]) -> str:
        await asyncio.sleep(0)
        return f"{info.path.as_list()} {self.id}"

    @strawberry.field
    async def boom(self) -> int | None:
        raise ValueError(f"boom {self.id}")

    @strawberry.field
    def refuse(self) -> int | None:
        raise RequestError("refused", "FORBIDDEN", thing=str(self.id))

    @strawberry.field
    async def boom_hard(self) -> int:
        await asyncio.sleep(0)
        raise ValueError(f"hard {self.id}")

    @strawberry.field
    def friend(self, info: Info[Context, None]) -> "Thing":
        return info.context.loader.load(self)  # type: ignore[return-value]  # awaited by the executor

    @strawberry.field
    def maybe_friend(self, info: Info[Context, None], broken: bool = False) -> Optional["Thing"]:
        return info.context.loader.load("broken" if broken else self)  # type: ignore[return-value]

    @strawberry.field
    async def friends(self, info: Info[Context, None], first: int = 2) -> list["Thing"]:
        return [await info.context.loader.load(self)] * max(0, min(first, 3))

    @strawberry.field
    def others(self, points: list[Point] | None = None) -> list[Other]:
        return [Other(id=strawberry.ID(str(n)), name="o", b=repr(points)) for n in range(2)]

    @strawberry.field(permission_classes=[Never])
    def guarded(self, ok: bool = False) -> str | None:
        return "guarded"

    @strawberry.field
    def node(self) -> Node | None:
        return Other(id=strawberry.ID("7"), name="seven", b=None) if self.a else None


Node.kinds |= {Thing: "Thing", ThingRow: "Thing", Other: "Other"}


def leaf(n: int) -> Any:
    made = LeafRow if n % 2 else Leaf
    values = {"name": f"leaf {n}", "n": n, "f": None if n % 3 else n / 2, "color": "b" if n % 2 else Color.RED}
    return made(tuple(values.values())) if made is LeafRow else Leaf(**values)  # type: ignore[arg-type]


def row(n: int) -> Any:
    values = (LocalUUID(int=n), n or None, leaf(n), [leaf(0), leaf(1)], None, ["r", Color.DARK_BLUE], [[1, None], []])
    more = (NOON if n % 2 else None, dt.date(2026, 1, 1 + n), decimal.Decimal(n))
    return ThingRow((*values, *more, f"part {n}", n, None, "r"))


def thing(n: int, **changes: Any) -> Thing:
    values: dict[str, Any] = {
        "id": strawberry.ID(str(n)),
        "a": n if n % 2 else None,
        "leaf": leaf(n),
        "leaves": [leaf(place) for place in range(n)],
        "opt": leaf(n) if n % 2 else None,
        "colors": [Color.RED, Color.DARK_BLUE],
        "matrix": [[1, None], [n]],
        "when": NOON.astimezone(dt.timezone(dt.timedelta(hours=n))) if n else NOON,
        "day": dt.date(2026, 1, 1 + n),
        "amount": decimal.Decimal("1.50"),
        "meta": {"k": [n, {"z": None}], "big": 2**70, "text": "\ud800"},
        "named": Plain(name="p", size=Size.LARGE),
        "many": [Plain(name="p", size=None), Other(id=strawberry.ID("1"), name="x", b="y"), None],
    }
    return Thing(**values | changes)


@strawberry.type
class Query:
    @strawberry.field
    async def things(self, n: int = 4) -> list[Thing]:
        return [thing(place) for place in range(max(0, min(n, 6)))]

    @strawberry.field
    def rows(self) -> list[Thing]:
        return [row(n) for n in range(4)]

    @strawberry.field
    def mixed(self) -> list[Thing | None] | None:
        return [thing(1), None, row(2)]

    @strawberry.field
    def anything(self) -> list[Anything]:
        return [thing(1), Plain(name="p", size=Size.SMALL, flag=False), Other(id=strawberry.ID("1"), name="x", b=None)]

    @strawberry.field
    async def nodes(self) -> list[Node | None]:
        return [thing(1), None, row(2), Other(id=strawberry.ID("2"), name="o", b="q")]

    @strawberry.field
    def named(self) -> Named | None:
        return Plain(name="only", size=Size.LARGE)

    @strawberry.field
    def wrong(self) -> list[Thing | None]:
        wrong: list[Any] = [thing(1, bad="zz"), thing(2, worse=None), thing(3, colors=["nope"]), thing(4, leaf=None)]
        wrong += [thing(5, leaves=[None]), thing(3, when=dt.datetime(2026, 1, 1)), "nothing"]  # noqa: DTZ001
        return wrong

    @strawberry.field
    def wrong_hard(self) -> Thing:
        return None  # type: ignore[return-value]

    @strawberry.field
    def maybe(self) -> Thing | None:
        return thing(3)

    @strawberry.field
    def point(self, point: Point, colors: list[Color] = []) -> str:  # noqa: B006  # Strawberry copies it
        return repr((point, colors))

    @strawberry.field
    def change(self, change: Change) -> str:
        return repr(change)

    @strawberry.field
    def either(self, either: Either) -> str:
        return repr(either)

    @strawberry.field(permission_classes=[Never])
    async def guarded(self, ok: bool = False) -> int:
        return 1

    @strawberry.field
    def numbers(self) -> list[int]:
        def generate() -> Iterator[int]:
            yield from range(3)

        return generate()  # type: ignore[return-value]

    @strawberry.field
    def awaited(self) -> list[Leaf | None]:
        async def later(n: int) -> Any:
            if n == 1:
                raise ValueError("later")
            return leaf(n)

        return [later(n) for n in range(3)]  # type: ignore[misc]

    @strawberry.field
    def exception(self) -> int | None:
        return ValueError("returned")  # type: ignore[return-value]


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def add(self, info: Info[Context, None], text: str) -> list[str]:
        await asyncio.sleep(0)
        info.context.log.append(text)
        return list(info.context.log)

    @strawberry.mutation
    def fail(self) -> int | None:
        raise ValueError("no")

    @strawberry.mutation
    async def make(self, n: int = 1) -> Thing:
        return thing(abs(n) % 6)

    @strawberry.mutation
    async def fail_hard(self) -> int:
        raise ValueError("no")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int) -> AsyncIterator[Thing]:
        for n in range(to):
            yield thing(n)


SCHEMA = strawberry.Schema(Query, Mutation, Subscription, types=[Thing, Plain, Other], config=CONFIG)
