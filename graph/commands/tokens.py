"""The commands for access tokens: `./run token`."""
# ruff: noqa: T201  # their output is what they are for

import argparse
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from graph.commands.users import of_user
from graph.server.database import CommandFailed, database, in_transaction
from persistence import access, tokens
from persistence.models import Role, Scope, Token, User
from persistence.models.ids import parse_id
from persistence.session import Session
from persistence.viewer import OPERATOR, Viewer


def create(options: argparse.Namespace) -> None:
    expires_at = None if options.expires_in is None else datetime.now(UTC) + options.expires_in
    scopes = [Scope[scope] for scope in dict.fromkeys(options.scope or ["READ", "WRITE"])]
    secret = tokens.new_secret()

    async def work(session: Session, user_id: UUID) -> None:
        role = await session.scalar(select(User.role).where(User.id == user_id))
        assert role is not None
        if not set(scopes) <= set(access.scopes_of(role)):
            raise CommandFailed(f"{options.email} is no admin, so a token with the scope ADMIN would not help")
        viewer = Viewer(user_id, Role.ADMIN, frozenset(Scope), user_id)
        await tokens.create(
            session, viewer, id=None, name=options.name, scopes=scopes, expires_at=expires_at, secret=secret
        )

    of_user(options.email, work)
    print(secret)


def show(options: argparse.Namespace) -> None:
    """`./run token list`."""

    async def work(session: Session, user_id: UUID) -> list[dict[str, Any]]:
        rows = await session.scalars(select(Token).where(Token.user_id == user_id).order_by(Token.created_at, Token.id))
        return [
            {
                "id": str(token.id),
                "name": token.name,
                "kind": token.kind.name,
                "prefix": token.prefix,
                "scopes": [Scope(scope).name for scope in token.scopes],
                "createdAt": token.created_at.isoformat(),
                "lastUsedAt": token.last_used_at and token.last_used_at.isoformat(),
                "expiresAt": token.expires_at and token.expires_at.isoformat(),
                "revokedAt": token.revoked_at and token.revoked_at.isoformat(),
            }
            for token in rows
        ]

    found = of_user(options.email, work)
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    now = datetime.now(UTC).isoformat()
    for token in found:
        state = "revoked" if token["revokedAt"] else "expired" if (token["expiresAt"] or "9") <= now else "good"
        scopes = ",".join(token["scopes"])
        print(f"{token['id']}  {token['prefix']}  {state:7}  {token['kind']:8}  {scopes:16}  {token['name']}")


def revoke(options: argparse.Namespace) -> None:
    id = parse_id(options.id)
    if id is None:
        raise CommandFailed(f"{options.id!r} is not the id of a token; ./run token list shows them")

    async def work(session: Session) -> None:
        await tokens.revoke(session, OPERATOR, id)

    with database(migrated=True) as settings:
        in_transaction(settings, work)
    print(f"revoked {id}; a running server refuses it within TASKSTORE_TOKEN_CACHE_SECONDS")
