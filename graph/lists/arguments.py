"""The arguments of lists: what they mean, and what is wrong with them, which is found before anything runs."""

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

import orjson
import strawberry

from graph.execution.compiling.checks import checked
from graph.execution.preparing.bounds import at_most
from graph.lists import filters
from graph.request.refusals import bad_argument
from graph.types.enums import described
from persistence.lists import pages
from persistence.lists.filters import EMPTY, named_values
from persistence.lists.listing import Listing, Order, Query, Trash, Window
from persistence.rules.validation import storable
from persistence.words.searching import tsquery

DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_SEARCH = 500
MAX_ORDER = 5


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
            '"phrases" of whole words, `or`, and `-` before a whole word or phrase that must not occur, '
            "all without regard to case, accents and width. Sorted by rank unless `orderBy` is given."
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
    scope: ListScope = ListScope.OWN


class Part:
    """The part of a list that a field shows: the same below all its parents, and in all requests if it is constant."""

    window: Window

    def __init__(self, query: Query, scope: ListScope, whole: "Part | None" = None) -> None:
        self.query, self.scope, self._whole = query, scope, whole

    def below(self, owner: UUID) -> "Part":
        """The same part of the list of one owner."""
        part = Part(self.query.below(owner), self.scope, self)
        part.window = self.window
        return part

    @cached_property
    def fingerprint(self) -> str:
        """What its cursors are tied to."""
        return self._whole.fingerprint if self._whole is not None else fingerprint(self.query, self.scope)

    @cached_property
    def keys(self) -> list[str]:
        """The attributes of a row that are in its cursor."""
        return [pages.key_name(n) for n in range(len(self.query.sorting))]

    @cached_property
    def list(self) -> tuple[Query, bytes]:
        """What tells the list from others within an operation, in a size that does not grow with its values."""
        values = repr(sorted(self.query.values.items())).encode(errors="surrogatepass")
        return self.query.without_values(), hashlib.blake2b(values, digest_size=16).digest()


def of_list(listing: Listing) -> dict[str, Any]:
    """The metadata of a field with the arguments of a list: its `Part` is known before anything runs."""
    return checked(lambda **arguments: part_of(listing, Arguments(**arguments)))


def part_of(listing: Listing, arguments: Arguments) -> Part:
    """What the arguments ask for. Raises `RequestError` (BAD_USER_INPUT) that names the argument."""
    part = Part(query_of(listing, arguments), arguments.scope)
    part.window = window_of(part, arguments)
    return part


def query_of(listing: Listing, arguments: Arguments) -> Query:
    """The list that the arguments describe."""
    shape, values = filters.parse(arguments.filter) if arguments.filter else (EMPTY, [])
    bound = named_values(values)
    search = (arguments.search or "").strip()
    if len(search) > MAX_SEARCH or not storable(search):
        raise bad_argument("search", f"at most {MAX_SEARCH} characters that can be stored are allowed.")
    if search:
        bound["search"] = tsquery(search)
    return Query(
        listing,
        shape,
        tuple(order_of(listing, arguments.order_by or ())),
        searching=bool(search),
        trash=arguments.trash,
        values=bound,
    )


def order_of(listing: Listing, keys: Sequence[Any]) -> list[Order]:
    if len(keys) > MAX_ORDER:
        raise bad_argument("orderBy", f"{len(keys)} sort keys; at most {MAX_ORDER} are allowed.")
    order: dict[str, Order] = {}
    for key in keys:
        descending = key.direction is OrderDirection.DESC
        nulls_first = descending if key.nulls is None else key.nulls is NullsOrder.FIRST
        # A field that is named twice is sorted already.
        order.setdefault(key.field.value, Order(key.field.value, descending, nulls_first))
    return list(order.values())


def window_of(part: Part, arguments: Arguments) -> Window:
    """The part of the list that the arguments ask for."""
    if arguments.last is not None and arguments.first is not None:
        raise bad_argument("last", "first and last exclude each other: a page is taken from one end.")
    if arguments.before is not None and arguments.after is not None:
        raise bad_argument("before", "after and before exclude each other: a page is next to one cursor.")
    backward = arguments.last is not None
    if arguments.before is not None and not backward:
        raise bad_argument("before", "before goes with last: the page before a cursor is the last one that ends there.")
    if arguments.after is not None and backward:
        raise bad_argument("after", "after goes with first: the page after a cursor is the first that begins there.")
    limit = arguments.last if backward else arguments.first
    if limit is None:
        limit = DEFAULT_PAGE
    name = "last" if backward else "first"
    if not 0 <= limit <= MAX_PAGE:
        raise bad_argument(name, f"{limit} items; 0 to {MAX_PAGE} are allowed.")
    text = arguments.before if backward else arguments.after
    cursor = (
        None if text is None else decode_cursor(part.query, part.fingerprint, text, "before" if backward else "after")
    )
    return Window(limit, backward, cursor)


# -- cursors ------------------------------------------------------------------------------------------


def fingerprint(query: Query, scope: ListScope) -> str:
    """What a cursor is tied to: the list without its page. A cursor of another list would skip or repeat.

    Whose list it is does not count: a cursor is a place among sort keys, and shows nothing of a list.
    """
    values = sorted(query.values.items())
    parts = (query.listing.model.__entity__, query.shape, query.sorting, query.trash, scope, values)
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=6).hexdigest()


def encode_cursor(mark: str, keys: Sequence[Any]) -> str:
    return urlsafe_b64encode(orjson.dumps([mark, *keys], default=str)).decode().rstrip("=")


def decode_cursor(query: Query, mark: str, text: str, name: str) -> tuple[Any, ...]:
    """The sort keys' values of a cursor. Raises `RequestError` (BAD_USER_INPUT) for one that is not of this list."""
    kinds = pages.sort_kinds(query)
    try:
        found, *keys = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if found != mark:
            raise bad_argument(name, "the cursor belongs to a list with another filter or order.")
        values = []
        for key, (kind, nullable) in zip(keys, kinds, strict=True):
            if key is None and not nullable:
                raise ValueError(text)
            values.append(None if key is None else pages.decode_key(kind, key))
        return tuple(values)
    except (ValueError, TypeError, binascii.Error):
        raise bad_argument(name, "this is not a cursor of this list.") from None
