"""Relay connections over keyset pages: one description of arguments, cursors and answers for every list.

GraphQL Cursor Connections Specification, https://relay.dev/graphql/connections.htm
"""

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
import strawberry

from graph.execution.preparing.bounds import at_most
from graph.execution.preparing.lookahead import selected
from graph.lists import filters
from graph.request.columns import columns_at, once_per_field, place_of
from graph.request.context import Context, Info
from graph.request.loaders import Loader
from graph.request.refusals import bad_input
from graph.types.enums import described
from persistence import access
from persistence.access import Reach
from persistence.lists import pages
from persistence.lists.filters import EMPTY
from persistence.lists.listing import Trash
from persistence.lists.pages import Listing, Order, Page, Query, Window
from persistence.rules.validation import storable

DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_SEARCH = 500
MAX_ORDER = 5

T = TypeVar("T")


class OrderDirection(StrEnum):
    ASC = "asc"
    DESC = "desc"


class ListScope(StrEnum):
    OWN = "own"
    ALL = "all"


class NullsOrder(StrEnum):
    FIRST = "first"
    LAST = "last"


described(
    OrderDirection,
    "A direction of sorting.",
    {"ASC": "The smallest, earliest or first one first.", "DESC": "The largest, latest or last one first."},
)
described(
    NullsOrder,
    "Where values that are missing are sorted.",
    {"FIRST": "Before all others.", "LAST": "After all others."},
)

described(
    ListScope,
    "Whose things a list at the root shows.",
    {"OWN": "The viewer's.", "ALL": "Everybody's. For admins, with a token of the scope ADMIN."},
)

DIRECTION = "The direction: ASC unless said otherwise."
NULLS = "Where missing values come: last when ascending and first when descending, unless said otherwise."

First = Annotated[
    int | None,
    strawberry.argument(description=f"How many from the start: at most {MAX_PAGE}, {DEFAULT_PAGE} by default."),
]
After = Annotated[str | None, strawberry.argument(description="Only what comes after the item with this cursor.")]
Last = Annotated[int | None, strawberry.argument(description=f"How many from the end: at most {MAX_PAGE}.")]
Before = Annotated[str | None, strawberry.argument(description="Only what comes before the item with this cursor.")]
Search = Annotated[
    str | None,
    strawberry.argument(
        description=(
            "Full-text search as on the web: words (each also as a beginning), "
            '"phrases", `or`, and `-` before what must not occur. Sorted by rank unless `orderBy` is given.'
        )
    ),
]
SORT_KEYS = strawberry.argument(
    description=(
        f"How they are sorted: by the first key, where that is equal by the second, and at last by id. "
        f"At most {MAX_ORDER} keys."
    ),
    metadata=at_most(MAX_ORDER),
)
"""The argument `orderBy`."""
Scope = Annotated[ListScope, strawberry.argument(description="Whose are listed: the viewer's own, or more.")]
InTrash = Annotated[Trash, strawberry.argument(description="Whether what is in the trash is listed.")]


class Part:
    """The part of a list that a field shows: the same below all its parents."""

    def __init__(self, query: Query, window: Window) -> None:
        self.query, self.window = query, window

    @cached_property
    def keys(self) -> list[str]:
        """The attributes of a row that are in its cursor."""
        return [pages.key_name(n) for n in range(len(self.query.sorting))]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.query)

    @cached_property
    def list(self) -> tuple[Query, bytes]:
        """What tells the list from others within an operation, in a size that does not grow with its values."""
        values = repr(sorted(self.query.values.items())).encode(errors="surrogatepass")
        return self.query.without_values(), hashlib.blake2b(values, digest_size=16).digest()


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


@dataclass(slots=True)
class Arguments:
    """The arguments of a connection field as they came."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None
    filter: Any = None
    order_by: Sequence[Any] | None = None
    search: str | None = None
    trash: Trash = Trash.EXCLUDE


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


def connect(info: Info, kind: type, listing: Listing, arguments: Arguments, reach: Reach = Reach.OWN) -> Any:
    """An awaitable of the connection a field answers with: of what is the viewer's own, or of everybody's.

    Raises `RequestError` (BAD_USER_INPUT) that names the argument.
    """
    selection = once_per_field(info, "selection", lambda: selection_of(info, kind))
    viewer = info.context.admin() if reach is Reach.ALL else info.context.reader()
    query = query_of(listing, arguments, access.listed(viewer, reach))
    return _root(info.context, query, window_of(query, arguments), selection)


def connections(info: Info, kind: type, listing: Listing, arguments: Arguments) -> Loader:
    """The loader of the connections with which a field answers below each of many parents: one statement for all.

    Raises the same.
    """
    # Siblings have the same arguments, so all of them share what follows from these.
    key = ("connection", place_of(info))
    loader = info.context.loaders.known(key)
    if loader is None:
        selection = once_per_field(info, "selection", lambda: selection_of(info, kind))
        query = query_of(listing, arguments, None)
        loader = _below(info.context, query, window_of(query, arguments), selection, key)
    return loader


async def _root(context: Context, query: Query, window: Window, selection: Selection) -> Connection[Any]:
    if selection.page:
        columns, cursors, more = selection.columns, selection.cursors, selection.more
        page = await pages.page(context.session, query, window, columns, keys=cursors, more=more)
    else:  # nothing but `totalCount` is asked
        page = Page([], False)
    return Connection(nodes=page.rows, source=Source(context, Part(query, window), page, None))


def _below(context: Context, query: Query, window: Window, selection: Selection, key: Any) -> Loader:
    """The loader of the connections below many parents."""
    part = Part(query, window)

    async def fetch(parents: Sequence[UUID]) -> Mapping[UUID, Any]:
        if selection.page:
            columns, cursors, more = selection.columns, selection.cursors, selection.more
            found = await pages.pages(context.session, query, window, columns, parents, keys=cursors, more=more)
        else:
            found = {parent: Page([], False) for parent in parents}
        if selection.only_nodes:
            return {parent: Nodes(page.rows) for parent, page in found.items()}
        return {
            parent: Connection(nodes=page.rows, source=Source(context, part, page, parent))
            for parent, page in found.items()
        }

    return context.loaders.get(key, fetch)


def query_of(listing: Listing, arguments: Arguments, owner: UUID | None) -> Query:
    """The list that the arguments describe."""
    shape, values = filters.parse(arguments.filter) if arguments.filter else (EMPTY, [])
    bound = {f"f{n}": value for n, value in enumerate(values)}
    search = (arguments.search or "").strip()
    if len(search) > MAX_SEARCH or not storable(search):
        raise bad_input(f"search: at most {MAX_SEARCH} characters that can be stored are allowed.")
    if search:
        bound["search"] = search
    if owner is not None:
        bound["owner"] = owner
    return Query(
        listing,
        shape,
        tuple(order_of(listing, arguments.order_by or ())),
        searching=bool(search),
        trash=arguments.trash,
        limited=owner is not None,
        values=bound,
    )


def order_of(listing: Listing, keys: Sequence[Any]) -> list[Order]:
    if len(keys) > MAX_ORDER:
        raise bad_input(f"orderBy: {len(keys)} sort keys; at most {MAX_ORDER} are allowed.")
    order: dict[str, Order] = {}
    for key in keys:
        descending = key.direction is OrderDirection.DESC
        nulls_first = descending if key.nulls is None else key.nulls is NullsOrder.FIRST
        # A field that is named twice is sorted already.
        order.setdefault(key.field.value, Order(key.field.value, descending, nulls_first))
    return list(order.values())


def window_of(query: Query, arguments: Arguments) -> Window:
    """The part of the list that the arguments ask for."""
    if arguments.last is not None and arguments.first is not None:
        raise bad_input("first and last exclude each other: a page is taken from one end.")
    if arguments.before is not None and arguments.after is not None:
        raise bad_input("after and before exclude each other: a page is next to one cursor.")
    backward = arguments.last is not None
    if arguments.before is not None and not backward:
        raise bad_input("before goes with last: the page before a cursor is the last one that ends there.")
    if arguments.after is not None and backward:
        raise bad_input("after goes with first: the page after a cursor is the first one that begins there.")
    limit = arguments.last if backward else arguments.first
    if limit is None:
        limit = DEFAULT_PAGE
    name = "last" if backward else "first"
    if not 0 <= limit <= MAX_PAGE:
        raise bad_input(f"{name}: {limit} items; 0 to {MAX_PAGE} are allowed.")
    text = arguments.before if backward else arguments.after
    cursor = None if text is None else decode_cursor(query, text, "before" if backward else "after")
    return Window(limit, backward, cursor)


# -- cursors ------------------------------------------------------------------------------------------


def fingerprint(query: Query) -> str:
    """What a cursor is tied to: the list without its page. A cursor of another list would skip or repeat."""
    parts = (query.listing.model.__entity__, query.shape, query.sorting, query.trash, sorted(query.values.items()))
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=6).hexdigest()


def encode_cursor(mark: str, keys: Sequence[Any]) -> str:
    return urlsafe_b64encode(orjson.dumps([mark, *keys], default=str)).decode().rstrip("=")


def decode_cursor(query: Query, text: str, name: str) -> tuple[Any, ...]:
    """The sort keys' values of a cursor. Raises `RequestError` (BAD_USER_INPUT) for one that is not of this list."""
    kinds = pages.sort_kinds(query)
    try:
        mark, *keys = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if mark != fingerprint(query):
            raise bad_input(f"{name}: the cursor belongs to a list with another filter or order.")
        values = []
        for key, (kind, nullable) in zip(keys, kinds, strict=True):
            if key is None and not nullable:
                raise ValueError(text)
            values.append(None if key is None else pages.decode_key(kind, key))
        return tuple(values)
    except (ValueError, TypeError, binascii.Error):
        raise bad_input(f"{name}: this is not a cursor of this list.") from None
