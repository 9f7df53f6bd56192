"""What the commands do. Each takes its parsed arguments and returns an exit code, None being 0."""
# ruff: noqa: T201  # their output is what they are for

import argparse
import contextlib
import getpass
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

import persistence.seed
from graph import server
from graph.database import CommandFailed, database, run, url
from persistence import migrations, tokens, users
from persistence.embedded import EmbeddedError, EmbeddedPostgres
from persistence.engine import DatabaseUnreachable, redacted
from persistence.errors import DomainError
from persistence.models import Role, Scope
from persistence.passwords import Passwords
from persistence.session import Session
from persistence.settings import Settings, SettingsError, load, variable
from persistence.validation import Checked
from persistence.viewer import Viewer

EXPECTED = (CommandFailed, EmbeddedError, DatabaseUnreachable, migrations.MigrationError, SettingsError, DomainError)
"""Errors for the person at the terminal: the text of each is one line without secrets."""


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


def test(options: argparse.Namespace) -> None:
    """Only for its help: `./run` itself does this, because it is what makes the environment."""
    raise CommandFailed("use ./run test")


def install(options: argparse.Namespace) -> None:
    """As `test`."""
    raise CommandFailed("use ./run install")


def db_upgrade(options: argparse.Namespace) -> None:
    with database() as settings:
        migrations.upgrade(url(settings), options.revision)
        report(migrations.status(url(settings)))


def db_downgrade(options: argparse.Namespace) -> None:
    with database() as settings:
        migrations.downgrade(url(settings), options.revision)
        report(migrations.status(url(settings)))


def db_status(options: argparse.Namespace) -> int:
    with database() as settings:
        status = migrations.status(url(settings))
        report(status)
    return 0 if status.is_current else 1


def db_reset(options: argparse.Namespace) -> None:
    if not options.yes:
        settings = load()
        where = redacted(settings.database_url) if settings.database_url else settings.data_dir
        raise CommandFailed(f"this deletes everything in {where}; say --yes to do it")
    with database() as settings:
        migrations.downgrade(url(settings), "base")
        migrations.upgrade(url(settings))
        report(migrations.status(url(settings)))


def db_check(options: argparse.Namespace) -> None:
    with (
        TemporaryDirectory(prefix="taskstore-check-") as directory,
        EmbeddedPostgres(Path(directory) / "data", options={"fsync": "off"}) as postgres,
    ):
        migrations.upgrade(postgres.url)
        migrations.check(postgres.url)
        migrations.downgrade(postgres.url, "base")
        migrations.upgrade(postgres.url)
    print("the migrations give what the models say, and go back and forth")


def db_sql(options: argparse.Namespace) -> None:
    print(migrations.sql(options.revision))


def schema(options: argparse.Namespace) -> int:
    from graph import snapshot

    if options.manifest is not None:
        write_manifest(options.manifest, options.output)
        return 0
    if options.output is not None:
        raise CommandFailed("--output goes with --manifest")
    return snapshot.write() if options.write else snapshot.check()


def write_manifest(folder: Path, output: Path | None) -> None:
    """List the operations below a folder, each with the fragments it needs, as the documents to trust."""
    from graph.execution.persisted import ManifestError, build_manifest
    from graph.schema import schema

    if not folder.is_dir():
        raise CommandFailed(f"{folder} is no directory")
    try:
        manifest = build_manifest(folder, schema._schema)
    except ManifestError as error:
        raise CommandFailed(str(error)) from None
    count = len(manifest["operations"])
    if count == 0:
        raise CommandFailed(f"{folder} has no .graphql or .gql file with an operation")
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {output}: {error.strerror}") from None
    print(f"wrote {count} operation{'s' if count > 1 else ''} to {output}")


def check_manifest(settings: Settings) -> None:
    """Read the manifest before anything is started: what is wrong with it is said in one line."""
    if settings.trusted_documents is None:
        return
    from graph.execution.persisted import ManifestError, load_manifest

    try:
        load_manifest(settings.trusted_documents)
    except ManifestError as error:
        raise CommandFailed(f"{variable('trusted_documents')}: {error}") from None


def user_create(options: argparse.Namespace) -> None:
    rules = Checked()
    account = users.checked({"email": options.email, "name": options.name}, rules)
    password = rules.password(asked_password())
    rules.done()

    async def create(engine: AsyncEngine) -> str:
        password_hash = await Passwords(1).hash(password)

        async def write(session: Session) -> str:
            user = await users.create(session, password_hash=password_hash, role=Role[options.role], **account)
            return str(user.id)

        async with contextlib.aclosing(Session(engine)) as session:
            return await session.transact(write)

    with database(migrated=True) as settings:
        id = run(settings, create)
        print(f"created the {Role[options.role].name.lower()} {account['email']} with the id {id}")


def asked_password() -> str:
    """A new password: typed twice without echo on a terminal, else the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    try:
        password, again = getpass.getpass("Password (at least 10 characters): "), getpass.getpass("The same again: ")
    except EOFError:
        raise CommandFailed("no password was given") from None
    if password != again:
        raise CommandFailed("these were two different passwords")
    return password


def token_create(options: argparse.Namespace) -> None:
    expires_at = None if options.expires_in is None else datetime.now(UTC) + options.expires_in

    async def create(engine: AsyncEngine) -> str:
        secret = tokens.new_secret()
        scopes = [Scope[scope] for scope in dict.fromkeys(options.scope or ["READ", "WRITE"])]

        async def write(session: Session) -> None:
            user = await users.credentials(session, Checked().email(options.email))
            if user is None:
                raise CommandFailed(f"there is no user {options.email}")
            if Scope.ADMIN in scopes and user.role != Role.ADMIN:
                raise CommandFailed(f"{options.email} is no admin, so a token with the scope ADMIN would not help")
            viewer = Viewer(user.id, Role(user.role), frozenset(Scope), user.id)
            await tokens.create(
                session, viewer, id=None, name=options.name, scopes=scopes, expires_at=expires_at, secret=secret
            )

        async with contextlib.aclosing(Session(engine)) as session:
            await session.transact(write)
        return secret

    with database(migrated=True) as settings:
        print(run(settings, create))


def seed(options: argparse.Namespace) -> None:
    with database(migrated=True, embedded_or_demo=options.demo) as settings:
        print(server.accounts(run(settings, persistence.seed.seed)))


def report(status: Any) -> None:
    state = "up to date" if status.is_current else f"this code needs {status.head}: ./run db upgrade"
    print(f"revision {status.current or 'none'} ({state})")
