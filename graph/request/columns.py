"""Rows of entities for the fields that return them: only the columns that are selected, many in one statement."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from graphql import GraphQLType, get_named_type, is_non_null_type

from graph.execution.preparing.lookahead import selected
from graph.request.context import Info
from graph.request.refusals import vanished
from graph.types.naming import camel
from persistence.models import Base
from persistence.nodes import open_by_ids

T = TypeVar("T")

MEMO_SIZE = 256
"""What one operation remembers of its fields. It has fewer of those that look at their selection."""


def place_of(info: Info) -> Hashable:
    """The current field by its place: the same for its siblings and in every request, another for any other field.

    A node in the text belongs to all the types that an interface's selection is for: the parent type tells them apart.
    """
    raw = info._raw_info
    nodes = raw.field_nodes
    parent = raw.parent_type.name
    return (parent, id(nodes[0])) if len(nodes) == 1 else (parent, *map(id, nodes))


def once_per_field(info: Info, purpose: str, compute: Callable[[], T]) -> T:
    """What follows from the text of the operation alone is computed once and kept with the prepared operation."""
    memo: dict[Any, T] = info.context.memo
    key = (purpose, place_of(info))
    try:
        return memo[key]
    except KeyError:
        value = compute()
        if len(memo) < MEMO_SIZE:
            memo[key] = value
        return value


def columns_of(kind: type, names: frozenset[str]) -> frozenset[str]:
    """The columns of a type that a selection of its fields needs; the id is always among them."""
    columns = {"id"}
    for name, needed in _columns(kind).items():
        if name in names:
            columns.update(needed)
    return frozenset(columns)


@cache
def _columns(kind: type) -> dict[str, tuple[str, ...]]:
    """The columns that each field of a type needs."""
    fields = kind.__strawberry_definition__.fields  # type: ignore[attr-defined]  # set by @strawberry.type
    return {
        field.graphql_name or camel(field.python_name): (field.python_name,)
        if field.is_basic_field
        else tuple(field.metadata.get("needs", ()))
        for field in fields
    }


def columns_at(info: Info, kind: type, *paths: tuple[str, ...]) -> frozenset[str]:
    """The columns needed for what is selected of an entity at some paths below the current field.

    A to-one field that is declared with `joins` rides along: the columns of what it leads to are named
    `owner.name`, and are read by the same statement.
    """
    names = frozenset[str]().union(*(selected(info, *path) for path in paths))
    columns = columns_of(kind, names)
    type_name = kind.__strawberry_definition__.name  # type: ignore[attr-defined]
    for field in kind.__strawberry_definition__.fields:  # type: ignore[attr-defined]
        relation = field.metadata.get("joins")
        if relation and field.python_name in names:
            owner: Any = info._raw_info.schema.get_type(type_name)
            target = _kind(owner.fields[field.python_name].type)
            below = frozenset[str]().union(*(selected(info, *path, field.python_name) for path in paths))
            columns |= {f"{relation}.{column}" for column in columns_of(target, below)}
    return columns


def selected_columns(info: Info) -> frozenset[str]:
    """The columns needed for what is selected of the entity that the current field returns."""
    return once_per_field(info, "columns", lambda: columns_at(info, _kind(info._raw_info.return_type), ()))


@cache
def _kind(return_type: GraphQLType) -> type:
    kind: type = get_named_type(return_type).extensions["strawberry-definition"].origin
    return kind


def joined(row: Any, relation: str) -> Any:
    """What a to-one field leads to, when it came along with the row; otherwise None."""
    return getattr(row, f"{relation}_row", None)


def load(info: Info, model: type[Base], id: UUID) -> Any:
    """The row of a to-one field: loaded for all its siblings in one statement, with the columns they select.

    The caller has made sure that the viewer may see it. A row that is gone meanwhile loads None. Where the field has to
    lead somewhere, what it belongs to is gone with it: the answer has null in its place, and `vanished` says why.
    """
    context, columns = info.context, selected_columns(info)
    required = is_non_null_type(info._raw_info.return_type)

    async def fetch(ids: Sequence[UUID]) -> Mapping[UUID, Any]:
        rows = await context.session.fetch(open_by_ids(model, columns), {"ids": ids})
        found: dict[UUID, Any] = {row.id: row for row in rows}
        if required:
            found |= {id: vanished(model.__entity__) for id in ids if id not in found}
        return found

    return context.loaders.get((model, columns, required), fetch).load(id)
