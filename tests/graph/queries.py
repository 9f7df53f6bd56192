"""The whole application, and the SQL that reaches its database, whichever way it takes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from sqlalchemy import event

from graph.server.app import Application, TaskstoreHost, create_app
from persistence.settings import Settings


@dataclass
class Watched:
    """A client of an application, and the statements that the application has run since they were asked for last."""

    client: httpx.AsyncClient
    app: Application
    _seen: list[str] = field(default_factory=list)

    def add(self, query: Any) -> None:
        self._seen.append(query.query)

    async def statements(self) -> list[str]:
        """The statements since this was called last."""
        for _ in range(3):  # the driver tells of them in the next round of the loop
            await asyncio.sleep(0)
        seen, self._seen = self._seen, []
        return seen

    async def post(self, query: str, headers: dict[str, str] | None = None, /, **variables: Any) -> httpx.Response:
        return await self.client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


@asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[Watched]:
    """The application with these settings, from its start to its end, without the loops that look for work."""
    app = create_app(replace(settings, background=False))
    assert isinstance(app, Application)
    assert isinstance(app.endpoint.host, TaskstoreHost)
    pool = app.endpoint.host.services.engine.sync_engine.pool
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        watching = Watched(client, app)

        @event.listens_for(pool, "connect")
        def connect(connection: Any, _record: Any) -> None:
            connection.driver_connection.add_query_logger(watching.add)

        async with app.router.lifespan_context(app):
            await watching.statements()
            yield watching
