"""Lookahead: which fields an operation may ask for below the field that is being resolved."""

from collections.abc import Iterable
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLResolveInfo,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)
from strawberry import Info

from graph.execution.preparing.documents import Operation

Selecting = FieldNode | OperationDefinitionNode

# How many different answers one operation remembers: an operation has few fields that look ahead.
MEMO_SIZE = 256


def selected(info: GraphQLResolveInfo[Any] | Info[Any, Any], *path: str) -> frozenset[str]:
    """GraphQL field names that may be selected below the current field along `path`.

    Fragments and type conditions are looked through and @skip/@include ignored, so this is a superset of what will be
    resolved. A field that occurs twice is followed in all its places. The answer is remembered in the prepared
    operation, found as `info.context.operation`.
    """
    raw: Any = info._raw_info if isinstance(info, Info) else info
    nodes: list[FieldNode] = raw.field_nodes
    memo = getattr(getattr(raw.context, "operation", None), "memo", None)
    if memo is None:
        return _names(_along(nodes, path, raw.fragments), raw.fragments)
    answers = memo.get("lookahead")
    if answers is None:
        answers = memo["lookahead"] = {}
    # Nodes belong to the operation's own tree and live as long as the memo, so identity is a safe key.
    key = (*map(id, nodes), *path)
    names: frozenset[str] | None = answers.get(key)
    if names is None:
        names = _names(_along(nodes, path, raw.fragments), raw.fragments)
        if len(answers) < MEMO_SIZE:
            answers[key] = names
    return names


def at_root(operation: Operation) -> frozenset[str]:
    """The names of the root fields that an operation may ask for, looked through fragments."""
    return _names([operation.definition], operation.fragments)


def _along(
    nodes: Iterable[FieldNode], path: Iterable[str], fragments: dict[str, FragmentDefinitionNode]
) -> list[FieldNode]:
    """The fields at the end of the path."""
    found = list(nodes)
    for name in path:
        found = [child for child in _children(found, fragments) if child.name.value == name]
    return found


def _names(nodes: Iterable[Selecting], fragments: dict[str, FragmentDefinitionNode]) -> frozenset[str]:
    return frozenset(child.name.value for child in _children(nodes, fragments))


def _children(nodes: Iterable[Selecting], fragments: dict[str, FragmentDefinitionNode]) -> list[FieldNode]:
    """The fields directly below, each fragment visited once, so that chained fragments stay linear."""
    children: list[FieldNode] = []
    seen: set[str] = set()
    pending: list[SelectionSetNode] = [node.selection_set for node in nodes if node.selection_set]
    while pending:
        for selection in pending.pop().selections:
            if isinstance(selection, FieldNode):
                children.append(selection)
            elif isinstance(selection, InlineFragmentNode):
                pending.append(selection.selection_set)
            elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in seen:
                seen.add(selection.name.value)
                pending.append(fragments[selection.name.value].selection_set)
    return children
