"""Walking down the selections of an operation: their types, and under which conditions they are there."""

from typing import Any

from graphql import (
    BooleanValueNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLSchema,
    SelectionSetNode,
    VariableNode,
    is_composite_type,
)

from graph.execution.preparing.documents import Operation

# What must hold for a field to be included: variables and the values they need to have, all of them.
Condition = frozenset[tuple[str, bool]]
ALWAYS: Condition = frozenset()


def condition_of(node: Any, condition: Condition) -> Condition | None:
    """What must hold for a node below others to be included, or None when it never is."""
    for directive in node.directives or ():
        name = directive.name.value
        if name not in ("skip", "include") or not directive.arguments:
            continue
        wanted, value = name == "include", directive.arguments[0].value
        if isinstance(value, BooleanValueNode):
            if value.value is not wanted:
                return None
        elif isinstance(value, VariableNode):
            condition |= {(value.name.value, wanted)}
    return condition


def definition_of(schema: GraphQLSchema, parent: GraphQLNamedType, name: str) -> GraphQLField | None:
    """What the schema says of a field of a type, if it has one of that name."""
    return schema.get_field(parent, name) if is_composite_type(parent) else None


def unfolded(
    schema: GraphQLSchema, operation: Operation, parent: GraphQLNamedType, node: Any
) -> tuple[GraphQLNamedType, SelectionSetNode]:
    """The selections of a fragment, inline or spread in those of a type, and the type that they are of."""
    fragment = operation.fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
    condition = fragment.type_condition
    kind = (schema.get_type(condition.name.value) or parent) if condition else parent
    return kind, fragment.selection_set
