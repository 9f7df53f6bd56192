"""What the tests of the store share: writing in a transaction, raw SQL, and a look at the change log."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import migrations
from persistence.connections.engine import create_engine
from persistence.session import Session
from persistence.settings import Settings
from tests.persistence import servers

T = TypeVar("T")
Work = Callable[[Session], Awaitable[T]]


class Write(Protocol):
    """Runs work in a transaction of a session of its own."""

    async def __call__(self, work: Work[T], actor_id: UUID | None = None) -> T: ...


class Raw(Protocol):
    """Runs one statement in a transaction of its own, past the ORM; gives its rows."""

    async def __call__(self, statement: str, **values: Any) -> list[Any]: ...


@pytest.fixture(scope="session")
def postgres15() -> Iterator[servers.Server]:
    """A temporary server of Debian's PostgreSQL 15: the oldest that is supported."""
    if not (servers.POSTGRES_15 / "postgres").exists():
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    with servers.postgres() as server:
        yield server


@pytest.fixture
def write(engine: AsyncEngine) -> Write:
    async def run(work: Work[T], actor_id: UUID | None = None) -> T:
        session = Session(engine)
        session.actor_id = actor_id
        try:
            return await session.transact(work)
        finally:
            await session.close()

    return run


@pytest.fixture
def raw(engine: AsyncEngine) -> Raw:
    async def run(statement: str, **values: Any) -> list[Any]:
        async with engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    return run


async def broken_constraint(statement: Awaitable[object]) -> str:
    """The name of the constraint that a statement breaks, or else its SQLSTATE."""
    with pytest.raises(DBAPIError) as caught:
        await statement
    cause: Any = getattr(caught.value.orig, "__cause__", None)
    return getattr(cause, "constraint_name", None) or str(getattr(cause, "sqlstate", cause))


@pytest.fixture
async def own_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine with a pool that only this test uses, which tests no idle connection: the test may break them."""
    engine = create_engine(dataclasses.replace(settings, pool_ping_after=3_600.0))
    yield engine
    await engine.dispose()


@pytest.fixture
async def own_database(settings: Settings, new_database: Callable[[], str]) -> AsyncIterator[AsyncEngine]:
    """An engine of a migrated database that only this test uses."""
    url = await asyncio.to_thread(new_database)
    await asyncio.to_thread(migrations.upgrade, url)
    engine = create_engine(dataclasses.replace(settings, database_url=url))
    yield engine
    await engine.dispose()


def url_of(engine: AsyncEngine) -> str:
    return engine.url.render_as_string(hide_password=False)


async def backends(engine: AsyncEngine) -> list[int]:
    """The process ids of the server's connections of an engine's pool that are idle in it."""
    pids = []
    held = []
    for _ in range(engine.pool.checkedin()):  # type: ignore[attr-defined]  # a QueuePool
        proxy = await engine.raw_connection()
        held.append(proxy)
        pids.append(proxy.driver_connection.get_server_pid())  # type: ignore[union-attr]  # asyncpg's
    for proxy in held:
        proxy.close()
    return pids


async def until_blocked(session: Session) -> None:
    """Wait until somebody waits for a lock of this transaction."""
    statement = text("SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))")
    async with asyncio.timeout(30):
        while not (await session.execute(statement)).scalar_one():  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)


async def terminate(url: str, *pids: int) -> None:
    """End server processes, as an administrator or a failover does."""
    engine = create_engine(Settings(database_url=url), pooled=False)
    async with engine.connect() as connection:
        for pid in pids:
            await connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    await engine.dispose()


CANCEL_REQUEST = (80_877_102).to_bytes(4)
"""PostgreSQL documentation, 54.7."""


class Gate:
    """A proxy to the server. It breaks a connection that sends `marker`, when the server has answered that.

    The server has done what it was told and the client does not know: a network that breaks at the worst moment. With
    `before`, the server never gets to know of it. When it has
    broken one, the server may be one that `stays_away`.
    """

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.marker: bytes | None = None
        self.broken = 0
        self.before = False
        self.stays_away = False
        self.delays_cancellations = 0.0
        self.open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break all connections as they are, to the client only: the server goes on with what it does."""
        for writer in self.open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.stays_away and self.broken:
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self.socket_path)
        if self.delays_cancellations and (first := await reader.read(65_536)):
            if first[4:8] == CANCEL_REQUEST:  # taken at once and passed on later, as poolers do
                writer.close()
                await asyncio.sleep(self.delays_cancellations)
                upstream_writer.write(first)
                upstream_writer.close()
                return
            upstream_writer.write(first)
        marked = False
        self.open.add(writer)

        async def forward() -> None:
            nonlocal marked
            while data := await reader.read(65_536):
                marked = marked or (self.marker is not None and self.marker in data)
                if marked and self.before:
                    self.broken += 1
                    writer.transport.abort()
                    upstream_writer.transport.abort()
                    return
                upstream_writer.write(data)
                await upstream_writer.drain()
            upstream_writer.close()

        async def back() -> None:
            while data := await upstream_reader.read(65_536):
                if marked:
                    self.broken += 1
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.close()

        await asyncio.gather(forward(), back(), return_exceptions=True)
        self.open.discard(writer)
        upstream_writer.close()


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[tuple[Gate, AsyncEngine]]:
    assert settings.database_url is not None
    base, socket_dir = settings.database_url.split("?")[0], settings.database_url.split("host=")[1]
    gate = Gate(f"{socket_dir}/.s.PGSQL.5432")
    server = await asyncio.start_server(gate.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"{base.replace('@/', f'@127.0.0.1:{port}/')}?sslmode=disable"
    engine = create_engine(dataclasses.replace(settings, database_url=url))
    yield gate, engine
    await engine.dispose()
    server.close()
