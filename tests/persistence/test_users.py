"""Users: who may change and delete whom, and who stays."""

import asyncio
import uuid
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import users
from persistence.models import Role, Scope, User
from persistence.rules.errors import Conflict, DomainError, NotFound
from persistence.session import Session
from persistence.viewer import Viewer
from tests.conftest import QUICK_HASH, Account
from tests.persistence.conftest import Write

pytestmark = pytest.mark.anyio


async def refusal(write: Write, work: Any) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await write(work)
    return caught.value


async def test_an_account_is_found_by_its_address_and_nothing_else(session: Session, account: Account) -> None:
    found = await users.credentials(session, account.email)

    assert found is not None
    assert (found.id, found.role, found.password_hash) == (account.id, "member", QUICK_HASH)
    assert await users.credentials(session, account.email.upper()) is None
    assert await users.credentials(session, "%") is None
    assert await users.password_hash(session, account.id) == QUICK_HASH
    assert await users.password_hash(session, uuid.uuid4()) is None


async def test_somebody_else_is_like_one_who_does_not_exist(write: Write, account: Account, new_account: Any) -> None:
    other = await new_account()
    answers = [
        await refusal(write, work)
        for work in (
            lambda s: users.update(s, other.viewer, account.id, {"name": "x"}),
            lambda s: users.update(s, other.viewer, uuid.uuid4(), {"name": "x"}),
            lambda s: users.delete(s, other.viewer, account.id),
            lambda s: users.delete(s, other.viewer, uuid.uuid4(), if_version=7),
        )
    ]

    assert all(isinstance(answer, NotFound) for answer in answers)
    assert all(vars(answer) == vars(answers[0]) for answer in answers)


async def test_a_stale_version_changes_nothing_and_shows_the_user(write: Write, account: Account) -> None:
    for work in (
        lambda s: users.update(s, account.viewer, account.id, {"name": "x"}, if_version=2),
        lambda s: users.delete(s, account.viewer, account.id, if_version=2),
    ):
        error = await refusal(write, work)

        assert isinstance(error, Conflict)
        assert (error.code, error.current.version, error.current.name) == ("STALE_VERSION", 1, "Ada")


async def test_an_address_that_is_taken_is_refused_in_any_case(
    write: Write, account: Account, new_account: Any
) -> None:
    other = await new_account()

    error = await refusal(
        write, lambda s: users.update(s, other.viewer, other.id, {"email": account.email.upper(), "name": "lost"})
    )

    assert (error.code, error.path) == ("EMAIL_TAKEN", ("email",))
    after = await write(lambda s: users.for_update(s, other.viewer, other.id))
    assert (after.email, after.name) == (other.email, "Ada")


async def test_the_own_address_in_another_case_is_no_change(write: Write, account: Account) -> None:
    after = await write(lambda s: users.update(s, account.viewer, account.id, {"email": f" {account.email.upper()} "}))

    assert (after.email, after.version) == (account.email, 1)


async def admins(engine: AsyncEngine, count: int) -> list[Viewer]:
    async def work(session: Session) -> list[User]:
        return [
            await users.create(session, email=f"{n}@example.org", name="A", password_hash=QUICK_HASH, role=Role.ADMIN)
            for n in range(count)
        ]

    made = await Session(engine).transact(work)
    return [Viewer(user.id, Role.ADMIN, frozenset(Scope), user.id) for user in made]


async def test_the_last_admin_stays(own_database: AsyncEngine) -> None:
    first, last = await admins(own_database, 2)
    await Session(own_database).transact(lambda s: users.delete(s, last, first.id))

    for work in (
        lambda s: users.delete(s, last, last.id),
        lambda s: users.update(s, last, last.id, {"role": Role.MEMBER}),
    ):
        with pytest.raises(Conflict) as caught:
            await Session(own_database).transact(work)
        assert caught.value.code == "LAST_ADMIN"

    renamed = await Session(own_database).transact(lambda s: users.update(s, last, last.id, {"name": "Still"}))
    assert (renamed.name, renamed.role) == ("Still", Role.ADMIN)


async def test_of_admins_who_all_leave_at_once_one_stays(own_database: AsyncEngine) -> None:
    viewers = await admins(own_database, 4)

    def leave(viewer: Viewer) -> Any:
        return Session(own_database).transact(lambda s: users.delete(s, viewer, viewer.id))

    results = await asyncio.gather(*map(leave, viewers), return_exceptions=True)

    refused = [result for result in results if isinstance(result, Conflict)]
    assert [error.code for error in refused] == ["LAST_ADMIN"]
    assert sum(isinstance(result, uuid.UUID) for result in results) == 3
