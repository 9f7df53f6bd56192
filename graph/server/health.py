"""Whether the server is alive, ready, and in what state."""

import asyncio
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from persistence import migrations
from persistence.connections.failures import FAILURES, READ_ONLY, sqlstate
from persistence.connections.pool import FairPool
from persistence.connections.readers import readers_of

PATIENCE = 3.0
"""Seconds the database has to answer."""

IS_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")
REVISION = text("SELECT version_num FROM alembic_version")
UNDEFINED_TABLE = "42P01"


class Health:
    """The health endpoints of one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.head = migrations.head()

    def routes(self) -> list[Route]:
        return [
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/healthz", self.healthz),
        ]

    async def livez(self, request: Request) -> Response:
        """200 as long as the process answers at all, whatever the database does."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """200 when the database answers, takes writes and is at this code's revision, otherwise 503 with the reason."""
        return self._answer(await self._state())

    async def healthz(self, request: Request) -> Response:
        """The same with the revision and the state of the connection pool."""
        state = await self._state()
        pool: Any = self.engine.pool
        if isinstance(pool, FairPool):
            resting = pool.readers.idle if pool.readers else 0  # out of the pool for reads, and not in use
            in_use, idle = pool.checkedout() - resting, pool.checkedin() + resting
            state["pool"] = {"size": pool.size(), "in_use": in_use, "idle": idle}
        return self._answer(state)

    async def _state(self) -> dict[str, Any]:
        revision: dict[str, str | None] = {"current": None, "needed": self.head}
        state: dict[str, Any] = {"status": "ok", "revision": revision}
        reason, readers = None, readers_of(self.engine)
        try:
            async with asyncio.timeout(PATIENCE), self.engine.connect() as connection:
                if await connection.scalar(IS_READ_ONLY):
                    reason = "the database is read-only"
                    readers.troubles.tell(READ_ONLY)
                    readers.renew()  # what comes next is asked where the address leads then
                found = await connection.execute(REVISION)
                revision["current"] = found.scalar_one_or_none()
        except FAILURES as error:
            readers.troubles.note(error)
            if sqlstate(error) != UNDEFINED_TABLE:  # then nothing was migrated yet
                reason = "the database does not answer"
                if isinstance(error, ProgrammingError):
                    reason = "the database does not tell its revision"
        if reason is None and revision["current"] != self.head:
            reason = "the database is not at this code's revision"
        reason = reason or readers.troubles.lasting
        return state if reason is None else state | {"status": "unavailable", "reason": reason}

    @staticmethod
    def _answer(state: dict[str, Any]) -> Response:
        return JSONResponse(state, 200 if state["status"] == "ok" else 503, headers={"Cache-Control": "no-store"})
