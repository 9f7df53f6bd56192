"""Names: snake_case in Python and in the database, camelCase in the API."""

from functools import cache


@cache
def camel(name: str) -> str:
    """The API's name of a field: `due_at` is `dueAt`."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
