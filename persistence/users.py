"""Users: signing up, and what becomes of an account."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, literal_column, select
from sqlalchemy.types import Text

from persistence import access
from persistence.lists.filters import filterable
from persistence.lists.listing import Listing, sorts_by_column
from persistence.models import Role, User
from persistence.models.ids import new_id
from persistence.rows.reading import Statement
from persistence.rules.addresses import spellings
from persistence.rules.errors import Conflict
from persistence.rules.validation import Checked, storable
from persistence.session import Session
from persistence.viewer import Viewer
from persistence.writes import closing, editing

LISTING = Listing(User, filterable(User), sorts_by_column(User))

LAST_ADMIN = 7_236_475_002
"""The advisory lock of who takes an admin away."""

_ASKED = select(literal_column("1").label("one")).subquery("asked")
# One row whether there is an account or not: how many an operation reads is shown in development.
_CREDENTIALS: Statement[Any] = Statement(
    select(User.id, User.password_hash, User.role).select_from(
        _ASKED.outerjoin(User, User.email == bindparam("email", type_=Text))
    )
)
_PASSWORD: Statement[Any] = Statement(
    select(User.password_hash).where(User.id == bindparam("id", type_=User.id.type), access.is_open(User))
)


async def credentials(session: Session, email: str) -> Any | None:
    """`id`, `password_hash` and `role` of the account of a folded address, or None."""
    [row] = await session.fetch(_CREDENTIALS, {"email": email})
    return None if row.id is None else row


async def found_by(session: Session, typed: str) -> Any | None:
    """The same of the account that somebody means who types an address in any way (`addresses.spellings`).

    All are looked for whether one is found or not: how long that takes tells nothing.
    """
    found = [await credentials(session, email) for email in filter(storable, spellings(typed))]
    return next((account for account in found if account is not None), None)


async def password_hash(session: Session, id: UUID) -> str | None:
    """The stored hash of a user's password."""
    rows = await session.fetch(_PASSWORD, {"id": id})
    return rows[0].password_hash if rows else None


async def opened_by(session: Session, id: UUID, password_hash: str) -> User | None:
    """The user, if the password that was verified is still the one. It stays so until the transaction ends."""
    user: User | None = await session.scalar(select(User).where(User.id == id).with_for_update(read=True))
    return user if user is not None and user.password_hash == password_hash else None


async def create(
    session: Session,
    *,
    email: str,
    name: str,
    password_hash: str,
    time_zone: str = "UTC",
    role: Role = Role.MEMBER,
    id: UUID | None = None,
) -> User:
    """A new account; the values are checked already, except that the address must be free. Raises `Conflict`."""
    if await session.scalar(select(User.id).where(User.email == email)) is not None:
        raise email_taken()
    user = User(
        id=id or new_id(),
        email=email,
        name=name,
        time_zone=time_zone,
        role=role,
        password_hash=password_hash,
        version=1,
    )
    session.add(user)
    await session.flush()
    return user


async def keep_an_admin(session: Session, user: User, *path: str) -> None:
    """Nobody may be locked out of the administration for good. Raises `Conflict` where this is the last admin."""
    if user.role is not Role.ADMIN:
        return
    # One after another, and then counted: two that lock each other's rows would wait for each other.
    await session.execute(select(func.pg_advisory_xact_lock(LAST_ADMIN)))
    if await count_admins(session) == 1:
        message = "This is the last admin; make somebody else an admin first."
        raise Conflict(message, code="LAST_ADMIN", path=path, current=user)


async def count_admins(session: Session) -> int:
    return await session.scalar(select(func.count()).where(User.role == Role.ADMIN)) or 0


def email_taken() -> Conflict:
    return Conflict("There is an account with this address already.", code="EMAIL_TAKEN", path=("email",))


async def for_update(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> User:
    """A user the viewer may edit, locked. Raises as `editing.for_update`.

    Who writes accounts has confirmed the viewer's rights before (`rights.confirm`), or writes the own.
    """
    return await editing.for_update(session, viewer, User, id, if_version, reach=access.reach(viewer))


async def update(
    session: Session, viewer: Viewer, id: UUID, given: Mapping[str, Any], *, if_version: int | None = None
) -> User:
    """Edit a user; `given` holds the fields to change (email, name, time_zone, role, password_hash)."""
    user = await for_update(session, viewer, id, if_version)
    values = checked(given)
    if values.get("role", Role.ADMIN) is not Role.ADMIN:
        await keep_an_admin(session, user, "role")
    if "email" in values and values["email"] != user.email:
        taken = await session.scalar(select(User.id).where(User.email == values["email"]))
        if taken is not None:
            raise email_taken()
    for field, value in values.items():
        setattr(user, field, value)
    return user


def checked(given: Mapping[str, Any], rules: Checked | None = None) -> dict[str, Any]:
    """The values as they are stored. Raises `Invalid` with every problem, those that `rules` has found before too."""
    rules, values = rules or Checked(), dict(given)
    for field, check in (("email", rules.email), ("name", rules.name), ("time_zone", rules.time_zone)):
        if field in values:
            values[field] = check(values[field])
    rules.done()
    return values


async def delete(session: Session, viewer: Viewer, id: UUID, *, if_version: int | None = None) -> UUID:
    """Delete an account and all it owns. The log keeps that these things were, and forgets what they were.

    It is gone for everybody when this is committed; what it owns may be deleted later (`persistence.writes.closing`).
    """
    user = await for_update(session, viewer, id, if_version)
    await keep_an_admin(session, user)
    await closing.close(session, user, session.actor_id)
    return user.id
