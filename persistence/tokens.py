"""Tokens: issuing, checking and revoking them."""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.types import LargeBinary

from persistence import access
from persistence.access import is_open
from persistence.lists.filters import filterable
from persistence.lists.listing import Listing, sorts_by_column
from persistence.models import Scope, Token, TokenKind, User
from persistence.models.ids import new_id
from persistence.models.tokens import PREFIX_LENGTH
from persistence.rows.reading import Statement
from persistence.rules.validation import Checked
from persistence.session import Session
from persistence.viewer import Viewer
from persistence.writes import editing, idempotency
from persistence.writes.rights import viewer_of

LISTING = Listing(Token, filterable(Token), sorts_by_column(Token), parent=Token.user_id)


def new_secret() -> str:
    """256 random bits, with a prefix by which secret scanners know what leaked."""
    return "tsk_" + secrets.token_urlsafe(32)


def hashed(secret: str) -> bytes:
    """What is stored of a secret. It is random, so a fast hash is enough."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


async def issue(
    session: Session,
    user_id: UUID,
    *,
    kind: TokenKind,
    name: str,
    scopes: Collection[Scope],
    secret: str,
    expires_at: datetime | None,
    id: UUID | None = None,
) -> Token:
    """Record a token for a secret that only the client keeps."""
    token = Token(
        id=id or new_id(),
        user_id=user_id,
        name=name,
        kind=kind,
        scopes=sorted(set(scopes), key=list(Scope).index),
        prefix=secret[:PREFIX_LENGTH],
        secret_hash=hashed(secret),
        expires_at=expires_at,
    )
    session.add(token)
    await session.flush()
    return token


async def create(
    session: Session,
    viewer: Viewer,
    *,
    id: UUID | None,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    secret: str,
) -> Token:
    """A personal token of the viewer, which may neither reach further nor last longer than the one that asks for it.

    `expires_at` None: it ends with that one.
    """
    name = checked(viewer, name, scopes, expires_at)
    return await issue(
        session,
        viewer.id,
        kind=TokenKind.PERSONAL,
        name=name,
        scopes=scopes,
        secret=secret,
        expires_at=expires_at or viewer.expires_at,
        id=id,
    )


def checked(
    viewer: Viewer,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    rules: Checked | None = None,
) -> str:
    """The name as it is stored. Raises `Invalid` with every problem, those that `rules` has found before too."""
    rules = rules or Checked()
    name = rules.name(name)
    if expires_at is not None:
        rules.future(expires_at, "expiresAt", datetime.now(UTC))
        if viewer.expires_at is not None and expires_at > viewer.expires_at:
            message = "Your own token ends before that; sign in for one that lasts longer."
            rules.add("OUTLIVES_TOKEN", message, "expiresAt")
    if not scopes:
        rules.add("TOO_FEW", "A token has at least one scope.", "scopes")
    for index, scope in enumerate(scopes):
        if scope not in viewer.scopes:
            message = f"Your own token does not have the scope {scope.name}."
            rules.add("SCOPE_NOT_HELD", message, "scopes", index)
    rules.done()
    return name


async def revoke(session: Session, viewer: Viewer, id: UUID) -> Token:
    """Revoke one of the viewer's tokens (an admin: anybody's). Revoking is idempotent: the first time stays."""
    token = await editing.for_update(session, viewer, Token, id, reach=access.reach(viewer))
    if token.revoked_at is None:
        token.revoked_at = datetime.now(UTC)
    return token


async def revoke_sessions(session: Session, user_id: UUID, *, but: UUID | None = None) -> None:
    """End the user's sessions, except one, when the password changes: who knew the old one is signed out.

    No retry shows the secret of any of them again, that one's included: it was asked for with the old password.
    """
    query = select(Token).where(
        Token.user_id == user_id, Token.kind == TokenKind.SESSION, Token.revoked_at.is_(None), Token.id != but
    )
    for token in await session.scalars(query.with_for_update()):
        token.revoked_at = datetime.now(UTC)
    await idempotency.forget_sessions_of(session, user_id)


_VIEWER: Statement[Any] = Statement(
    select(Token.id.label("token_id"), Token.scopes, Token.expires_at, User.id, User.role)
    .join(User, User.id == Token.user_id)
    .where(
        Token.secret_hash == bindparam("secret_hash", type_=LargeBinary),
        Token.revoked_at.is_(None),
        is_open(Token),
    )
)


async def authenticate(session: Session, secret: str) -> Viewer | None:
    """The viewer a secret stands for, or None where it stands for nobody (any more)."""
    return viewer_of(await session.fetch(_VIEWER, {"secret_hash": hashed(secret)}))


async def used(session: Session, ids: Collection[UUID]) -> None:
    """Note that tokens were used just now. No edit, so it is not in the change log."""
    await session.execute(
        update(Token).where(Token.id.in_(ids)).values(last_used_at=func.now(), updated_at=Token.updated_at)
    )
