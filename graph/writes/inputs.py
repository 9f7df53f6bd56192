"""Input objects: how their values become Python's, and what null means in them."""

from collections.abc import Callable, Mapping
from typing import Any

import strawberry
from graphql import GraphQLInputObjectType, Undefined
from strawberry.types.arguments import InputContext, _is_leaf_type
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional

from graph.request.refusals import bad_argument


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
        takes_null = not isinstance(type_, StrawberryMaybe) or isinstance(type_.of_type, StrawberryOptional)
        convert = conversion(type_, schema.schema_converter.scalar_registry)
        fields.append((schema.config.name_converter.from_field(field), field.python_name, type_, takes_null, convert))

    def converted(kind: Any, values: Mapping[str, Any], context: InputContext) -> Any:
        arguments = {}
        for name, python_name, type_, takes_null, convert in fields:
            if name in values:
                value = values[name]
                if value is None and not takes_null:
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
