"""Tasks: everything that can be done with them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from persistence import access
from persistence.lists.filters import filterable
from persistence.lists.listing import Listing, sorts_by_column
from persistence.models import Task, TaskStatus, User
from persistence.models.ids import new_id
from persistence.models.tasks import DESCRIPTION_MAX, TITLE_MAX
from persistence.rules.errors import Conflict, Forbidden, NotFound
from persistence.rules.text import lines
from persistence.rules.validation import Checked
from persistence.session import Session
from persistence.users import LISTING as USERS
from persistence.viewer import Viewer
from persistence.writes import changes, editing, idempotency, rights

LISTING = Listing(
    model=Task,
    filterable=filterable(Task, owner=USERS.filterable),
    sorts=sorts_by_column(Task),
    parent=Task.owner_id,
    search=Task.search,
    soft_deleted=Task.deleted_at,
)


async def create(
    session: Session,
    viewer: Viewer,
    *,
    id: UUID | None = None,
    owner_id: UUID | None = None,
    title: str,
    **given: Any,
) -> Task:
    """A new task of the viewer, or of `owner_id` when an admin asks; `given` holds further columns.

    Raises `Invalid`, `Forbidden`, `NotFound` (the owner) and `Conflict` (the id is taken).
    """
    task = Task(**new(viewer, checked({"title": title, **given}), id=id, owner_id=owner_id))
    if access.for_others(viewer.id, task.owner_id) and await rights.reach(session, viewer) is not access.Reach.ALL:
        raise not_for_others()
    if await session.get(User, task.owner_id) is None:
        raise NotFound("user", path=("ownerId",))
    if (existing := await session.get(Task, task.id)) is not None:
        visible = existing if access.sees(viewer, existing) else None
        raise Conflict("This id is taken.", code="ID_TAKEN", path=("id",), current=visible)
    session.add(task)
    await session.flush()
    return task


def new(
    viewer: Viewer, values: Mapping[str, Any], *, id: UUID | None = None, owner_id: UUID | None = None
) -> dict[str, Any]:
    """The columns of a new task from values that are checked; columns that have a default may be absent.

    Raises `Forbidden`.
    """
    owner = owner_id or viewer.id
    if not access.makes(viewer, owner):
        raise not_for_others()
    completed_at = Task.completion(values.get("status", TaskStatus.TODO), now())
    return {**values, "id": id or new_id(), "owner_id": owner, "completed_at": completed_at}


def not_for_others() -> Forbidden:
    return Forbidden("Only an admin creates tasks for somebody else.", path=("ownerId",))


async def for_update(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> Task:
    """A task the viewer may edit, locked. Raises as `editing.for_update`."""
    return await editing.for_update(session, viewer, Task, id, if_version)


async def active_for_update(session: Session, viewer: Viewer, id: UUID, if_version: int | None) -> Task:
    """The same, and not in the trash."""
    task = await for_update(session, viewer, id, if_version)
    if task.is_deleted:
        raise Conflict("The task is in the trash; restore it first.", code="IN_TRASH", path=("id",), current=task)
    return task


async def update(
    session: Session,
    viewer: Viewer,
    id: UUID,
    if_version: int | None = None,
    *,
    given: Mapping[str, Any],
    add_tags: Sequence[str] = (),
    remove_tags: Sequence[str] = (),
) -> Task:
    """Edit a task. `given` holds the fields to change; `tags` replaces them all, before tags are added and removed."""
    task = await active_for_update(session, viewer, id, if_version)
    tags = list(given.get("tags", task.tags))
    values = checked({**given, "tags": tags}, add_tags=add_tags, remove_tags=remove_tags)
    if "status" in values:
        task.move_to(values.pop("status"), now())
    for field, value in values.items():
        setattr(task, field, value)
    return task


async def complete(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> Task:
    """Mark a task as done. Completing is idempotent: a completed task keeps its first completion time."""
    task = await active_for_update(session, viewer, id, if_version)
    task.move_to(TaskStatus.DONE, now())
    return task


async def reopen(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> Task:
    """Take up a task that was done or cancelled; one that is open stays as it is."""
    task = await active_for_update(session, viewer, id, if_version)
    if task.status in (TaskStatus.DONE, TaskStatus.CANCELLED):
        task.move_to(TaskStatus.TODO, now())
    return task


async def delete(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> Task:
    """Move a task to the trash; one that is there stays as it is."""
    task = await for_update(session, viewer, id, if_version)
    if not task.is_deleted:
        task.deleted_at = now()
    return task


async def restore(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> Task:
    """Take a task out of the trash; one that is not there stays as it is."""
    task = await for_update(session, viewer, id, if_version)
    task.deleted_at = None
    return task


async def purge(session: Session, viewer: Viewer, id: UUID, if_version: int | None = None) -> UUID:
    """Delete a task for good. The log keeps that it was, and forgets what it was."""
    task = await for_update(session, viewer, id, if_version)
    await session.delete(task)
    await session.flush()
    await changes.forget(session, task)
    await idempotency.forget_answers_with(session, task.id, task.owner_id)
    return task.id


def checked(
    given: Mapping[str, Any],
    *,
    add_tags: Sequence[str] = (),
    remove_tags: Sequence[str] = (),
    rules: Checked | None = None,
) -> dict[str, Any]:
    """The values as they are stored. Raises `Invalid` with every problem, those that `rules` has found before too."""
    rules, values = rules or Checked(), dict(given)
    if "title" in values:
        values["title"] = rules.text(values["title"], "title", at_least=1, at_most=TITLE_MAX)
    if "description" in values:
        values["description"] = rules.text(values["description"], "description", at_most=DESCRIPTION_MAX, form=lines)
    if "tags" in values:
        tags = rules.tags(values["tags"])
        if add_tags or remove_tags:
            removed = set(rules.tags(remove_tags, "removeTags"))
            added = rules.tags(add_tags, "addTags")
            tags = [tag for tag in dict.fromkeys([*tags, *added]) if tag not in removed]
        values["tags"] = tags
        rules.tag_count(tags, "addTags" if add_tags else "tags")
    rules.done()
    return values


def now() -> datetime:
    return datetime.now(UTC)
