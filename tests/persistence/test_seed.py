"""Demo data: the same however often and by how many it is made, and everything to show is in it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import access, seed, tokens, users
from persistence.models import Change, Role, Scope, Task, TaskPriority, TaskStatus, Token, User
from persistence.passwords import Passwords
from persistence.session import Session
from persistence.viewer import Viewer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def seeded(own_database: AsyncEngine) -> AsyncIterator[Session]:
    await seed.seed(own_database)
    session = Session(own_database)
    yield session
    await session.close()


async def test_the_demo_accounts_can_sign_in(seeded: Session) -> None:
    for email, role in (("test@example.com", Role.MEMBER), ("admin@example.com", Role.ADMIN)):
        found: Any = await users.credentials(seeded, email)

        assert Role(found.role) is role
        assert await Passwords(1).verify("taskstore-demo", found.password_hash)


async def test_the_demo_tasks_show_what_there_is(seeded: Session) -> None:
    user = (await seeded.scalars(select(User).where(User.email == "test@example.com"))).one()
    rows = list(await seeded.scalars(select(Task).where(Task.owner_id == user.id)))
    now = datetime.now(UTC)
    is_open = (TaskStatus.TODO, TaskStatus.IN_PROGRESS)

    assert len(rows) >= 5
    assert {row.status for row in rows} == set(TaskStatus)
    assert {row.priority for row in rows} == set(TaskPriority)
    assert any(row.due_at and row.due_at < now and row.status in is_open for row in rows)
    assert any(row.due_at and row.due_at > now for row in rows)
    assert any(row.due_at is None for row in rows)
    assert all(row.tags for row in rows)
    assert len({tag for row in rows for tag in row.tags}) > 5


async def test_the_demo_accounts_hold_different_things(seeded: Session) -> None:
    users = list(await seeded.scalars(select(User)))
    titles = [set(await seeded.scalars(select(Task.title).where(Task.owner_id == user.id))) for user in users]

    assert len(titles) == len(seed.ACCOUNTS)
    assert all(titles)
    assert not set.intersection(*titles)


async def numbers(session: Session) -> dict[str, int]:
    counts = {}
    for model in (User, Task, Token):
        counts[model.__name__] = (await session.execute(select(func.count()).select_from(model))).scalar_one()
    await session.rollback()
    return counts


async def test_seeding_again_adds_tokens_only_and_keeps_what_was_changed(
    seeded: Session, own_database: AsyncEngine
) -> None:
    before = await numbers(seeded)

    async def rename(session: Session) -> None:
        task = (await session.scalars(select(Task).limit(1))).one()
        task.title = "renamed"

    await seeded.transact(rename)
    await seed.seed(own_database)

    assert await numbers(seeded) == before | {"Token": before["Token"] + 2}  # one more for each account
    titles = (await seeded.scalars(select(Task.title))).all()
    assert "renamed" in titles


async def test_seeding_at_once_adds_everything_once(own_database: AsyncEngine) -> None:
    await asyncio.gather(*(seed.seed(own_database) for _ in range(3)))

    session = Session(own_database)
    assert await numbers(session) == {"User": 2, "Task": len(seed.TASKS) + len(seed.ADMIN_TASKS), "Token": 6}
    await session.close()


async def test_a_demo_account_that_was_deleted_is_made_anew(seeded: Session, own_database: AsyncEngine) -> None:
    before, demo = await numbers(seeded), select(User.id).where(User.email == "test@example.com")
    id = (await seeded.scalars(demo)).one()
    await seeded.rollback()
    viewer = Viewer(id, Role.MEMBER, frozenset(Scope), id)
    await seeded.transact(lambda s: users.delete(s, viewer, id))

    await seed.seed(own_database)

    assert await numbers(seeded) == before | {"Token": before["Token"] + 1}
    assert (await seeded.scalars(demo)).one() != id


async def test_each_start_has_a_token_that_works(seeded: Session, own_database: AsyncEngine) -> None:
    data = await seed.seed(own_database)

    assert {account.role for account in data.accounts} == set(Role)
    for account in data.accounts:
        viewer = await tokens.authenticate(seeded, account.token)
        assert viewer is not None
        assert access.administers(viewer) is (account.role is Role.ADMIN)
        assert viewer.scopes >= {Scope.READ, Scope.WRITE}
        assert viewer.expires_at is not None


async def test_the_tokens_of_the_last_starts_stay_good(seeded: Session, own_database: AsyncEngine) -> None:
    starts = [await seed.seed(own_database) for _ in range(seed.TOKENS_KEPT + 1)]

    good = [await tokens.authenticate(seeded, start.accounts[0].token) is not None for start in starts]
    assert good == [False] + [True] * seed.TOKENS_KEPT


async def test_the_demo_data_is_in_the_change_log(seeded: Session) -> None:
    actions = (await seeded.execute(select(Change.entity, Change.action).where(Change.entity == "Task"))).all()

    assert len(actions) == len(seed.TASKS) + len(seed.ADMIN_TASKS)


async def test_the_representation_of_demo_data_shows_no_secret(own_database: AsyncEngine) -> None:
    data = await seed.seed(own_database)

    assert data.accounts[0].token not in repr(data)
    assert seed.PASSWORD not in repr(data)
