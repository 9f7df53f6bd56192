"""Valid documents over any schema, for hypothesis.

    @given(documents(schema))
    def test(document: Generated) -> None: ...  # document.text, document.variables

Documents have aliases, repeated fields, named and inline fragments (also spread several times), @skip and @include
with literals and variables, arguments with literals, variables, defaults and omissions. Only what arguments *mean* is
unknown: give strategies for custom scalars, and exclude fields that must not be called.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationType,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_enum_type,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
)
from hypothesis import strategies as st
from strawberry.types.base import StrawberryMaybe, StrawberryOptional

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "Int": st.integers(-100, 100),
    "Float": st.floats(-1e6, 1e6, allow_nan=False),
    "String": TEXT,
    "Boolean": st.booleans(),
    "ID": TEXT | st.integers(0, 99),
    "DateTime": st.datetimes().map(lambda at: at.isoformat() + "Z"),
    "Date": st.dates().map(str),
    "UUID": st.uuids().map(str),
    "Decimal": st.decimals(-1000, 1000, places=2).map(str),
}

INPUT_DEPTH = 3


@dataclass(frozen=True)
class Generated:
    """A document with one operation, and values for its variables."""

    text: str
    variables: dict[str, Any]


class Enum(str):
    """The name of an enum value, which is no string in a literal."""

    __slots__ = ()


@dataclass
class Builder:
    """Draws one document."""

    draw: st.DrawFn
    schema: GraphQLSchema
    scalars: Mapping[str, st.SearchStrategy[Any]]
    exclude: Collection[str]
    fields_left: int
    definitions: list[str] = field(default_factory=list)
    fragments: list[tuple[str, str, int]] = field(default_factory=list)  # name, type, depth
    variables: dict[str, Any] = field(default_factory=dict)
    used: dict[str, set[str]] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        for type_ in self.schema.type_map.values():
            if isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType)):
                for name, definition in type_.fields.items():
                    self.used.setdefault(name, set()).add(str(definition.type))

    def next(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in  # the simplest document has little in it

    def selections(self, type_: Any, depth: int) -> str:
        """A selection set on a composite type, at most `depth` levels deep."""
        parts = []
        for _ in range(self.draw(st.integers(1, 5))):
            part = None
            if depth > 1 and self.chance(5):
                part = self.fragment(type_, depth)
            if part is None:
                part = self.field(type_, depth)
            if part:
                parts.append(part)
        return "{ " + " ".join(parts or ["__typename"]) + " }"

    def field(self, type_: Any, depth: int) -> str | None:
        self.fields_left -= 1
        names = self.possible_fields(type_, depth) if self.fields_left > 0 else []
        if not names or self.chance(12):
            return "__typename" + self.directives()
        name = self.draw(st.sampled_from(names))
        definition = type_.fields[name]
        arguments = self.arguments(definition)
        if arguments is None:
            return None
        if arguments:
            key = self.next("f") + ": "
        elif len(self.used[name]) > 1:  # types differ: such fields must not share a response key
            key = f"{name}_{type_.name}: "
        else:
            key = f"{self.next('a')}: " if self.chance(8) else ""
        inner = get_named_type(definition.type)
        below = " " + self.selections(inner, depth - 1) if is_composite_type(inner) else ""
        return f"{key}{name}{arguments}{self.directives()}{below}"

    def possible_fields(self, type_: Any, depth: int) -> list[str]:
        if isinstance(type_, GraphQLUnionType):
            return []
        return [
            name
            for name, definition in type_.fields.items()
            if f"{type_.name}.{name}" not in self.exclude
            and (depth > 1 or not is_composite_type(get_named_type(definition.type)))
            and all(self.can_give(argument) for argument in definition.args.values() if is_required_argument(argument))
        ]

    def fragment(self, type_: Any, depth: int) -> str | None:
        """An inline fragment, a new named one, or one more spread of a known one; on any type that can apply."""
        self.fields_left -= 1
        candidates: list[GraphQLNamedType] = [type_]
        if is_abstract_type(type_):
            candidates += self.schema.get_possible_types(type_)
        if isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType)):
            candidates += type_.interfaces
        known = [name for name, on, deep in self.fragments if deep <= depth and on in {c.name for c in candidates}]
        if known and self.chance(2):
            return f"...{self.draw(st.sampled_from(known))}{self.directives()}"
        on = self.draw(st.sampled_from(candidates))
        if self.chance(2):
            condition = "" if on is type_ and self.chance(2) else f" on {on.name}"
            return f"...{condition}{self.directives()} {self.selections(on, depth - 1)}"
        directives, name = self.directives(), self.next("F")
        self.definitions.append(f"fragment {name} on {on.name} {self.selections(on, depth - 1)}")
        self.fragments.append((name, on.name, depth))
        return f"...{name}{directives}"

    def directives(self) -> str:
        if not self.chance(8):
            return ""
        value = self.draw(st.booleans())
        text = self.variable("Boolean!", value) if self.chance(2) else json.dumps(value)
        return f" @{self.draw(st.sampled_from(['skip', 'include']))}(if: {text})"

    def variable(self, type_: str, value: Any, default: str = "") -> str:
        name = self.next("v")
        self.definitions.append(f"${name}: {type_}{default}")
        if value is not Undefined:
            self.variables[name] = value
        return f"${name}"

    def can_give(self, argument: GraphQLArgument | GraphQLInputField) -> bool:
        named = get_named_type(argument.type)
        return is_enum_type(named) or is_input_object_type(named) or named.name in self.scalars

    def arguments(self, definition: GraphQLField) -> str | None:
        parts = []
        for name, argument in definition.args.items():
            required = is_required_argument(argument)
            if not self.can_give(argument) or (not required and self.chance(2)):
                continue
            parts.append(f"{name}: {self.argument(argument)}")
        return f"({', '.join(parts)})" if parts else ""

    def argument(self, argument: GraphQLArgument) -> str:
        value = self.value(argument.type, INPUT_DEPTH)
        if not self.chance(3):
            return literal(value)
        plain = json.loads(json.dumps(value))
        nullable = not is_non_null_type(argument.type)
        if nullable and self.chance(3):
            default = f" = {literal(value)}" if self.chance(2) else ""
            return self.variable(str(argument.type), plain if self.chance(2) else Undefined, default)
        return self.variable(str(argument.type), plain)

    def value(self, type_: Any, depth: int) -> Any:
        if not is_non_null_type(type_) and self.chance(10):
            return None
        type_ = get_nullable_type(type_)
        if is_list_type(type_):
            return [self.value(type_.of_type, depth) for _ in range(self.draw(st.integers(0, 2)))]
        if isinstance(type_, GraphQLEnumType):
            return Enum(self.draw(st.sampled_from(sorted(type_.values))))
        if not is_input_object_type(type_):
            return self.draw(self.scalars[type_.name])
        given = {name: f for name, f in type_.fields.items() if self.can_give(f)}
        if type_.is_one_of or getattr(type_.extensions.get("strawberry-definition"), "is_one_of", False):
            name = self.draw(st.sampled_from(sorted(given)))
            return {name: self.value_not_null(given[name].type, depth - 1)}
        made = {}
        for name, input_field in given.items():
            required = is_non_null_type(input_field.type) and input_field.default_value is Undefined
            required = required and getattr(input_field, "default", None) is None
            if required or (depth > 0 and self.chance(2)):
                value = self.value if may_be_null(input_field) else self.value_not_null
                made[name] = value(input_field.type, depth - 1)
        return made

    def value_not_null(self, type_: Any, depth: int) -> Any:
        value = None
        while value is None:
            value = self.value(type_, depth)
        return value


def may_be_null(input_field: GraphQLInputField) -> bool:
    """Strawberry has nullable fields that may be absent but must not be null: `Maybe[T]` without `None`."""
    type_ = getattr((input_field.extensions or {}).get("strawberry-definition"), "type", None)
    return not isinstance(type_, StrawberryMaybe) or isinstance(type_.of_type, StrawberryOptional)


def literal(value: Any) -> str:
    """A value as it stands in a document."""
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value)


@st.composite
def documents(
    draw: st.DrawFn,
    schema: GraphQLSchema,
    *,
    kind: OperationType = OperationType.QUERY,
    depth: int = 5,
    fields: int = 40,
    exclude: Collection[str] = (),
    scalars: Mapping[str, st.SearchStrategy[Any]] | None = None,
) -> Generated:
    """One valid operation: at most about `fields` fields, `depth` levels; `exclude` names fields as `Type.field`."""
    root = schema.get_root_type(kind)
    assert root is not None
    builder = Builder(draw, schema, {**SCALARS, **(scalars or {})}, exclude, fields)
    body = builder.selections(root, depth)
    declared = [definition for definition in builder.definitions if definition.startswith("$")]
    fragments = [definition for definition in builder.definitions if not definition.startswith("$")]
    head = f"{kind.value} Generated" + (f"({', '.join(declared)})" if declared else "")
    return Generated("\n".join([f"{head} {body}", *fragments]), builder.variables)
