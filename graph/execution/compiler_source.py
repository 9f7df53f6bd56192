"""Python source for selections that need no resolver: one dict display for an object, one loop for a list.

The code is optimistic. Each value is tested for being what the schema says, in the cheapest way; what is not goes to
a strict serialiser, and what that does not accept raises. Nothing was changed until then, so the caller can let
graphql-core complete the same position from the start: errors, null propagation and odd values stay its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, cast
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

from graph.execution.compiler_values import (
    ORDINARY,
    Surprise,
    ordinary,
    plain_items,
    plain_member,
    position_of,
    row_of,
    written_form,
)

if TYPE_CHECKING:
    from graph.execution.compiler import Compiler
    from graph.execution.compiler_plans import ObjectPlan

LARGEST_FLOAT = 1.7976931348623157e308
INT = "-2147483648 <= {v} <= 2147483647"  # GraphQL, section 3.5.1

# From this length on it pays to look at the classes of all items first, and to read rows by position.
LONG = 5

LOOP = "def {name}(items):\n out = []\n add = out.append\n for {item} in items:\n  add({value})\n return out"


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


class Source:
    """The source of one generated function and the names that it uses."""

    def __init__(self, compiler: Compiler, kind: type | None = None) -> None:
        """`kind` is the class of the objects, when the code is for one class of rows only."""
        self.compiler, self.kind = compiler, kind
        self.names: dict[str, Any] = {
            "ORDINARY": ORDINARY,
            "ordinary": ordinary,
            "plain_items": plain_items,
            "plain_member": plain_member,
            "null": unexpected_null,
        }
        self.helpers: list[str] = []
        self.count = 0

    def name(self, prefix: str, value: Any = None) -> str:
        """A new name, bound to the value when there is one."""
        self.count += 1
        name = f"{prefix}{self.count}"
        if value is not None:
            self.names[name] = value
        return name

    def object(self, plan: ObjectPlan, src: str) -> str | None:
        """The object that the selection of the plan makes of `src`; None when a resolver is needed for it."""
        parts = []
        for field in plan.fields:
            value = self.field(field, src)
            if value is None:
                return None
            parts.append(f"{field.key!r}: {value}")
        return "{" + ", ".join(parts) + "}"

    def skeleton(self, plan: ObjectPlan) -> tuple[str, list[Any]]:
        """The same with null for each field that needs its resolver, and these fields."""
        parts, resolved = [], []
        for field in plan.fields:
            value = self.field(field, "o")
            if value is None:
                resolved.append(field)
            parts.append(f"{field.key!r}: {value}")
        return "{" + ", ".join(parts) + "}", resolved

    def field(self, field: Any, src: str) -> str | None:
        if field.constant is not None:
            return repr(field.constant)
        if field.attribute is not None:
            if self.kind is not None and src == "o" and (text := self.text(field)) is not None:
                return text
            index = position_of(self.kind, field.attribute) if self.kind is not None and src == "o" else None
            read = f"{src}.{field.attribute}" if index is None else f"{row_of(cast('type', self.kind))}[{index}]"
        elif field.member is not None:
            read = f"plain_member({src}, {field.member!r})"
        else:
            return None
        return self.value(field.return_type, field.details, read)

    def text(self, field: Any) -> str | None:
        """The value of a leaf that the row has as text, if it is what the leaf's type would write."""
        getter, type_ = written_form(cast("type", self.kind), field.attribute), get_nullable_type(field.return_type)
        if getter is None or not self.compiler.natives.writes(type_, getter.kind):
            return None
        nullable = not is_non_null_type(field.return_type)
        read = f"{row_of(cast('type', self.kind))}[{getter.position}]"
        if getter.lengths is None:
            return read if nullable else f"({read} or null())"
        v, lengths, strict = self.name("v"), self.name("n", getter.lengths), self.name("s", serialiser(type_, nullable))
        test = f"({v} := {read}) is None or len({v})" if nullable else f"len({v} := {read})"
        return f"({v} if {test} in {lengths} else {strict}(o.{field.attribute}))"

    def value(self, type_: Any, details: Any, src: str) -> str | None:
        """The completed value of `src`; None when a resolver is needed for it."""
        nullable = not is_non_null_type(type_)
        type_ = get_nullable_type(type_)
        if is_leaf_type(type_):
            return self.leaf(type_, nullable, src)
        v = self.name("v")
        if is_list_type(type_):
            body = self.list(type_.of_type, details, v)
        elif is_object_type(type_) and (accepted := self.compiler.types.acceptance(type_)) is not None:
            known, accept = self.name("k", accepted[0]), self.name("a", accepted[1])
            body = self.object(self.compiler.subplan(type_, details), v)
            body = body and f"({body} if type({v}) in {known} or {accept}({v}) else None)"
        else:
            body = None
        if body is None:
            return None
        return f"({'None' if nullable else 'null()'} if ({v} := {src}) is None else {body})"

    def list(self, item_type: Any, details: Any, v: str) -> str | None:
        helper, x = self.name("list"), self.name("x")
        item = self.value(item_type, details, x)
        if item is None:
            return None
        self.helpers.append(LOOP.format(name=helper, item=x, value=item))
        one_by_one = f"{helper}(plain_items({v}))"
        inner = get_nullable_type(item_type)
        if inner is item_type or not is_object_type(inner):
            return one_by_one
        loop = self.name("loop", self.compiler.many(item_type, details))
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
        uuid, native = self.name("t", UUID), self.compiler.natives.enabled
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
        native = self.compiler.natives.classes.get(type_.name, set())
        tests = []
        for kind in native:
            test = f"type({v}) is {self.name('t', kind)}"
            tests.append(f"{test} and {v}.tzinfo is {self.name('u', UTC)}" if kind is datetime else test)
        if not tests:
            return f"{strict}({first[1:-1].partition(' := ')[2]})"
        tests[0] = tests[0].replace(f"type({v})", f"type{first}", 1)
        return f"({v} if {' or '.join(tests)}{f' or {v} is None' if nullable else ''} else {strict}({v}))"

    def function(self, expression: str) -> Callable[[Any], Any]:
        """`f(o)`: the value of the expression for one object."""
        return self._compiled(f"def f(o):\n return {expression}")

    def loop(self, expression: str) -> Callable[[Any], Any]:
        """`f(items)`: the list of the values of the expression for each object."""
        return self._compiled(
            f"def f(items):\n out = []\n add = out.append\n for o in items:\n  add({expression})\n return out"
        )

    def _compiled(self, text: str) -> Callable[[Any], Any]:
        # Only names made here, Python identifiers of attributes and repr() of keys become source text.
        exec(compile("\n".join([*self.helpers, text]), "<selection>", "exec"), self.names)  # noqa: S102
        function: Callable[[Any], Any] = self.names["f"]
        return function
