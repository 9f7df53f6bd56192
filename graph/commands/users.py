"""The commands for accounts: `./run user`."""
# ruff: noqa: T201  # their output is what they are for

import argparse
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select

from graph.server.database import CommandFailed, database, in_transaction
from persistence import tokens, users
from persistence.models import Role, User
from persistence.passwords import hashed
from persistence.rules.validation import Checked
from persistence.session import Session
from persistence.viewer import OPERATOR

T = TypeVar("T")

LONGEST_LINE = 10_000
"""Characters; more than the longest password, so that a longer one is refused as such."""


def create(options: argparse.Namespace) -> None:
    rules = Checked()
    account = users.checked({"email": options.email, "name": options.name}, rules)
    password = rules.password(asked_password())
    rules.done()
    password_hash, role = hashed(password), Role[options.role]

    async def work(session: Session) -> UUID:
        user = await users.create(session, password_hash=password_hash, role=role, **account)
        return user.id

    with database(migrated=True) as settings:
        id = in_transaction(settings, work)
    print(f"created the {role.name.lower()} {account['email']} with the id {id}")


def show(options: argparse.Namespace) -> None:
    """`./run user list`."""
    wanted = select(User.id, User.email, User.name, User.role, User.created_at).order_by(User.email)
    if options.role is not None:
        wanted = wanted.where(User.role == Role[options.role])

    async def work(session: Session) -> list[dict[str, Any]]:
        return [
            {
                "id": str(row.id),
                "email": row.email,
                "name": row.name,
                "role": Role(row.role).name,
                "createdAt": row.created_at.isoformat(),
            }
            for row in await session.execute(wanted)
        ]

    with database(migrated=True) as settings:
        found = in_transaction(settings, work)
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for user in found:
        print(f"{user['id']}  {user['role']:6}  {user['createdAt'][:10]}  {user['email']}  {user['name']}")


def set_password(options: argparse.Namespace) -> None:
    rules = Checked()
    password = rules.password(asked_password())
    rules.done()
    password_hash = hashed(password)

    async def work(session: Session, id: UUID) -> None:
        await users.update(session, OPERATOR, id, {"password_hash": password_hash})
        await tokens.revoke_sessions(session, id)

    of_user(options.email, work)
    print(f"{options.email} has the new password; all its sessions have ended")


def set_role(options: argparse.Namespace) -> None:
    async def work(session: Session, id: UUID) -> None:
        await users.update(session, OPERATOR, id, {"role": Role[options.role]})

    of_user(options.email, work)
    print(f"{options.email} has the role {options.role}")


def delete(options: argparse.Namespace) -> None:
    if not options.yes:
        raise CommandFailed(f"this deletes {options.email} and all it owns, for good; say --yes to do it")

    async def work(session: Session, id: UUID) -> UUID:
        return await users.delete(session, OPERATOR, id)

    of_user(options.email, work)
    print(f"deleted {options.email}")


def of_user(email: str, work: Callable[[Session, UUID], Awaitable[T]]) -> T:
    """Run a transaction for the user with an address. Raises `CommandFailed` where there is none."""

    async def found(session: Session) -> T:
        user = await users.found_by(session, email)
        if user is None:
            raise CommandFailed(f"there is no user {email}")
        return await work(session, user.id)

    with database(migrated=True) as settings:
        return in_transaction(settings, found)


def asked_password() -> str:
    """A new password: typed twice without echo on a terminal, else the first line of standard input."""
    if sys.stdin is None:  # closed
        raise CommandFailed("no password was given")
    if not sys.stdin.isatty():
        try:
            return sys.stdin.readline(LONGEST_LINE).rstrip("\r\n")
        except UnicodeDecodeError:
            raise CommandFailed("the password on standard input is not in UTF-8") from None
    try:
        password, again = getpass.getpass("Password (at least 10 characters): "), getpass.getpass("The same again: ")
    except EOFError:
        raise CommandFailed("no password was given") from None
    if password != again:
        raise CommandFailed("these were two different passwords")
    return password
