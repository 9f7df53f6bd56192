"""Relay connections over keyset pages: one description of arguments, cursors and answers for every list.

GraphQL Cursor Connections Specification, https://relay.dev/graphql/connections.htm
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import strawberry

from graph.execution.compiling.checks import place
from graph.execution.preparing.lookahead import selected
from graph.lists.arguments import Arguments, ListScope, Part, encode_cursor, part_of
from graph.request.columns import columns_at, once_per_field, place_of
from graph.request.context import Context, Info
from graph.request.loaders import Loader
from persistence import access
from persistence.access import Reach
from persistence.lists import pages
from persistence.lists.listing import Listing
from persistence.lists.pages import Page

T = TypeVar("T")


class Source:
    """Where a connection's rows come from, for the fields that need another look at the list."""

    __slots__ = ("context", "page", "parent", "part")

    def __init__(self, context: Context, part: Part, page: Page, parent: UUID | None) -> None:
        self.context, self.part, self.page, self.parent = context, part, page, parent

    @property
    def backward(self) -> bool:
        return self.part.window.backward

    def cursor(self, row: Any) -> str:
        return encode_cursor(self.part.fingerprint, [getattr(row, key) for key in self.part.keys])

    async def behind(self) -> bool:
        """Whether there are rows on the side of the cursor that this page does not show."""
        query, window = self.part.query, self.part.window
        if window.cursor is None:
            return False
        if self.parent is None:
            return await pages.exists_behind(self.context.session, query, window)
        return bool(await nested(self.context, "behind", pages.exist_behind, self.part, window).load(self.parent))

    async def total(self) -> int:
        if self.parent is None:
            return await pages.count(self.context.session, self.part.query)
        return int(await nested(self.context, "count", pages.counts, self.part).load(self.parent))


def nested(
    context: Context, name: str, batch: Callable[..., Awaitable[Mapping[UUID, Any]]], part: Part, *arguments: Any
) -> Loader:
    """The loader of one question about a list below many parents."""

    async def fetch(parents: Sequence[UUID]) -> Mapping[UUID, Any]:
        return await batch(context.session, part.query, *arguments, parents)

    return context.loaders.get((name, part.list, arguments), fetch)


@strawberry.type(description="Where a page is in its list.")
class PageInfo:
    source: strawberry.Private[Source]

    @strawberry.field(description="Whether the list goes on after this page.")
    async def has_next_page(self) -> bool:
        source = self.source
        return await source.behind() if source.backward else source.page.more

    @strawberry.field(description="Whether the list has something before this page.")
    async def has_previous_page(self) -> bool:
        source = self.source
        return source.page.more if source.backward else await source.behind()

    @strawberry.field(description="The cursor of the first item, or null when the page is empty.")
    def start_cursor(self) -> str | None:
        rows = self.source.page.rows
        return self.source.cursor(rows[0]) if rows else None

    @strawberry.field(description="The cursor of the last item, or null when the page is empty.")
    def end_cursor(self) -> str | None:
        rows = self.source.page.rows
        return self.source.cursor(rows[-1]) if rows else None


@strawberry.type(description="An item of a list, with its place in it.")
class Edge(Generic[T]):
    node: T = strawberry.field(description="The item.")
    source: strawberry.Private[Source]

    @strawberry.field(description="Its place in this list, for `after` and `before`; opaque.")
    def cursor(self) -> str:
        return self.source.cursor(self.node)


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    nodes: list[T] = strawberry.field(description="The items of the page.")
    source: strawberry.Private[Source]

    @strawberry.field(description="The items of the page with their cursors.")
    def edges(self) -> list[Edge[T]]:
        source = self.source
        return [Edge(node=row, source=source) for row in source.page.rows]

    @strawberry.field(description="Where the page is in the list.")
    def page_info(self) -> PageInfo:
        return PageInfo(source=self.source)

    @strawberry.field(description="How many items the whole list has. Counted only when it is selected.")
    async def total_count(self) -> int:
        return await self.source.total()


class Nodes:
    """A connection of which an operation selects nothing but its nodes."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operation selects of a connection.

    The columns of its rows, and whether cursors, whether any row, whether there is more, whether only rows.
    """

    columns: frozenset[str]
    cursors: bool
    page: bool
    more: bool
    only_nodes: bool


def selection_of(info: Info, kind: type) -> Selection:
    columns = columns_at(info, kind, ("nodes",), ("edges", "node"))
    of_page = selected(info, "pageInfo")
    cursors = bool(of_page & {"startCursor", "endCursor"}) or "cursor" in selected(info, "edges")
    names = selected(info)
    return Selection(
        columns,
        cursors,
        page=bool(names & {"nodes", "edges", "pageInfo"}),
        more=bool(of_page & {"hasNextPage", "hasPreviousPage"}),
        only_nodes=names <= {"nodes", "__typename"},
    )


def connect(info: Info, kind: type, listing: Listing, arguments: Arguments, reach: Reach | None = None) -> Any:
    """An awaitable of the connection a field answers with.

    `reach` says whose rows it lists, the viewer's or everybody's; None: the argument `scope` does.
    """
    selection = once_per_field(info, "selection", lambda: selection_of(info, kind))
    part = _part(info, listing, arguments)
    reach = reach or REACHES[part.scope]
    viewer = info.context.admin() if reach is Reach.ALL else info.context.reader()
    owner = access.listed(viewer, reach)
    return _root(info.context, part if owner is None else part.below(owner), selection)


REACHES = {ListScope.OWN: Reach.OWN, ListScope.ALL: Reach.ALL}


def connections(info: Info, kind: type, listing: Listing, arguments: Arguments) -> Loader:
    """The loader of the connections with which a field answers below each of many parents: one statement for all."""
    # Siblings have the same arguments, so all of them share what follows from these.
    key = ("connection", place_of(info))
    loader = info.context.loaders.known(key)
    if loader is None:
        selection = once_per_field(info, "selection", lambda: selection_of(info, kind))
        loader = _below(info.context, _part(info, listing, arguments), selection, key)
    return loader


def _part(info: Info, listing: Listing, arguments: Arguments) -> Part:
    """What was found out when the arguments were checked."""
    return info.context.checked.get(place(info._raw_info)) or part_of(listing, arguments)


async def _root(context: Context, part: Part, selection: Selection) -> Connection[Any]:
    if selection.page:
        columns, cursors, more = selection.columns, selection.cursors, selection.more
        page = await pages.page(context.session, part.query, part.window, columns, keys=cursors, more=more)
    else:  # nothing but `totalCount` is asked
        page = Page([], False)
    return Connection(nodes=page.rows, source=Source(context, part, page, None))


def _below(context: Context, part: Part, selection: Selection, key: Any) -> Loader:
    """The loader of the connections below many parents."""

    async def fetch(parents: Sequence[UUID]) -> Mapping[UUID, Any]:
        if selection.page:
            columns, cursors, more = selection.columns, selection.cursors, selection.more
            found = await pages.pages(
                context.session, part.query, part.window, columns, parents, keys=cursors, more=more
            )
        else:
            found = {parent: Page([], False) for parent in parents}
        if selection.only_nodes:
            return {parent: Nodes(page.rows) for parent, page in found.items()}
        return {
            parent: Connection(nodes=page.rows, source=Source(context, part, page, parent))
            for parent, page in found.items()
        }

    return context.loaders.get(key, fetch)
