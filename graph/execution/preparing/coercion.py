"""Coercion of input values by functions that are made once for each type.

graphql-core asks again with every value what its type is: 10 us for an input of six fields instead of 2. The functions
take values in their ordinary form, as JSON has them, and raise for everything else (`Odd`, or what a scalar raises):
then graphql-core coerces the value, or words what is wrong with it.
"""

from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLID,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLString,
    Undefined,
    get_nullable_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.utilities.coerce_input_value import coerce_default_value
from strawberry.schema.schema_converter import CustomGraphQLEnumType

from graph.execution.values import IMMUTABLE

Coerce = Callable[[Any], Any]
"""The value as resolvers get it; null and absent values are the caller's to know."""

# A single value may stand for a list of one. Others are no JSON.
SINGLE = {bool, int, float, str, dict}


class Odd(Exception):
    """The value has another form than most, or is wrong."""


def coercer(type_: Any) -> Coerce:
    """What coerces the values of a type that are not null. The type is one without `!`."""
    # Each document has list types of its own, which would push those of the schema out of the cache.
    return of_list(type_) if isinstance(type_, GraphQLList) else of_named(type_)


@lru_cache(1_024)
def of_named(type_: Any) -> Coerce:
    if isinstance(type_, GraphQLInputObjectType):
        return of_object(type_)
    if type_ in (GraphQLString, GraphQLID):
        return text
    if type(type_) in (GraphQLEnumType, CustomGraphQLEnumType):
        values = {name: type_.coerce_input_value(name) for name in type_.values}
        if all(isinstance(value, IMMUTABLE) for value in values.values()):
            return values.__getitem__
    return of_leaf(type_)


def text(value: Any) -> str:
    if type(value) is not str:
        raise Odd
    return value


def of_leaf(type_: Any) -> Coerce:
    def coerce(value: Any) -> Any:
        result = Undefined if value is Undefined else type_.coerce_input_value(value)
        if result is Undefined:
            raise Odd
        return result

    return coerce


def of_list(type_: Any) -> Coerce:
    coerce_item = coercer(get_nullable_type(type_.of_type))
    nulls = not is_non_null_type(type_.of_type)

    def coerce(value: Any) -> list[Any]:
        if type(value) is not list:
            if type(value) not in SINGLE:
                raise Odd
            value = [value]
        if None in value:
            if not nulls:
                raise Odd
            return [None if item is None else coerce_item(item) for item in value]
        return [coerce_item(item) for item in value]

    return coerce


def of_object(type_: GraphQLInputObjectType) -> Coerce:
    fields: list[tuple[str, str, Coerce, bool, bool, Any]] = []
    make = None if type_.out_type is GraphQLInputObjectType.out_type else type_.out_type

    def coerce(given: Any) -> Any:
        if type(given) is not dict or type_.is_one_of:
            raise Odd
        if not fields:  # not before: a type may have fields of its own kind
            for name, field in type_.fields.items():
                nullable = get_nullable_type(field.type)
                default = field if field.default is not None or field.default_value is not Undefined else None
                known = coercer(nullable), nullable is field.type, is_required_input_field(field), default
                fields.append((name, field.out_name or name, *known))
        left = len(given)
        values = {}
        for name, out_name, coerce_value, nulls, is_required, default in fields:
            if name in given:
                left -= 1
                value = given[name]
                if value is not None:
                    values[out_name] = coerce_value(value)
                elif nulls:
                    values[out_name] = None
                else:
                    raise Odd
            elif is_required:
                raise Odd
            elif default is not None:
                values[out_name] = coerce_default_value(default)
        if left:  # a field that there is not
            raise Odd
        return values if make is None else make(values)

    return coerce


def nesting(type_: Any, known: dict[Any, float] | None = None) -> float:
    """How deep lists and objects can be in each other in values of a type; infinite where it contains itself."""
    known = {} if known is None else known
    type_ = get_nullable_type(type_)
    if isinstance(type_, GraphQLList):
        return 1 + nesting(type_.of_type, known)
    if not isinstance(type_, GraphQLInputObjectType):
        return 0
    if type_ not in known:
        known[type_] = inf
        known[type_] = 1 + max((nesting(field.type, known) for field in type_.fields.values()), default=0)
    return known[type_]
