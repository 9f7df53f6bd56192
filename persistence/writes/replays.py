"""Kept answers shown again: only what their viewer may see now, and never a secret that opens nothing any more.

A row is shown as it was; whether it is shown is asked of the store. Who is signed in is never taken from an answer.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import literal, or_, select

from persistence import access
from persistence.models import Action, Change, Token, User
from persistence.models.base import entities
from persistence.rules.errors import NotFound
from persistence.session import Session
from persistence.viewer import Viewer
from persistence.writes import snapshots
from persistence.writes.idempotency import ENTITY, shown


async def revived(
    session: Session, viewer: Viewer, answer: Mapping[str, Any], key: str, purpose: str
) -> dict[str, Any]:
    """The parts of a kept answer (`snapshots.snapshot`) for the viewer as the store has it now.

    Raises `NotFound` for an answer that was emptied, or that shows what is gone or not the viewer's any more.
    """
    secret = any("sealed" in part for part in answer.values())
    for part in answer.values():
        if "sealed" not in part and not await _is_visible(session, viewer, part, secret=secret):
            raise gone()
    if not answer:
        raise gone()
    return {name: snapshots.revive(part, key, purpose) for name, part in answer.items()}


async def reopened(session: Session, answer: Mapping[str, Any], key: str, purpose: str) -> dict[str, Any]:
    """The parts of a kept answer that opened a session: its user, its token and its secret, the rows as they are now.

    Raises `NotFound` for an answer that was emptied, and for a session that has ended.
    """
    token_id, _ = shown(answer)
    query = select(Token, User).join(User, User.id == Token.user_id).where(Token.id == token_id, *alive())
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise gone()
    parts = {name: snapshots.revive(part, key, purpose) for name, part in answer.items() if "sealed" in part}
    return {"user": row.User, "token": row.Token, **parts}


def gone() -> NotFound:
    return NotFound("answer: what the first request wrote or saw is gone since", path=("idempotencyKey",))


async def _is_visible(session: Session, viewer: Viewer, part: Mapping[str, Any], *, secret: bool) -> bool:
    reach = access.reach(viewer)
    if ENTITY in part:
        model = entities()[part[ENTITY]]
        id = model.__table__.c.id
        query = select(id).where(id == UUID(part["id"]), access.visible(model, reach, viewer.id))
        if secret and model is Token:
            query = query.where(*alive(), *within(viewer))
    else:  # the id of what was deleted for good
        purged = Change.entity_id == UUID(part["id"]), Change.action == Action.PURGED
        query = select(Change.id).where(*purged, access.logged(reach, viewer.id)).limit(1)
    return await session.scalar(query) is not None


def within(viewer: Viewer) -> tuple[Any, ...]:
    """The tokens that the viewer's could have made: another of the user's may have made one that does more."""
    scopes = Token.scopes.op("<@")(literal(sorted(viewer.scopes), Token.scopes.type))
    return (scopes,) if viewer.expires_at is None else (scopes, Token.expires_at <= viewer.expires_at)


def alive() -> tuple[Any, ...]:
    """The tokens that still open something."""
    return Token.revoked_at.is_(None), or_(Token.expires_at.is_(None), Token.expires_at > datetime.now(UTC))
