"""Input objects: how their values become Python's, and what null means in them."""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import cache
from typing import Any

import strawberry
from graphql import GraphQLInputObjectType, Undefined
from strawberry.types.arguments import InputContext, _is_leaf_type
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional

from graph.request.refusals import bad_argument
from graph.types.naming import camel
from persistence.rules.errors import Problem

WRITES, ABSENT = "graph.writes", "graph.null_is_absent"
"""In the metadata of a field of what a mutation takes, and of one for which null says as much as its absence."""


class Null(Enum):
    """What a null means to a field of an input object."""

    TAKEN = auto()
    ABSENT = auto()
    """Clients that are generated send null for what is not given when something is made."""
    TOLD = auto()
    """It is an error of the payload, with its path: `refused_nulls`."""
    REFUSED = auto()
    """It refuses the request."""


def refused_nulls(input: Any) -> list[Problem]:
    """The nulls of a mutation's input where none can be."""
    kind: Any = type(input)
    return [
        Problem("NULL_NOT_ALLOWED", f"{camel(name)} cannot be null; leave it out instead.", (name,))
        for name in maybes(kind)
        if (value := getattr(input, name)) is not None and value.value is None
    ]


@cache
def maybes(kind: Any) -> tuple[str, ...]:
    """The fields of an input object that may be absent and take no null."""
    definition = kind.__strawberry_definition__
    types = [(field, field.resolve_type(type_definition=definition)) for field in definition.fields]
    return tuple(field.python_name for field, type_ in types if meaning_of_null(field, type_) is Null.TOLD)


def meaning_of_null(field: Any, type_: Any) -> Null:
    if ABSENT in field.metadata:
        return Null.ABSENT
    if not isinstance(type_, StrawberryMaybe) or isinstance(type_.of_type, StrawberryOptional):
        return Null.TAKEN
    return Null.TOLD if WRITES in field.metadata else Null.REFUSED


def refuse_nulls(schema: strawberry.Schema) -> None:
    """Let every input object of a schema refuse a null that says nothing, and name the field.

    A `Maybe` that takes no null is nullable in SDL, because it may be absent. Strawberry notices the null late and
    says so in the words of its Python types.
    """
    for kind in schema._schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            definition = kind.extensions["strawberry-definition"]
            definition.from_input = converter(definition, schema)


def forget_null_defaults(schema: strawberry.Schema) -> None:
    """Take the default null away from every argument and input field: it says no more than that it may be absent."""
    for kind in schema._schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            given: list[Any] = list(kind.fields.values())
        else:
            given = [argument for field in getattr(kind, "fields", {}).values() for argument in field.args.values()]
        for each in given:
            if each.default_value is None:
                each.default_value = Undefined


def converter(definition: Any, schema: strawberry.Schema) -> Callable[[Any, Mapping[str, Any], InputContext], Any]:
    """What makes an input object from its fields by their GraphQL names. It raises `RequestError` (BAD_USER_INPUT)."""
    fields = []
    for field in definition.fields:
        type_ = field.resolve_type(type_definition=definition)
        convert = conversion(type_, schema.schema_converter.scalar_registry)
        name = schema.config.name_converter.from_field(field)
        fields.append((name, field.python_name, type_, meaning_of_null(field, type_), convert))

    def converted(kind: Any, values: Mapping[str, Any], context: InputContext) -> Any:
        arguments: dict[str, Any] = {}
        for name, python_name, type_, null, convert in fields:
            if name in values:
                value = values[name]
                if value is None and null is not Null.TAKEN:
                    if null is Null.ABSENT:
                        continue
                    if null is Null.TOLD:
                        arguments[python_name] = strawberry.Some(None)
                        continue
                    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*context.path, name))
                    raise bad_argument(path[1:], "null is not a value of this field; leave it out instead.")
                arguments[python_name] = convert(value) if convert else context.convert(value, type_, name)
        return kind(**arguments)

    # It needs no info, so siblings may share what it makes; and it hands on the leaves as they are (`graph.execution`).
    converted.by_value = converted.by_structure = True  # type: ignore[attr-defined]
    return converted


def conversion(type_: Any, scalars: Mapping[Any, Any]) -> Callable[[Any], Any] | None:
    """What `InputContext.convert` does with scalars, enumerations and lists of them; None: of other types.

    It finds out with each value what its type is, which takes ten times as long.
    """
    if isinstance(type_, StrawberryMaybe):
        convert = conversion(type_.of_type, scalars)
        if convert is as_it_is:
            return strawberry.Some
        return None if convert is None else lambda value: strawberry.Some(convert(value))
    if isinstance(type_, StrawberryOptional):
        return conversion(type_.of_type, scalars)
    if isinstance(type_, StrawberryList):
        return as_list if _is_leaf_type(type_.of_type, scalars) else None
    return as_it_is if _is_leaf_type(type_, scalars) else None


def as_it_is(value: Any) -> Any:
    return value


def as_list(value: Any) -> Any:
    return None if value is None else list(value)
