"""Python source for selections that need no resolver: one dict display for an object, one loop for a list.

The code is optimistic. Each value is tested for being what the schema says, in the cheapest way; what is not goes to
a strict serialiser, and what that does not accept raises. Nothing was changed until then, so the caller can let
graphql-core complete the same position from the start: errors, null propagation and odd values stay its own.
"""

import linecache
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain, count
from typing import Any, NamedTuple, NoReturn, Protocol
from uuid import UUID

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLError,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLString,
    Undefined,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)

from graph.execution.compiling.fields import Field
from graph.execution.values import (
    ORDINARY,
    Natives,
    Surprise,
    Types,
    is_accepted,
    ordinary,
    plain_items,
    plain_member,
    position_of,
    row_of,
    view_of,
    written_form,
)

NUMBERS = count(1)
"""Of the generated functions of a process."""

LARGEST_FLOAT = 1.7976931348623157e308
INT = "-2147483648 <= {v} <= 2147483647"  # GraphQL, section 3.5.1

# From this length on it pays to look at the classes of all items first, and to read rows by position.
LONG = 5

LOOP = "def {name}(items):\n out = []\n add = out.append\n for {each}:\n  add({value})\n return out"


def serialiser(type_: Any, nullable: bool) -> Callable[[Any], Any]:
    """The strict form of completing a leaf: what the scalar or enum itself makes of the value."""
    coerce = type_.coerce_output_value

    def serialise(value: Any) -> Any:
        if value is None and nullable:
            return None
        ordinary(value)
        result = coerce(value)
        if result is None or result is Undefined:
            raise Surprise
        return result

    return serialise


def unexpected_null() -> NoReturn:
    raise Surprise


def each_list(many: Callable[[Any], list[Any]], lists: list[Any]) -> list[list[Any]]:
    """What `many` makes of each of the lists, when it is called with all items once."""
    if set(map(type, lists)) - {list}:
        raise Surprise
    made = many([*chain.from_iterable(lists)])
    out, start = [], 0
    for items in lists:
        end = start + len(items)
        out.append(made[start:end])
        start = end
    return out


class Hole(NamedTuple):
    """A field that a generated loop leaves null, for objects that are part of the items of a list."""

    field: Field
    way: tuple[Field, ...]
    """The fields that lead from an item to the object that has the field; none: it is the item itself."""
    source: str
    box: str
    """Expressions of the object and of what is made of it."""


class Known(Protocol):
    """What code is made from beside the fields themselves."""

    types: Types
    natives: Natives

    def selected(self, type_: Any, details: Any) -> Sequence[Field]:
        """The fields that a selection has on one object type."""
        ...

    def many(self, type_: Any, details: Any) -> Callable[[list[Any]], list[Any]] | None:
        """What completes a list of values of the type, if no resolver is needed for them."""
        ...


class Source:
    """The source of one generated function and the names that it uses."""

    def __init__(self, known: Known, kind: type | None = None) -> None:
        """`kind` is the class of the objects, when the code is for one class of rows only."""
        self.known = known
        # By the expression of an object: its class, and the expression of the row that it is or holds.
        self.rows: dict[str, tuple[type, str]] = {} if kind is None else {"o": (kind, row_of(kind))}
        self.names: dict[str, Any] = {
            "ORDINARY": ORDINARY,
            "ordinary": ordinary,
            "plain_items": plain_items,
            "plain_member": plain_member,
            "null": unexpected_null,
        }
        self.helpers: list[str] = []
        self.count = 0
        # None: an object with a field that needs its resolver is not made here.
        self.holes: list[Hole] | None = None
        self.way: tuple[Field, ...] = ()
        # Lists that all objects of a loop have: a name for that of one object, and the expression of all of them.
        self.inner: list[tuple[str, str]] | None = None

    def name(self, prefix: str, value: Any = None) -> str:
        """A new name, bound to the value when there is one."""
        self.count += 1
        name = f"{prefix}{self.count}"
        if value is not None:
            self.names[name] = value
        return name

    def object(self, fields: Sequence[Field], src: str) -> str | None:
        """The object that the selection makes of `src`; None when a resolver is needed for it."""
        text, resolved = self.skeleton(fields, src)
        return None if resolved else text

    def skeleton(self, fields: Sequence[Field], src: str = "o") -> tuple[str, list[Field]]:
        """The same with null for each field that needs its resolver, and these fields."""
        parts, resolved = [], []
        for field in fields:
            value = self.field(field, src)
            if value is None:
                resolved.append(field)
            parts.append(f"{field.key!r}: {value}")
        return "{" + ", ".join(parts) + "}", resolved

    def field(self, field: Field, src: str) -> str | None:
        if field.constant is not None:
            return repr(field.constant)
        kind, row = self.rows.get(src, (None, src))
        if field.attribute is not None:
            if kind is not None and (text := self.text(field, kind, row, src)) is not None:
                return text
            index = None if kind is None else position_of(kind, field.attribute)
            read = f"{src}.{field.attribute}" if index is None else f"{row}[{index}]"
        elif field.member is not None:
            read = f"plain_member({src}, {field.member!r})"
        else:
            return None if kind is None or field.carried is None else self.part(field, kind, row)
        if src == "o" and self.inner is not None and (all_lists := self.lists(field)) is not None:
            self.inner.append((self.name("made"), f"{all_lists}([{read} for o in items])"))
            return self.inner[-1][0]
        return self.value(field.return_type, field.details, read)

    def part(self, field: Field, kind: type, row: str) -> str | None:
        """The object that rows of the class bring along for the field, read from the row itself."""
        view, type_ = view_of(kind, field.carried or ""), get_nullable_type(field.return_type)
        accepted = self.known.types.acceptance(type_)
        if view is None or accepted is None or not is_accepted(view, accepted):
            return None
        src = f"{self.name('view', view)}({row})"
        self.rows[src] = view, row
        self.way = (*self.way, field)
        text, resolved = self.skeleton(self.known.selected(type_, field.details), src)
        if resolved and self.holes is not None and all(hole.batched for hole in resolved):
            box = self.name("box")
            text = f"({box} := {text})"
            self.holes += [Hole(hole, self.way, src, box) for hole in resolved]
            resolved = []
        self.way = self.way[:-1]
        return None if resolved else text

    def lists(self, field: Field) -> str | None:
        """What makes the lists of many objects at once: with short lists the loops take longer than what they do."""
        type_ = get_nullable_type(field.return_type)
        if type_ is field.return_type or not is_list_type(type_) or not is_non_null_type(type_.of_type):
            return None
        many = self.known.many(type_.of_type, field.details)
        return None if many is None else self.name("lists", partial(each_list, many))

    def text(self, field: Field, kind: type, row: str, src: str) -> str | None:
        """The value of a leaf that the row has as text, if it is what the leaf's type would write."""
        assert field.attribute is not None
        item, type_ = written_form(kind, field.attribute), get_nullable_type(field.return_type)
        if item is None or item.kind is None or not self.known.natives.writes(type_, item.kind):
            return None
        nullable = not is_non_null_type(field.return_type)
        read = f"{row}[{item.position}]"
        if item.lengths is None:
            return read if nullable else f"({read} or null())"
        v, lengths, strict = self.name("v"), self.name("n", item.lengths), self.name("s", serialiser(type_, nullable))
        test = f"({v} := {read}) is None or len({v})" if nullable else f"len({v} := {read})"
        return f"({v} if {test} in {lengths} else {strict}({src}.{field.attribute}))"

    def value(self, type_: Any, details: Any, src: str) -> str | None:
        """The completed value of `src`; None when a resolver is needed for it."""
        nullable = not is_non_null_type(type_)
        type_ = get_nullable_type(type_)
        if is_leaf_type(type_):
            return self.leaf(type_, nullable, src)
        v = self.name("v")
        if is_list_type(type_):
            body = self.items(type_.of_type, details, v)
        elif is_object_type(type_) and (accepted := self.known.types.acceptance(type_)) is not None:
            known, accept = self.name("k", accepted[0]), self.name("a", accepted[1])
            body = self.object(self.known.selected(type_, details), v)
            body = body and f"({body} if type({v}) in {known} or {accept}({v}) else None)"
        else:
            body = None
        if body is None:
            return None
        return f"({'None' if nullable else 'null()'} if ({v} := {src}) is None else {body})"

    def items(self, item_type: Any, details: Any, v: str) -> str | None:
        helper, x = self.name("list"), self.name("x")
        item = self.value(item_type, details, x)
        if item is None:
            return None
        self.helpers.append(LOOP.format(name=helper, each=f"{x} in items", value=item))
        one_by_one = f"{helper}(plain_items({v}))"
        inner = get_nullable_type(item_type)
        if inner is item_type or not is_object_type(inner):
            return one_by_one
        loop = self.name("loop", self.known.many(item_type, details))
        return f"({loop}({v}) if type({v}) is list and len({v}) >= {LONG} else {one_by_one})"

    def leaf(self, type_: Any, nullable: bool, src: str) -> str:
        v, strict = self.name("v"), self.name("s", serialiser(type_, nullable))
        first = f"({v} := {src})"
        if type_ is GraphQLString:
            test = f"type{first} is str"
        elif type_ is GraphQLInt:
            test = f"type{first} is int and {INT.format(v=v)}"
        elif type_ is GraphQLBoolean:
            test = f"type{first} is bool"
        elif type_ is GraphQLFloat:
            test = f"type{first} is float and {-LARGEST_FLOAT} <= {v} <= {LARGEST_FLOAT}"
        elif type_ is GraphQLID:
            return self.id(nullable, v, strict, first)
        elif isinstance(type_, GraphQLEnumType):
            return self.enum(type_, nullable, v, strict, src)
        else:
            return self.scalar(type_, nullable, v, strict, first)
        return f"({v} if {test}{f' or {v} is None' if nullable else ''} else {strict}({v}))"

    def id(self, nullable: bool, v: str, strict: str, first: str) -> str:
        uuid, native = self.name("t", UUID), self.known.natives.enabled
        same = f"type{first} is str" + (f" or type({v}) is {uuid}" if native else "")
        null = f" or {v} is None" if nullable else ""
        return f"({v} if {same}{null} else str({v}) if isinstance({v}, {uuid}) else {strict}({v}))"

    def enum(self, type_: Any, nullable: bool, v: str, strict: str, src: str) -> str:
        """Members and their raw values by one look into a table; names are never empty."""
        table: dict[Any, str] = {}
        for member in getattr(type_, "wrapped_cls", ()):
            for value in (member, member.value):
                with suppress(GraphQLError, ValueError, TypeError):  # left to the strict form
                    table[value] = type_.coerce_output_value(value)
        find, null = self.name("m", table.get), "None" if nullable else "null()"
        return f"({null} if ({v} := {src}) is None else {find}({v}) or {strict}({v}))"

    def scalar(self, type_: Any, nullable: bool, v: str, strict: str, first: str) -> str:
        """A custom scalar. Datetimes stay native in UTC only: for these orjson is known to write the same."""
        native = self.known.natives.classes.get(type_.name, set())
        tests = []
        for kind in native:
            test = f"type({v}) is {self.name('t', kind)}"
            tests.append(f"{test} and {v}.tzinfo is {self.name('u', UTC)}" if kind is datetime else test)
        if not tests:
            return f"{strict}({first[1:-1].partition(' := ')[2]})"
        tests[0] = tests[0].replace(f"type({v})", f"type{first}", 1)
        return f"({v} if {' or '.join(tests)}{f' or {v} is None' if nullable else ''} else {strict}({v}))"

    def one(self, fields: Sequence[Field]) -> Callable[[Any], Any]:
        """`f(o)`: one object, null in place of the fields that need their resolver."""
        text, _ = self.skeleton(fields)
        return self._compiled(f"def f(o):\n return {text}")

    def loop(self, fields: Sequence[Field]) -> Callable[[Any], Any]:
        """`f(items)`: the list of the objects made of the items, for which no resolver is needed."""
        self.inner = []
        text, _ = self.skeleton(fields)
        each = "o in items"
        if self.inner:
            names, lists = zip(*self.inner, strict=True)
            each = f"o, {', '.join(names)} in zip(items, {', '.join(lists)})"
        return self._compiled(LOOP.format(name="f", each=each, value=text))

    def level(self, fields: Sequence[Field]) -> tuple[Callable[..., Any], list[Hole]] | None:
        """The same when only fields are left over that are resolved for many objects at once, and these.

        `f(items, object, made, object, made, ...)`: two functions for each hole, called with its object and box.
        """
        self.holes = []
        text, resolved = self.skeleton(fields)
        if not all(field.batched for field in resolved):
            return None
        holes = [*self.holes, *(Hole(field, (), "o", "made") for field in resolved)]
        lines = [f"def f(items, {', '.join(f'object{n}, made{n}' for n in range(len(holes)))}):"]
        lines += [" out = []", " add = out.append", " for o in items:", f"  add((made := {text}))"]
        lines += [f"  object{n}({hole.source})\n  made{n}({hole.box})" for n, hole in enumerate(holes)]
        return self._compiled("\n".join([*lines, " return out"])), holes

    def _compiled(self, text: str) -> Callable[[Any], Any]:
        # Only names made here, Python identifiers of attributes and repr() of keys become source text.
        code, name = "\n".join([*self.helpers, text]), f"<selection {next(NUMBERS)}>"
        exec(compile(code, name, "exec"), self.names)  # noqa: S102
        function: Callable[[Any], Any] = self.names["f"]
        # As long as the function lives, a traceback and a debugger show its lines.
        linecache.cache[name] = len(code), None, code.splitlines(keepends=True), name
        weakref.finalize(function, linecache.cache.pop, name, None).atexit = False
        return function
