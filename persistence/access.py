"""Who may see, edit and manage which rows: whatever reads or writes for a viewer asks here, and nothing else knows.

A row belongs to one user, whom its model names (`Base.__owner__`): that user may see and edit it, and so may an admin
whose token has the scope ADMIN, who manages accounts, too. What belongs to a closed account
(`persistence.writes.closing`) is hidden from everybody.

The answer is a predicate for statements, or it is about a row at hand. Predicates are made for how far the rights of a
viewer reach and take the viewer as a value, so that statements are built once and serve many viewers at a time. What a
process remembers of a viewer is some seconds old; `persistence.writes.rights` asks the store again where that matters.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, all_, and_, event, func, literal_column, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, ORMExecuteState, with_loader_criteria

from persistence.models import Base, Change, ClosedAccount, Role, Scope, Token, User
from persistence.models.base import entities
from persistence.session import RecordedSession
from persistence.viewer import Viewer

OWNER: Mapping[type[Base], InstrumentedAttribute[UUID]] = {
    model: getattr(model, model.__owner__) for model in entities().values()
}
"""Whose data a row is, of every entity."""

OWNER_NAMES: Mapping[str, str] = {model.__entity__: model.__owner__ for model in OWNER}
"""The name of that column by the name of the entity."""


def owner_of(row: Any) -> UUID:
    """Whose data a row is, which is of the ORM or of a statement that selects the column."""
    owner: UUID = getattr(row, OWNER_NAMES[row.__entity__])
    return owner


# -- viewers ------------------------------------------------------------------------------------------


class Reach(StrEnum):
    """How far a viewer's rights go, as far as statements differ by it."""

    OWN = "own"
    ALL = "all"


def reach(viewer: Viewer) -> Reach:
    return Reach.ALL if administers(viewer) else Reach.OWN


def administers(viewer: Viewer) -> bool:
    """Whether the viewer manages accounts and all that there is."""
    return viewer.role == Role.ADMIN and Scope.ADMIN in viewer.scopes


def scopes_of(role: Role) -> list[Scope]:
    """What the tokens of a user with a role may allow."""
    return [scope for scope in Scope if scope is not Scope.ADMIN or role is Role.ADMIN]


# -- statements ---------------------------------------------------------------------------------------


def visible(model: type[Base], reach: Reach, viewer: Any) -> ColumnElement[bool]:
    """The rows of a table that a viewer (an id, or what stands for one in the statement) may see."""
    return is_open(model) if reach is Reach.ALL else and_(OWNER[model] == viewer, is_open(model))


def editable(model: type[Base], reach: Reach, viewer: Any) -> ColumnElement[bool]:
    """The rows that a viewer may edit, for what the ORM selects: that leaves out closed accounts by itself."""
    return true() if reach is Reach.ALL else OWNER[model] == viewer


def logged(reach: Reach, viewer: Any) -> ColumnElement[bool]:
    """The entries of the change log that a viewer may see."""
    return true() if reach is Reach.ALL else Change.owner_id == viewer


def listed(viewer: Viewer, reach: Reach) -> UUID | None:
    """Whose rows a list is limited to that is asked for with some reach. None: everybody's are in it."""
    return None if reach is Reach.ALL and administers(viewer) else viewer.id


def good_tokens_of_admins(ids: Any) -> Any:
    """Those of some tokens with which rows are written for others: asked in the very statement that writes them.

    The role is a subquery so that it is looked up by the id: joined, all users are read where there are few.
    """
    tokens: Any = Token.__table__.alias("held")
    users = User.__table__.alias("holders")
    good = tokens.c.revoked_at.is_(None) & or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > func.now())
    role = select(users.c.role).where(users.c.id == tokens.c.user_id).scalar_subquery()
    return select(tokens.c.id).where(tokens.c.id == ids, good, role == literal_column(f"'{Role.ADMIN.value}'"))


# -- rows ---------------------------------------------------------------------------------------------


def sees(viewer: Viewer, row: Any) -> bool:
    """Whether the viewer may see a row, and what lies below it."""
    return owner_of(row) == viewer.id or administers(viewer)


def sees_all(viewer: Viewer, rows: Iterable[Any]) -> bool:
    """Whether the viewer may see each of these rows."""
    return administers(viewer) or all(owner_of(row) == viewer.id for row in rows)


def makes(viewer: Viewer, owner: UUID) -> bool:
    """Whether the viewer may make something that will be this user's."""
    return not for_others(viewer.id, owner) or administers(viewer)


def for_others(actor: UUID | None, owner: UUID) -> bool:
    """Whether making something for this user takes a right that may have been taken away a moment ago.

    What is one's own, and what the system does (None), takes none.
    """
    return actor not in (None, owner)


def sees_with(model: type[Base], column: str) -> bool:
    """Whether whoever sees a row may see the row, too, that a column of it names.

    Its owner only: statements that follow such a column (joins, filters by what is there) ask nothing more.
    """
    return column == model.__owner__


# -- closed accounts ----------------------------------------------------------------------------------

_CLOSED = select(ClosedAccount.__table__.c.user_id)


def is_open(model: type[Base]) -> ColumnElement[bool]:
    """Holds for the rows of a table that belong to no closed account."""
    return of_open_account(OWNER[model])


def of_open_account(user_id: Any) -> ColumnElement[bool]:
    """Holds where a column names no closed account."""
    return user_id != all_(func.array(_CLOSED.scalar_subquery()))  # type: ignore[no-any-return]


_OPEN = [with_loader_criteria(model, is_open(model)) for model in OWNER]


@event.listens_for(RecordedSession, "do_orm_execute")
def leave_out_closed(state: ORMExecuteState) -> None:
    """What the ORM selects of an entity leaves out closed accounts. (Statements of plain tables see everything.)"""
    if state.is_select and state.is_orm_statement:
        state.statement = state.statement.options(*_OPEN)
