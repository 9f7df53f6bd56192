"""Values of variables: the signatures of an operation are made once, and ordinary values take the short way."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, cast

from graphql import (
    GraphQLError,
    GraphQLID,
    GraphQLSchema,
    GraphQLString,
    Undefined,
    get_nullable_type,
    is_leaf_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import (
    VariableValues,
    VariableValueSource,
    get_variable_values,
    input_is_nested_too_deeply,
)
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_value

from graph.execution.documents import Operation
from graph.execution.errors import BAD_USER_INPUT, coded

MAX_ERRORS = 50

# Defaults of these classes may be shared between requests.
SHARED = {NoneType, bool, int, float, str}


def coerced(
    schema: GraphQLSchema, operation: Operation, inputs: Mapping[str, Any] | None, hide_suggestions: bool
) -> VariableValues | list[GraphQLError]:
    """The variables of a request as resolvers get them, or what is wrong with them (BAD_USER_INPUT)."""
    given = inputs or {}
    try:
        return _coerced(_signatures(schema, operation), given)
    except Exception:  # noqa: S110  # whatever a scalar or input type raises, graphql-core finds it again and words it
        pass
    values = get_variable_values(
        schema, operation.variables, cast("dict[str, Any]", given), MAX_ERRORS, hide_suggestions
    )
    return [coded(error, BAD_USER_INPUT) for error in values] if isinstance(values, list) else values


class _Wrong(Exception):
    pass


Signatures = list[tuple[GraphQLVariableSignature, bool, bool]]
"""Each variable, whether its type is that of a single scalar or enum, and whether a text is such a value as it is."""


def _signatures(schema: GraphQLSchema, operation: Operation) -> Signatures:
    known: Signatures | None = operation.memo.get("variables")
    if known is None:
        known = []
        for node in operation.variables:
            signature = get_variable_signature(schema, node)
            if isinstance(signature, GraphQLError):
                raise _Wrong
            type_ = get_nullable_type(signature.type)
            known.append((signature, is_leaf_type(type_), type_ in (GraphQLString, GraphQLID)))
        operation.memo["variables"] = known
    return known


def _coerced(signatures: Signatures, inputs: Mapping[str, Any]) -> VariableValues:
    """The same as graphql-core's `coerce_variable_values` for values that fit; raises `_Wrong` for others."""
    sources: dict[str, VariableValueSource] = {}
    values: dict[str, Any] = {}
    for signature, is_leaf, is_text in signatures:
        name = signature.name
        value = inputs.get(name, Undefined)
        if value is Undefined:
            sources[name] = VariableValueSource(signature)
            if signature.default is not None:
                value = coerce_default_value(signature)
                if type(value) not in SHARED:  # graphql-core remembers it in the signature, which outlives the request
                    raise _Wrong
            elif is_non_null_type(signature.type):
                raise _Wrong
        else:
            sources[name] = VariableValueSource(signature, value)
            if is_text and type(value) is str:
                values[name] = value
                continue
            if not is_leaf and input_is_nested_too_deeply(value, signature.type):
                raise _Wrong
            value = coerce_input_value(value, signature.type)
            if value is Undefined:
                raise _Wrong
        if value is not Undefined:
            values[name] = value
    return VariableValues(sources, values)
