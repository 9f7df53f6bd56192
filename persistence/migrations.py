"""Alembic from Python: bring a database to a revision, or say where it stands.

Alembic itself is imported by what migrates: where a database stands is asked by every command, and it takes 0.1 s.
"""

import asyncio
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.connections.engine import DatabaseUnreachable, create_engine, reason
from persistence.connections.failures import FAILURES, is_unreachable, of_driver, sqlstate
from persistence.settings import ROOT, load

if TYPE_CHECKING:
    from alembic.config import Config

POOLED = (
    "migration refused: a pooler such as PgBouncer is in between, which keeps no session and passes no settings on; "
    "migrate over the address of the database itself"
)


class MigrationError(Exception):
    """A migration could not be run; the message is one line that says what to do."""


@dataclass(frozen=True)
class Status:
    """The revision a database has (None: empty) and the one this code needs."""

    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        return self.current == self.head


def configuration(url: str, output: io.StringIO | None = None) -> "Config":
    from alembic.config import Config

    config = Config(ROOT / "alembic.ini", output_buffer=output or io.StringIO(), stdout=io.StringIO())
    config.attributes["settings"] = load(database_url=url)
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` up to a revision. Raises `MigrationError` and `DatabaseUnreachable`."""
    run("upgrade", url, revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Take the database at `url` back to a revision. Raises `MigrationError`."""
    run("downgrade", url, revision)


def check(url: str) -> None:
    """Compare the migrated database with the models. Raises `MigrationError` that names what differs."""
    run("check", url)


def sql(revision: str = "head") -> str:
    """The SQL of all migrations up to a revision, for people who run it by hand."""
    output = io.StringIO()
    run("upgrade", "postgresql:///offline", revision, output=output, sql=True)
    return output.getvalue()


def run(action: str, url: str, *arguments: str, output: io.StringIO | None = None, **options: bool) -> None:
    """Run one of Alembic's commands, by its name."""
    from alembic import command
    from alembic.util import CommandError

    try:
        getattr(command, action)(configuration(url, output), *arguments, **options)
    except CommandError as error:
        raise MigrationError(f"migration failed: {' '.join(str(error).split())}") from None
    except FAILURES as error:
        raise explained(url, error) from error


def explained(url: str, error: BaseException) -> MigrationError | DatabaseUnreachable:
    """A failure of the database in one line; what the failed migration had changed is rolled back."""
    from persistence.online import BUSY

    if sqlstate(error) == "08P01" and "startup parameter" in str(error):
        return MigrationError(POOLED)
    if sqlstate(error) in BUSY:
        return MigrationError(
            "migration failed: another session holds a lock that it needs; try again, or end that session"
        )
    if sqlstate(error) is None or is_unreachable(error):
        return DatabaseUnreachable(reason(engine_of(url), error))
    cause = of_driver(error)
    said: str = getattr(cause, "message", None) or str(cause).split(": ", 1)[-1]  # its details would show rows
    return MigrationError(f"migration failed: {' '.join(said.split())}")


def engine_of(url: str) -> AsyncEngine:
    return create_engine(load(database_url=url), pooled=False)


def head() -> str:
    """The revision this code needs: that of the last migration, by whose number its file begins."""
    return max(file.name.partition("_")[0] for file in (ROOT / "alembic" / "versions").glob("[0-9]*_*.py"))


async def current(engine: AsyncEngine) -> str | None:
    """The revision of the database behind an engine, or None where there is none."""
    async with engine.connect() as connection:
        try:
            return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
        except ProgrammingError as error:
            if sqlstate(error) == "42P01":
                return None  # the table does not exist yet
            raise


def status(url: str) -> Status:
    """Where the database at `url` stands. Raises `DatabaseUnreachable`."""

    async def ask() -> str | None:
        engine = engine_of(url)
        try:
            return await current(engine)
        except FAILURES as error:
            raise explained(url, error) from error
        finally:
            await engine.dispose()

    return Status(asyncio.run(ask()), head())
