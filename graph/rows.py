"""Rows of entities for the fields that return them: only the columns that are selected, many in one statement."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from graphql import GraphQLType, get_named_type

from graph.context import Info
from graph.execution.lookahead import selected
from graph.naming import camel
from persistence.models import Base
from persistence.reading import by_ids


@cache
def columns_of(kind: type, names: frozenset[str]) -> frozenset[str]:
    """The columns of a type that a selection of its fields needs; the id is always among them."""
    columns = {"id"}
    for field in kind.__strawberry_definition__.fields:  # type: ignore[attr-defined]  # set by @strawberry.type
        if (field.graphql_name or camel(field.python_name)) in names:
            columns.update((field.python_name,) if field.is_basic_field else field.metadata.get("needs", ()))
    return frozenset(columns)


def selected_columns(info: Info, *path: str) -> frozenset[str]:
    """The columns needed for what is selected of the entity that the current field returns."""
    return columns_of(_kind(info._raw_info.return_type), selected(info, *path))


@cache
def _kind(return_type: GraphQLType) -> type:
    kind: type = get_named_type(return_type).extensions["strawberry-definition"].origin
    return kind


def load(info: Info, model: type[Base], id: UUID) -> Any:
    """The row of a to-one field: loaded for all its siblings in one statement, with the columns they select.

    The caller has made sure that the viewer may see it. A row that is gone meanwhile loads None.
    """
    context, columns = info.context, selected_columns(info)

    async def fetch(ids: Sequence[UUID]) -> Mapping[UUID, Any]:
        rows = await context.session.fetch(by_ids(model, columns), {"ids": ids})
        return {row.id: row for row in rows}

    return context.loaders.get((model, columns), fetch).load(id)
