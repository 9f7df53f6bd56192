"""Values of variables: the signatures of an operation are made once, and ordinary values take the short way."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, cast

from graphql import GraphQLError, GraphQLSchema, Undefined, get_nullable_type
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import (
    VariableValues,
    VariableValueSource,
    get_variable_values,
    input_is_nested_too_deeply,
)
from graphql.language.parser import MAX_NESTING_DEPTH
from graphql.utilities.coerce_input_value import coerce_default_value

from graph.execution.errors import BAD_USER_INPUT, coded
from graph.execution.preparing.coercion import Coerce, Odd, coercer, nesting
from graph.execution.preparing.documents import Operation

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


Signatures = list[tuple[GraphQLVariableSignature, Coerce, bool, bool]]
"""Each variable, what coerces its values, whether it may be null, and whether it can be nested too deeply."""


def _signatures(schema: GraphQLSchema, operation: Operation) -> Signatures:
    known: Signatures | None = operation.memo.get("variables")
    if known is None:
        known = []
        for node in operation.variables:
            signature = get_variable_signature(schema, node)
            if isinstance(signature, GraphQLError):
                raise Odd
            type_ = get_nullable_type(signature.type)
            known.append((signature, coercer(type_), type_ is signature.type, nesting(type_) > MAX_NESTING_DEPTH))
        operation.memo["variables"] = known
    return known


def _coerced(signatures: Signatures, inputs: Mapping[str, Any]) -> VariableValues:
    """The same as graphql-core's `coerce_variable_values` for values that fit; raises for others."""
    sources: dict[str, VariableValueSource] = {}
    values: dict[str, Any] = {}
    for signature, coerce, nulls, is_deep in signatures:
        name = signature.name
        value = inputs.get(name, Undefined)
        if value is Undefined:
            sources[name] = VariableValueSource(signature)
            if signature.default is not None:
                value = coerce_default_value(signature)
                if type(value) not in SHARED:  # graphql-core remembers it in the signature, which outlives the request
                    raise Odd
                values[name] = value
            elif not nulls:
                raise Odd
        else:
            sources[name] = VariableValueSource(signature, value)
            if value is not None:
                if is_deep and input_is_nested_too_deeply(value, signature.type):
                    raise Odd
                values[name] = coerce(value)
            elif nulls:
                values[name] = None
            else:
                raise Odd
    return VariableValues(sources, values)
