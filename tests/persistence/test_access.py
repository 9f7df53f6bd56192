"""Who may see and edit what: the predicates of statements and the answers about rows say the same of every entity."""

import uuid
from typing import Any

import pytest
from sqlalchemy import select

from persistence import access
from persistence.access import OWNER, Reach
from persistence.lists.filters import Filterable, Relation
from persistence.models import Base, Change, ClosedAccount, Role, Scope, Task, Token, User
from persistence.session import Session
from tests.conftest import Account
from tests.persistence.conftest import Write
from tests.rows import row_of

pytestmark = pytest.mark.anyio

MODELS = sorted(OWNER, key=lambda model: model.__entity__)
VIEWERS = {
    "somebody": (Role.MEMBER, tuple(Scope)),
    "an admin without the scope": (Role.ADMIN, (Scope.READ, Scope.WRITE)),
    "an admin": (Role.ADMIN, tuple(Scope)),
}
viewers = pytest.mark.parametrize(("role", "scopes"), VIEWERS.values(), ids=VIEWERS)


async def with_everything(write: Write, account: Account) -> Account:
    async def work(session: Session) -> None:
        session.add_all(model(**row_of(model, account.id)) for model in MODELS if model is not User)

    await write(work, actor_id=account.id)
    return account


async def found(session: Session, model: type[Base], *which: Any) -> set[Any]:
    """The rows of a table, past the ORM."""
    table: Any = model.__table__
    return set((await (await session.connection()).execute(select(table.c.id).where(*which))).scalars())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@viewers
async def test_statements_and_answers_about_rows_agree(
    write: Write, session: Session, new_account: Any, model: type[Base], role: Role, scopes: tuple[Scope, ...]
) -> None:
    viewer = (await with_everything(write, await new_account(role, scopes))).viewer
    other = await with_everything(write, await new_account())
    reach = access.reach(viewer)
    owned = OWNER[model].in_([viewer.id, other.id])
    rows = list(await session.scalars(select(model).where(owned)))

    seen = {row.id for row in rows if access.sees(viewer, row)}  # type: ignore[attr-defined]  # every entity has one
    assert {access.owner_of(row) for row in rows} == {viewer.id, other.id}
    assert seen == await found(session, model, owned, access.visible(model, reach, viewer.id))
    assert seen == await found(session, model, owned, access.editable(model, reach, viewer.id))
    assert access.sees_all(viewer, rows) == (len(seen) == len(rows)) == (access.listed(viewer, Reach.ALL) is None)
    assert access.listed(viewer, Reach.OWN) == viewer.id
    assert access.sees_all(viewer, [row for row in rows if row.id in seen])  # type: ignore[attr-defined]


@viewers
async def test_the_log_is_seen_as_the_rows_are(
    write: Write, session: Session, new_account: Any, role: Role, scopes: tuple[Scope, ...]
) -> None:
    viewer, other = (await new_account(role, scopes)).viewer, await new_account()
    reach = access.reach(viewer)

    for owner in (viewer.id, other.id):
        entries = await found(session, Change, Change.owner_id == owner, access.logged(reach, viewer.id))
        assert bool(entries) == (owner == viewer.id or reach is Reach.ALL) == access.makes(viewer, owner)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
async def test_nobody_sees_what_a_closed_account_had(
    write: Write, session: Session, new_account: Any, admin: Account, model: type[Base]
) -> None:
    account = await with_everything(write, await new_account())
    session.add(ClosedAccount(user_id=account.id, actor_id=None))  # in a transaction that is undone
    await session.flush()

    owned = OWNER[model] == account.id
    assert await found(session, model, owned)
    for viewer in (account.viewer, admin.viewer):
        reach = access.reach(viewer)
        assert not await found(session, model, owned, access.visible(model, reach, viewer.id))
        editable = select(model).where(owned, access.editable(model, reach, viewer.id))
        assert list(await session.scalars(editable)) == []


async def test_what_is_for_others_takes_a_right_and_what_is_ones_own_takes_none(account: Account) -> None:
    assert access.for_others(account.id, uuid.uuid4())
    assert not access.for_others(account.id, account.id)
    assert not access.for_others(None, account.id), "the system"


def test_only_the_owner_is_seen_with_a_row() -> None:
    assert [access.sees_with(model, access.OWNER_NAMES[model.__entity__]) for model in (Task, Token, User)] == [
        True
    ] * 3
    assert not access.sees_with(Task, "project_id")


def test_a_filter_follows_a_relation_only_to_what_who_sees_the_row_sees() -> None:
    with pytest.raises(ValueError, match=r"Change\.actor: a filter follows it"):
        Filterable(Change, {}, {"actor": Relation(Change.actor_id, Filterable(User, {}))})


@pytest.mark.parametrize(("role", "admins"), [(Role.MEMBER, False), (Role.ADMIN, True)])
def test_only_admins_get_the_scope_of_admins(role: Role, admins: bool) -> None:
    assert (Scope.ADMIN in access.scopes_of(role)) == admins
    assert {Scope.READ, Scope.WRITE} <= set(access.scopes_of(role))
