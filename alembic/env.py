"""Runs migrations, online or offline, on the database of the settings."""

import asyncio
import dataclasses

from alembic import context
from sqlalchemy import Connection, text

from persistence import settings as configuration
from persistence.engine import create_engine
from persistence.models import Base

LOCK_TIMEOUT = "5s"
"""A migration that waits for a lock blocks everybody behind it: it gives up and can be tried again."""

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
    with context.begin_transaction():
        context.run_migrations()


async def online(settings: configuration.Settings) -> None:
    engine = create_engine(settings, pooled=False)
    async with engine.connect() as connection:
        # A migration may take long; only waiting for locks is bounded.
        await connection.execute(text("SET statement_timeout = 0"))
        await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        await connection.commit()
        await connection.run_sync(migrate)
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
