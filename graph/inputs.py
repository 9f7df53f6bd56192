"""Input objects: how their values become Python's, and what null means in them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import strawberry
from graphql import GraphQLInputObjectType
from strawberry.types.arguments import InputContext
from strawberry.types.base import StrawberryMaybe, StrawberryOptional

from graph.errors import bad_input


def refuse_nulls(schema: strawberry.Schema) -> None:
    """Let every input object of a schema refuse a null that says nothing, and name the field.

    A `Maybe` that takes no null is nullable in SDL, because it may be absent. Strawberry notices the null late and
    says so in the words of its Python types.
    """
    for kind in schema._schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            kind.extensions["strawberry-definition"].from_input = converted


def converted(kind: type, values: Mapping[str, Any], context: InputContext) -> Any:
    """An input object from its fields by their GraphQL names. Raises `RequestError` (BAD_USER_INPUT)."""
    arguments = {}
    for name, python_name, type_, takes_null in fields_of(kind, context):
        if name in values:
            value = values[name]
            if value is None and not takes_null:
                path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*context.path, name))
                raise bad_input(f"{path[1:]}: null is not a value of this field; leave it out instead.")
            arguments[python_name] = context.convert(value, type_, name)
    return kind(**arguments)


# It needs no info, so siblings may share what it makes; and it hands on the leaves as they are (`graph.execution`).
converted.by_value = converted.by_structure = True  # type: ignore[attr-defined]


def fields_of(kind: Any, context: InputContext) -> list[tuple[str, str, Any, bool]]:
    """The fields of an input type: GraphQL name, Python name, type, and whether null is a value of it."""
    return _fields_of(kind, context.config.name_converter)


@cache
def _fields_of(kind: Any, names: Any) -> list[tuple[str, str, Any, bool]]:
    definition = kind.__strawberry_definition__
    found = []
    for field in definition.fields:
        type_ = field.resolve_type(type_definition=definition)
        takes_null = not isinstance(type_, StrawberryMaybe) or isinstance(type_.of_type, StrawberryOptional)
        found.append((names.from_field(field), field.python_name, type_, takes_null))
    return found
