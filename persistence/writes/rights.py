"""What a viewer may do now, asked in the transaction that relies on it.

A process remembers for some seconds who a token stands for (docs/decisions/0010-tokens.md): enough to read by, and to
write what is one's own. Whoever writes rights, passwords or tokens, or what is somebody else's, asks again. The row of
the user orders them: who takes something away has it locked, so that who comes later sees that it is gone.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select

from persistence import access
from persistence.access import Reach
from persistence.models import Role, Token, User
from persistence.rows.reading import Statement
from persistence.session import Session
from persistence.viewer import Viewer

_PRESENT: Statement[Any] = Statement(
    select(Token.id.label("token_id"), Token.scopes, Token.expires_at, User.id, User.role)
    .join(User, User.id == Token.user_id)
    .where(Token.id == bindparam("token_id", type_=Token.id.type), Token.revoked_at.is_(None), access.is_open(Token))
)


async def present(session: Session, viewer: Viewer) -> Viewer | None:
    """The viewer as the store has it now; None: the token has ended."""
    return viewer_of(await session.fetch(_PRESENT, {"token_id": viewer.token_id}))


def viewer_of(rows: list[Any]) -> Viewer | None:
    """The viewer behind the row of a token, or None where there is none or its time is over."""
    if not rows or (rows[0].expires_at is not None and rows[0].expires_at <= datetime.now(UTC)):
        return None
    [row] = rows
    return Viewer(row.id, Role(row.role), frozenset(row.scopes), row.token_id, row.expires_at)


async def confirm(session: Session, viewer: Viewer, *, user_id: UUID | None, token_id: UUID | None) -> Viewer | None:
    """The viewer as `present`, who is about to write rights, passwords or tokens: of a user, or of a token's user.

    Until the transaction ends nobody else writes those of the viewer or of that user. Their rows are locked in one
    order, before any other row, so that no two wait for each other. NO KEY: that keeps nobody from making tasks.
    """
    ids = {viewer.id, user_id}
    if token_id is not None:
        ids.add(await session.scalar(select(Token.user_id).where(Token.id == token_id)))
    users = select(User.id).where(User.id.in_(ids - {None})).order_by(User.id)
    await session.execute(users.with_for_update(key_share=True))
    return await present(session, viewer)


async def reach(session: Session, viewer: Viewer) -> Reach:
    """How far the viewer's rights to write reach (`access.reach`), and do until the transaction ends.

    To be asked before any row is locked: whoever writes rights locks users first.
    """
    if access.reach(viewer) is Reach.OWN:
        return Reach.OWN
    await session.execute(select(User.id).where(User.id == viewer.id).with_for_update(read=True))
    now = await present(session, viewer)
    return Reach.OWN if now is None else access.reach(now)
