"""Accounts that are closed: gone for everybody at once, and deleted in steps.

An account may own more than can be deleted in a moment. So it is closed first, in a short transaction: from then on
nobody sees it or what it owns, nobody is signed in to it, and its address is free. Then its rows are deleted batch by
batch (`erase`), by whichever server comes to it, after a restart too.

What is hidden follows from one table, which is nearly always empty, and from who owns a row: `persistence.access` has
the condition, and all that the ORM selects fulfils it.
"""

from secrets import token_hex
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, delete, func, insert, literal, null, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.access import OWNER
from persistence.models import Action, Base, Change, ClosedAccount, Role, User
from persistence.writes import idempotency
from persistence.writes.changes import entry

BATCH = 500
"""How many rows are deleted in one transaction, each with its history: some 100 ms."""


async def close(session: AsyncSession, user: User, actor_id: UUID | None) -> bool:
    """Close the account of a user, who is locked, and delete the first batch of it. Whether that was all."""
    session.add(entry(user, actor_id, Action.PURGED, None))
    session.add(ClosedAccount(user_id=user.id, actor_id=actor_id))
    users = User.__table__
    # Nothing that says who it was is left, and the address is free. Nobody can have the one that takes its place or
    # know it beforehand: the account would stay as long as another had it.
    nobody = {"email": f".{token_hex(16)}@closed.invalid", "name": "-", "time_zone": "UTC", "password_hash": "!"}
    await session.execute(update(users).where(users.c.id == user.id).values(**nobody, role=Role.MEMBER))  # type: ignore[arg-type]
    await session.flush()
    session.expunge(user)
    return await _erase(session, user.id, actor_id)


async def erase(session: AsyncSession) -> bool:
    """Delete a batch of an account that is closed. Whether there may be more to delete.

    An account that another server is at is left to it.
    """
    found = await session.execute(
        select(ClosedAccount.user_id, ClosedAccount.actor_id)
        .order_by(ClosedAccount.closed_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    account = found.one_or_none()
    if account is None:
        return False
    await _erase(session, account.user_id, account.actor_id)
    return True


async def _erase(session: AsyncSession, user_id: UUID, actor_id: UUID | None) -> bool:
    """Delete a batch of what a user owns, and the user when nothing is left. Whether the user is gone."""
    more = await idempotency.forget_some_of(session, user_id, BATCH)
    for model in OWNER:
        if model is not User:
            more = await _purge_some(session, model, user_id, actor_id) or more
    if more:
        return False
    # Whoever is about to make something of this user has the row locked; that is waited for, and seen here.
    users = User.__table__
    await session.execute(select(users.c.id).where(users.c.id == user_id).with_for_update())
    for model in OWNER:
        if model is not User and await _purge_some(session, model, user_id, actor_id):
            return False
    await _forget(session, User, user_id, [user_id])
    await session.execute(delete(users).where(users.c.id == user_id))  # type: ignore[arg-type]
    await session.execute(delete(ClosedAccount).where(ClosedAccount.user_id == user_id))
    return True


async def _purge_some(session: AsyncSession, model: type[Base], user_id: UUID, actor_id: UUID | None) -> bool:
    """Delete a batch of the rows of one table that a user owns, and log that. Whether there may be more.

    They are locked first: an edit that has not been committed would put its content into the log after this has taken
    the content out of it.
    """
    table: Any = model.__table__
    owner = table.c[OWNER[model].key]
    ids = list(await session.scalars(select(table.c.id).where(owner == user_id).limit(BATCH).with_for_update()))
    if not ids:
        return False
    version = table.c.version if "version" in table.c else null()
    rows = select(
        func.gen_random_uuid(),
        literal(model.__entity__),
        table.c.id,
        owner,
        literal(actor_id, Change.actor_id.type),
        literal(Action.PURGED.value),
        version,
    ).where(_among(table, ids))
    columns = ["id", "entity", "entity_id", "owner_id", "actor_id", "action", "version"]
    await _forget(session, model, user_id, ids)
    await session.execute(insert(Change).from_select(columns, rows, include_defaults=False))
    await session.execute(delete(table).where(_among(table, ids)))
    return len(ids) == BATCH


def _among(table: Any, ids: list[UUID]) -> ColumnElement[bool]:
    return table.c.id == any_(literal(ids, ARRAY(table.c.id.type)))  # type: ignore[no-any-return]


async def _forget(session: AsyncSession, model: type[Base], user_id: UUID, ids: list[UUID]) -> None:
    """Take the content out of the history of some rows that a user owns."""
    await session.execute(
        update(Change)
        .where(
            Change.entity_id == any_(literal(ids, ARRAY(Uuid()))),
            Change.entity == model.__entity__,
            Change.owner_id == user_id,
        )
        .values(fields=null())
    )
