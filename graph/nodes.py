"""Any entity by its id."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import strawberry

from graph.execution.preparing.bounds import at_most
from graph.execution.preparing.lookahead import selected
from graph.request.columns import columns_of, once_per_field
from graph.request.context import Info
from graph.request.refusals import bad_argument
from graph.types.node import Node
from persistence import nodes
from persistence.models.base import entities
from persistence.models.ids import parse_id

MAX_IDS = 100


@strawberry.type
class NodeQuery:
    @strawberry.field(description="The entity with this id, whatever it is; null: there is none for the viewer.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")]
    ) -> Node | None:
        return (await find(info, [id]))[0]

    @strawberry.field(description="The entities with these ids, in their order, with null where there is none.")
    async def nodes(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(description=f"The ids: at most {MAX_IDS}.", metadata=at_most(MAX_IDS)),
        ],
    ) -> list[Node | None]:
        if len(ids) > MAX_IDS:
            raise bad_argument("ids", f"{len(ids)} ids; at most {MAX_IDS} are allowed.")
        return await find(info, ids)


async def find(info: Info, ids: Sequence[str]) -> list[Node | None]:
    """The entities with these ids that the viewer may see, in one statement."""
    viewer = info.context.reader()
    keys = [parse_id(id) for id in ids]
    wanted: list[UUID] = list({key for key in keys if key is not None})
    if not wanted:
        return [None] * len(ids)
    columns = once_per_field(info, "nodes", lambda: columns_of_all(info))
    found = await nodes.by_ids(info.context.session, viewer, wanted, columns)
    return [found.get(key) if key is not None else None for key in keys]


def columns_of_all(info: Info) -> dict[str, frozenset[str]]:
    """The columns of each entity that are needed for what is selected, whichever entities are found."""
    names, columns = selected(info), {}
    for entity in entities():
        kind = info.schema.get_type_by_name(entity)
        columns[entity] = columns_of(kind.origin, names)  # type: ignore[union-attr, arg-type]  # an object type
    return columns
