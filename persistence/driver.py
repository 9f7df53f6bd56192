"""The driver's connection, and what this project needs of it that the driver does otherwise."""

from typing import Any

import asyncpg

AGAIN = 5
"""How often a statement is prepared anew when the schema changes under it: once for each step of a migration."""


class Driver(asyncpg.Connection):
    """A connection whose statements outlive changes of the schema.

    A prepared statement is refused once its result has another type, before anything of it was carried out. Then the
    driver prepares it anew, but forgets the record class of the rows. Inside a transaction the refusal has ended that,
    so it is raised.
    """

    async def _do_execute(self, query: str, executor: Any, timeout: Any, retry: bool = True, **kinds: Any) -> Any:
        execute: Any = super()._do_execute  # type: ignore[misc]  # not in the driver's hints
        for _ in range(AGAIN if retry else 0):
            try:
                return await execute(query, executor, timeout, False, **kinds)
            except asyncpg.InvalidCachedStatementError:
                if self.is_in_transaction():
                    raise
        return await execute(query, executor, timeout, False, **kinds)
