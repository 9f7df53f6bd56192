"""The commands that start the server, and fill it for a demo: `./run serve`, `./run work`, `./run seed`."""
# ruff: noqa: T201  # their output is what they are for

import argparse

import persistence.seed
from background.housekeeping import housekeeping
from background.loops import run as run_loops
from graph.commands.schema import check_manifest
from graph.server import logs
from graph.server import process as server
from graph.server.database import CommandFailed, database, run
from persistence.settings import load


def serve(options: argparse.Namespace) -> int:
    settings = load(host=options.host, port=options.port, workers=options.workers)
    check_manifest(settings)
    return server.serve(
        settings,
        demo=options.demo,
        browser=options.browser,
        reload=options.reload,
        migrate=options.migrate,
    )


def work(options: argparse.Namespace) -> None:
    """The background loops in a process of their own."""
    with server.terminated_cleanly(), database(migrated=True) as settings:
        logs.configure(settings)
        print("taskstore: the background loops run. Ctrl-C stops them.", flush=True)
        run(settings, lambda engine: run_loops(housekeeping(engine, settings)))


def test(options: argparse.Namespace) -> None:
    """Only for its help: `./run` itself does this, because it is what makes the environment."""
    raise CommandFailed("use ./run test")


def install(options: argparse.Namespace) -> None:
    """As `test`."""
    raise CommandFailed("use ./run install")


def seed(options: argparse.Namespace) -> None:
    with database(migrated=True, embedded_or_demo=options.demo) as settings:
        print(server.accounts(run(settings, persistence.seed.seed)))
