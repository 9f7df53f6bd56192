"""Tasks: who may do what to which, and in which state."""

import functools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from persistence import tasks
from persistence.models import TaskStatus
from persistence.rules.errors import Conflict, DomainError, Forbidden, NotFound
from tests.conftest import Account
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio

Act = Callable[..., Awaitable[Any]]

ACTS: dict[str, Act] = {
    "update": functools.partial(tasks.update, given={"title": "changed"}),
    "complete": tasks.complete,
    "reopen": tasks.reopen,
    "delete": tasks.delete,
    "restore": tasks.restore,
    "purge": tasks.purge,
}


async def refusal(write: Write, work: Any) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await write(work)
    return caught.value


@pytest.mark.parametrize("name", ACTS)
async def test_somebody_elses_task_is_like_one_that_does_not_exist(
    write: Write, account: Account, new_account: Any, name: str
) -> None:
    other = await new_account()
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))

    foreign = await refusal(write, lambda s: ACTS[name](s, other.viewer, task.id))
    missing = await refusal(write, lambda s: ACTS[name](s, other.viewer, uuid.uuid4()))
    with_version = await refusal(write, lambda s: ACTS[name](s, other.viewer, task.id, 7))

    assert isinstance(foreign, NotFound)
    assert vars(foreign) == vars(missing) == vars(with_version)
    after = await write(lambda s: tasks.for_update(s, account.viewer, task.id))
    assert (after.version, after.title) == (1, "x")


@pytest.mark.parametrize("name", ACTS)
async def test_an_admin_may_do_it_to_everybodys_task(
    write: Write, raw: Raw, account: Account, admin: Account, name: str
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))

    await write(lambda s: ACTS[name](s, admin.viewer, task.id, 1))

    # What it is already costs no version.
    versions = [row.version for row in await raw("SELECT version FROM tasks WHERE id = :id", id=task.id)]
    assert versions == {"purge": [], "reopen": [1], "restore": [1]}.get(name, [2])


@pytest.mark.parametrize("name", ACTS)
async def test_a_stale_version_changes_nothing_and_shows_the_task_as_it_is(
    write: Write, account: Account, name: str
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))
    await write(lambda s: tasks.update(s, account.viewer, task.id, 1, given={"title": "y"}))

    error = await refusal(write, lambda s: ACTS[name](s, account.viewer, task.id, 1))

    assert isinstance(error, Conflict)
    assert (error.code, error.path) == ("STALE_VERSION", ("ifVersion",))
    assert (error.current.version, error.current.title, error.current.is_deleted) == (2, "y", False)


@pytest.mark.parametrize("name", ["update", "complete", "reopen"])
async def test_a_task_in_the_trash_is_restored_before_it_is_edited(write: Write, account: Account, name: str) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))
    await write(lambda s: tasks.delete(s, account.viewer, task.id))

    error = await refusal(write, lambda s: ACTS[name](s, account.viewer, task.id))

    assert isinstance(error, Conflict)
    assert (error.code, error.current.version) == ("IN_TRASH", 2)


async def test_restoring_gives_back_what_was_deleted(write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x", tags=["a"], status=TaskStatus.DONE))
    await write(lambda s: tasks.delete(s, account.viewer, task.id, 1))

    back = await write(lambda s: tasks.restore(s, account.viewer, task.id, 2))

    assert (back.title, back.tags, back.status, back.completed_at) == ("x", ["a"], TaskStatus.DONE, task.completed_at)
    assert (back.deleted_at, back.version) == (None, 3)


async def test_a_task_in_the_trash_can_be_purged(write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))
    await write(lambda s: tasks.delete(s, account.viewer, task.id))

    assert await write(lambda s: tasks.purge(s, account.viewer, task.id)) == task.id
    assert isinstance(await refusal(write, lambda s: tasks.restore(s, account.viewer, task.id)), NotFound)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TaskStatus.TODO, TaskStatus.TODO),
        (TaskStatus.IN_PROGRESS, TaskStatus.IN_PROGRESS),
        (TaskStatus.DONE, TaskStatus.TODO),
        (TaskStatus.CANCELLED, TaskStatus.TODO),
    ],
)
async def test_reopening_makes_a_finished_task_open_again(
    write: Write, account: Account, before: TaskStatus, after: TaskStatus
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x", status=before))

    opened = await write(lambda s: tasks.reopen(s, account.viewer, task.id))

    assert (opened.status, opened.completed_at) == (after, None)


async def test_the_completion_time_is_there_exactly_while_a_task_is_done(write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))
    for status in (TaskStatus.DONE, TaskStatus.IN_PROGRESS, TaskStatus.DONE, TaskStatus.CANCELLED):
        given = {"status": status}

        task = await write(functools.partial(tasks.update, viewer=account.viewer, id=task.id, given=given))

        assert (task.completed_at is not None) == (status is TaskStatus.DONE)


async def test_only_an_admin_creates_tasks_for_somebody_else(
    write: Write, account: Account, admin: Account, new_account: Any
) -> None:
    other = await new_account()

    made = await write(lambda s: tasks.create(s, admin.viewer, owner_id=account.id, title="x"))
    refused = await refusal(write, lambda s: tasks.create(s, other.viewer, owner_id=account.id, title="x"))
    nobody = await refusal(write, lambda s: tasks.create(s, admin.viewer, owner_id=uuid.uuid4(), title="x"))
    own = await write(lambda s: tasks.create(s, other.viewer, owner_id=other.id, title="x"))

    assert (made.owner_id, own.owner_id) == (account.id, other.id)
    assert isinstance(refused, Forbidden)
    assert isinstance(nobody, NotFound)
    assert refused.path == nobody.path == ("ownerId",)


async def test_an_id_that_is_taken_shows_the_task_only_to_who_may_see_it(
    write: Write, account: Account, new_account: Any
) -> None:
    other = await new_account()
    task = await write(lambda s: tasks.create(s, account.viewer, id=uuid.uuid4(), title="x"))

    mine = await refusal(write, lambda s: tasks.create(s, account.viewer, id=task.id, title="y"))
    theirs = await refusal(write, lambda s: tasks.create(s, other.viewer, id=task.id, title="y"))

    assert isinstance(mine, Conflict)
    assert isinstance(theirs, Conflict)
    assert (mine.code, theirs.code) == ("ID_TAKEN", "ID_TAKEN")
    assert mine.current.title == "x"
    assert theirs.current is None
