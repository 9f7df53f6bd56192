"""The interface of all entities."""

from collections.abc import Callable
from typing import Any

import strawberry
from graphql import GraphQLAbstractType, GraphQLResolveInfo


@strawberry.interface(description="Something with an id. All entities are Nodes, and `node` finds any of them.")
class Node:
    id: strawberry.ID = strawberry.field(
        description="The UUID of the entity: the same in the database, in the API and in the logs."
    )

    # Rows are records of the driver, not instances of these classes: they say themselves what they are.
    @classmethod
    def is_type_of(cls, obj: Any, info: GraphQLResolveInfo[Any]) -> bool:
        entity: str = type(obj).__entity__
        return entity == cls.__name__

    @classmethod
    def resolve_type(cls, obj: Any, info: GraphQLResolveInfo[Any], abstract_type: GraphQLAbstractType) -> str:
        name: str = type(obj).__entity__
        return name


# The answers depend on the class of the row alone, so an executor may ask once per class.
Node.is_type_of.__func__.by_class = True  # type: ignore[attr-defined]
Node.resolve_type.__func__.by_class = True  # type: ignore[attr-defined]


def needs(*columns: str) -> dict[str, Any]:
    """The metadata of a resolver field: the columns of its own row that it reads."""
    return {"needs": columns}


def joins(relation: str) -> dict[str, Any]:
    """The metadata of a to-one field: where its row may ride along with the statement of its own.

    `graph.request.columns` has them ride.
    """
    return {"joins": relation, "carried": f"{relation}_row"}  # the second is for the executor


def batched(resolve: Callable[..., Any]) -> dict[str, Any]:
    """The metadata of a field that is resolved for many objects at once (`graph.execution.compiling.batches`)."""
    return {"batch": resolve}
