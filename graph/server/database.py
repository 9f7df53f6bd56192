"""The database of a command: the configured one, or the embedded one."""
# ruff: noqa: T201  # tells the person at the terminal what is waited for

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import migrations
from persistence.connections.address import parse
from persistence.connections.engine import DatabaseUnreachable, create_engine, reason, wait_until_reachable
from persistence.connections.failures import FAILURES, is_unreachable
from persistence.embedded.server import EmbeddedPostgres
from persistence.session import Session
from persistence.settings import Settings, load

T = TypeVar("T")


class CommandFailed(Exception):
    """Ends a command with one line on standard error and exit code 1."""


@contextlib.contextmanager
def database(*, migrated: bool = False, embedded_or_demo: bool = True) -> Iterator[Settings]:
    """The settings with the URL of a database that answers: the configured one, or the embedded one.

    A running embedded server is used, otherwise one is started for as long as the command takes. With
    `migrated`, the schema must be the one of this code (a fresh embedded database is brought there).
    """
    settings = load()
    if settings.database_url is not None and not embedded_or_demo:
        raise CommandFailed("the demo accounts have known passwords; say --demo to put them into DATABASE_URL")
    ours = False
    with contextlib.ExitStack() as stack:
        if settings.database_url is None:
            server = EmbeddedPostgres(settings.data_dir)
            server.start(attach=True)
            stack.callback(server.stop_after_guests)
            ours = not server.attached
            settings = replace(settings, database_url=server.url)
        else:
            run(settings, reachable(settings))
        if migrated:
            require_tables(url(settings), make=ours)
        yield settings


def require_tables(database_url: str, *, make: bool) -> None:
    """Bring the tables to this code's revision, or without `make` raise `CommandFailed` where they are not at it."""
    status = migrations.status(database_url)
    if status.is_current:
        return
    if not make:
        raise CommandFailed(
            f"the database is at revision {status.current}, this code needs {status.head}: ./run db upgrade"
        )
    migrations.upgrade(database_url)  # loads what takes longer than most commands


def url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url


def reachable(settings: Settings) -> Callable[[AsyncEngine], Coroutine[Any, Any, None]]:
    """Wait for the configured database as long as the settings say, and tell the person who waits too."""

    async def wait(engine: AsyncEngine) -> None:

        async def tell() -> None:
            while True:
                await asyncio.sleep(1 if settings.startup_timeout > 2 else settings.startup_timeout)
                print(f"taskstore: waiting for the database at {parse(url(settings)).where}", file=sys.stderr)
                await asyncio.sleep(4)

        telling = asyncio.create_task(tell())
        try:
            await wait_until_reachable(engine, settings.startup_timeout)
        except DatabaseUnreachable as error:
            raise CommandFailed(f"{error}; check DATABASE_URL") from None
        finally:
            telling.cancel()

    return wait


def in_transaction(settings: Settings, work: Callable[[Session], Awaitable[T]]) -> T:
    """Run something in one transaction, as the system: the change log names nobody."""

    async def with_session(engine: AsyncEngine) -> T:
        async with contextlib.aclosing(Session(engine)) as session:
            return await session.transact(work)

    return run(settings, with_session)


def run(settings: Settings, action: Callable[[AsyncEngine], Coroutine[Any, Any, T]]) -> T:
    """Run something on an engine of its own."""

    async def with_engine() -> T:
        engine = create_engine(settings)
        try:
            return await action(engine)
        except FAILURES as error:
            if not is_unreachable(error):
                raise
            raise DatabaseUnreachable(reason(engine, error)) from error  # it went away meanwhile
        finally:
            await engine.dispose()

    return asyncio.run(with_engine())
