"""Runs migrations, online or offline, on the database of the settings."""

import asyncio
import dataclasses

from alembic import context
from sqlalchemy import Connection, text

from persistence import migrations
from persistence import settings as configuration
from persistence.engine import create_engine
from persistence.models import Base

LOCK_TIMEOUT = "5s"
"""A migration that waits for a lock blocks everybody behind it: it gives up and can be tried again."""

TURN = 7_236_475_001
"""The advisory lock of who migrates: servers that start together take turns, and the second finds nothing to do."""
TURN_TIMEOUT = "60s"

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
        context.execute(f"SET lock_timeout = '{migrations.LOCK_TIMEOUT}'")
    with context.begin_transaction():
        context.run_migrations()


async def online(settings: configuration.Settings) -> None:
    engine = create_engine(settings, pooled=False)
    try:
        async with engine.connect() as connection:
            # A migration may take long; only waiting for locks is bounded.
            for statement in (
                "SET statement_timeout = 0",
                "SET idle_in_transaction_session_timeout = 0",
                f"SET lock_timeout = '{TURN_TIMEOUT}'",
                f"SELECT pg_advisory_lock({TURN})",  # until the connection is closed
                f"SET lock_timeout = '{migrations.LOCK_TIMEOUT}'",
            ):
                await connection.execute(text(statement))
            await connection.commit()
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


def run() -> None:
    if context.is_offline_mode():
        migrate()
    elif settings.database_url is not None:
        asyncio.run(online(settings))
    else:
        from persistence.embedded import EmbeddedPostgres  # only this way of starting needs the wheel

        server = EmbeddedPostgres(settings.data_dir)
        server.start(attach=True)
        try:
            asyncio.run(online(dataclasses.replace(settings, database_url=server.url)))
        finally:
            server.stop()


run()
