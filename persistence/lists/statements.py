"""Statements of lists, built once for each shape of a list and kept under that: never under the values of a request."""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from persistence.lists.filters import size

STATEMENTS = 1_024
"""Shapes of lists kept built, 6 kB each at most. A shape beyond that is built again when it comes back."""

LARGE = 24
"""Filters with more conditions are built each time: they come once, and each would be kept in many kilobytes."""

# One statement serves several sizes of a page. It may read so many rows, of which those that nobody asked for are left
# out: the planner has to know a limit, or it sorts everything instead of walking an index. Usual sizes are exact, and
# so is one row more, which tells whether the list goes on.
SIZES = (1, 2, 3, 4, 5, 6, 10, 11, 20, 21, 30, 31, 50, 51, 75, 76, 100, 101)


Build = TypeVar("Build", bound=Callable[..., Any])


def built_once(build: Build) -> Build:
    """The function, called once for each shape of a query and its other arguments, of which the last used are kept.

    Its first argument is the query (`persistence.lists.listing.Query`), which it gets without values.
    """
    kept: OrderedDict[Any, Any] = OrderedDict()

    @wraps(build)
    def built(query: Any, *args: Any) -> Any:
        key = (query, *args)
        found = kept.get(key)
        if found is not None:
            kept.move_to_end(key)
            return found
        bare = query.without_values()  # what is equal but for its values is found by it
        found = build(bare, *args)
        if size(query.shape) <= LARGE:
            kept[(bare, *args)] = found
            if len(kept) > STATEMENTS:
                kept.popitem(last=False)
        return found

    built.kept = kept  # type: ignore[attr-defined]  # for the tests of what is kept
    return cast("Build", built)


def rows_read(wanted: int) -> int:
    """How many rows a statement reads for a page that wants so many: at least these."""
    return next((size for size in SIZES if size >= wanted), wanted) if wanted else 0
