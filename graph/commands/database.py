"""The commands for the tables: `./run db`."""
# ruff: noqa: T201  # their output is what they are for

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graph.server.database import CommandFailed, database, run, url
from persistence import migrations
from persistence.connections.address import parse
from persistence.embedded.server import EmbeddedPostgres
from persistence.settings import load


def upgrade(options: argparse.Namespace) -> None:
    with database() as settings:
        migrations.upgrade(url(settings), options.revision)
        report(migrations.status(url(settings)))


def downgrade(options: argparse.Namespace) -> None:
    with database() as settings:
        migrations.downgrade(url(settings), options.revision)
        report(migrations.status(url(settings)))


def status(options: argparse.Namespace) -> int:
    with database() as settings:
        status = migrations.status(url(settings))
        report(status)
    return 0 if status.is_current else 1


def reset(options: argparse.Namespace) -> None:
    if not options.yes:
        settings = load()
        where = parse(settings.database_url).where if settings.database_url else settings.data_dir
        raise CommandFailed(f"this deletes everything in {where}; say --yes to do it")
    with database() as settings:
        migrations.downgrade(url(settings), "base")
        migrations.upgrade(url(settings))
        report(migrations.status(url(settings)))


def recut(options: argparse.Namespace) -> None:
    from background.housekeeping import cut_texts  # no other command here needs the loops
    from persistence.writes.cutting import BY_AN_EARLIER_RULE

    with database(migrated=True) as settings:
        count = run(settings, partial(cut_texts, where=BY_AN_EARLIER_RULE))
    print(f"{count:,} rows cut again" if count else "all rows are cut by the rule of this release")


def check(options: argparse.Namespace) -> None:
    with (
        TemporaryDirectory(prefix="taskstore-check-") as directory,
        EmbeddedPostgres(Path(directory) / "data", options={"fsync": "off"}) as postgres,
    ):
        migrations.upgrade(postgres.url)
        migrations.check(postgres.url)
        migrations.downgrade(postgres.url, "base")
        migrations.upgrade(postgres.url)
    print("the migrations give what the models say, and go back and forth")


def sql(options: argparse.Namespace) -> None:
    print(migrations.sql(options.revision))


def report(status: Any) -> None:
    state = "up to date" if status.is_current else f"this code needs {status.head}: ./run db upgrade"
    print(f"revision {status.current or 'none'} ({state})")
