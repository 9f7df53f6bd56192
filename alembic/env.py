"""Runs migrations, online or offline, on the database of the settings."""

import asyncio
import dataclasses
import time

from alembic import context
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence import migrations, online
from persistence import settings as configuration
from persistence.connections.engine import create_engine
from persistence.models import Base
from persistence.writes.unique_ids import compare  # noqa: F401  # Alembic compares with it too

TURN = 7_236_475_001
"""The advisory lock of who migrates: servers that start together take turns, and the second finds nothing to do."""

config = context.config
settings: configuration.Settings = config.attributes.get("settings") or configuration.load()


def migrate(connection: Connection | None = None) -> None:
    context.configure(
        connection=connection,
        dialect_name="postgresql" if connection is None else None,
        target_metadata=Base.metadata,
        compare_server_default=True,
        literal_binds=connection is None,
        transaction_per_migration=True,
    )
    if connection is None:
        context.execute(f"SET lock_timeout = '{online.PATIENCE:.0f}s'")
        context.execute("SET client_min_messages = warning")  # what is not there need not be told
    with context.begin_transaction():
        context.run_migrations()


async def run_online(settings: configuration.Settings) -> None:
    """Migrate over a connection that gets its settings when it starts: nothing is left behind in anybody's session.

    A migration may take long; only waiting for locks is bounded.
    """
    if settings.pgbouncer:
        raise migrations.MigrationError(migrations.POOLED)
    engine = create_engine(
        dataclasses.replace(settings, statement_timeout=0, lock_timeout=online.PATIENCE, idle_in_transaction_timeout=0),
        pooled=False,
    )
    event.listen(engine.sync_engine, "begin", limit_waiting)
    try:
        async with engine.connect() as connection, engine.connect() as keeper:
            await refuse_a_pooler(connection)
            await take_turn(keeper)
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


def limit_waiting(connection: Connection) -> None:
    """Whatever a transaction does, others wait only for a moment behind it; `online` has its own limits."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {online.LOCK_TIMEOUT}")


async def refuse_a_pooler(connection: AsyncConnection) -> None:
    """Raise `MigrationError` when the settings that the connection was started with have not reached the server."""
    wanted = {
        "statement_timeout": "0",
        "lock_timeout": str(round(online.PATIENCE * 1000)),
        "idle_in_transaction_session_timeout": "0",
    }
    found = await connection.execute(text("SELECT name, reset_val FROM pg_settings WHERE name LIKE '%timeout'"))
    if not wanted.items() <= dict(tuple(row) for row in found).items():
        raise migrations.MigrationError(migrations.POOLED)
    await connection.rollback()


async def take_turn(keeper: AsyncConnection) -> None:
    """Hold the lock of who migrates, in a transaction of its own, until that connection is closed.

    CREATE INDEX CONCURRENTLY waits for the end of every snapshot, and a statement that waits has one: so who waits
    asks again and again, and who has it keeps none.
    """
    until = time.monotonic() + online.PATIENCE
    while not (await keeper.execute(select(func.pg_try_advisory_xact_lock(TURN)))).scalar_one():
        await keeper.rollback()
        if time.monotonic() > until:
            raise migrations.MigrationError("migration failed: another process is migrating this database; try again")
        await asyncio.sleep(0.1)
    # The driver leaves the answer's portal open with its snapshot, until the next statement; this one has none.
    await keeper.execute(text("SET LOCAL lock_timeout = 0"))


def run() -> None:
    if context.is_offline_mode():
        migrate()
    elif settings.database_url is not None:
        asyncio.run(run_online(settings))
    else:
        from persistence.embedded.server import EmbeddedPostgres  # only this way of starting needs the wheel

        server = EmbeddedPostgres(settings.data_dir)
        server.start(attach=True)
        try:
            asyncio.run(run_online(dataclasses.replace(settings, database_url=server.url)))
        finally:
            server.stop()


run()
