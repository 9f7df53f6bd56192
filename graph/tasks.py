"""Tasks in the API."""

import functools
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import strawberry

from graph.execution.preparing.lookahead import selected
from graph.lists.arguments import (
    DIRECTION,
    NULLS,
    SORT_KEYS,
    After,
    Arguments,
    Before,
    First,
    InTrash,
    Last,
    ListScope,
    NullsOrder,
    OrderDirection,
    Scope,
    Search,
    of_list,
)
from graph.lists.connections import Connection, connect
from graph.lists.filters import (
    AND,
    NOT,
    OR,
    DateTimeFilter,
    EnumFilter,
    IDFilter,
    IntFilter,
    StringFilter,
    TagsFilter,
    filter_field,
    filter_list,
)
from graph.request.columns import columns_of, joined, load, once_per_field, selected_columns
from graph.request.context import Info
from graph.types.enums import described
from graph.types.node import Node, joins, needs
from graph.writes.mutations import (
    CLIENT_ID,
    IDEMPOTENCY_KEY,
    IF_VERSION,
    Payload,
    client_id,
    existing_id,
    given,
    if_version,
    mutation,
    optional,
    present,
    rules_of,
    unless_given,
)
from persistence import nodes, tasks
from persistence.lists.listing import Trash
from persistence.models import Task as TaskRow
from persistence.models import TaskPriority, TaskStatus
from persistence.models import User as UserRow
from persistence.models.ids import parse_id
from persistence.session import Session
from persistence.viewer import Viewer

if TYPE_CHECKING:
    User = Any
    UserFilter = Any
else:  # another noun is known by its name only, which is looked up when all are there
    User = Annotated["User", strawberry.lazy("graph.users")]
    UserFilter = Annotated["UserFilter", strawberry.lazy("graph.users")]


OPEN = (TaskStatus.TODO, TaskStatus.IN_PROGRESS)


@strawberry.type(description="Something to do.")
class Task(Node):
    title: str = strawberry.field(description="What is to be done: one line of 1 to 500 characters.")
    description: str = strawberry.field(description="More about it, in Markdown: at most 10,000 characters.")
    status: TaskStatus = strawberry.field(description="How far it is.")
    priority: TaskPriority = strawberry.field(description="How much it matters.")
    tags: list[str] = strawberry.field(
        description="Words to find it by: at most 20, folded; of those that look alike one."
    )
    due_at: datetime | None = strawberry.field(description="When it should be done.")
    completed_at: datetime | None = strawberry.field(description="When it was completed; there exactly if DONE.")
    version: int = strawberry.field(description="Counts its states: 1, 2, 3, ... For `ifVersion`.")
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")
    deleted_at: datetime | None = strawberry.field(description="Since when it is in the trash; null: it is not.")
    owner_id: strawberry.Private[UUID]

    @strawberry.field(description="Whether it is DONE.", metadata=needs("status"))
    def completed(self) -> bool:
        return self.status == TaskStatus.DONE

    @strawberry.field(description="Whether it is open and its due time is over.", metadata=needs("due_at", "status"))
    def overdue(self, info: Info) -> bool:
        return self.due_at is not None and self.due_at < info.context.now and self.status in OPEN

    @strawberry.field(description="Whose it is.", metadata=needs("owner_id") | joins("owner"))
    def owner(self, info: Info) -> User:
        # The viewer sees the task, so the viewer is its owner or an admin.
        return joined(self, "owner") or load(info, UserRow, self.owner_id)  # or a future


@strawberry.input(description="Which tasks. All conditions that are given must hold.")
class TaskFilter:
    id: strawberry.Maybe[IDFilter] = filter_field("Its id.")
    title: strawberry.Maybe[StringFilter] = filter_field("Its title.")
    description: strawberry.Maybe[StringFilter] = filter_field("Its description.")
    status: strawberry.Maybe[EnumFilter[TaskStatus]] = filter_field("Its status.")
    priority: strawberry.Maybe[EnumFilter[TaskPriority]] = filter_field("Its priority.")
    tags: strawberry.Maybe[TagsFilter] = filter_field("Its tags.")
    due_at: strawberry.Maybe[DateTimeFilter] = filter_field("When it should be done.")
    completed_at: strawberry.Maybe[DateTimeFilter] = filter_field("When it was completed.")
    created_at: strawberry.Maybe[DateTimeFilter] = filter_field("When it was made.")
    updated_at: strawberry.Maybe[DateTimeFilter] = filter_field("When it was changed last.")
    deleted_at: strawberry.Maybe[DateTimeFilter] = filter_field("Since when it is in the trash.")
    version: strawberry.Maybe[IntFilter] = filter_field("Its version.")
    owner: strawberry.Maybe[UserFilter] = filter_field("Its owner.")
    and_: strawberry.Maybe[list["TaskFilter"]] = filter_list(AND, "and")
    or_: strawberry.Maybe[list["TaskFilter"]] = filter_list(OR, "or")
    not_: strawberry.Maybe["TaskFilter"] = filter_field(NOT, "not")


WHICH = "Which tasks are listed; absent: all."


class TaskOrderField(StrEnum):
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    DUE = "due_at"
    COMPLETED_AT = "completed_at"
    PRIORITY = "priority"
    STATUS = "status"
    TITLE = "title"


described(
    TaskOrderField,
    "What tasks can be sorted by.",
    {
        "CREATED_AT": "When it was made.",
        "UPDATED_AT": "When it was changed last.",
        "DUE": "When it should be done.",
        "COMPLETED_AT": "When it was completed.",
        "PRIORITY": "How much it matters, from LOW to URGENT.",
        "STATUS": "How far it is, in the order TODO, IN_PROGRESS, DONE, CANCELLED.",
        "TITLE": "Its title, as people sort: letters by alphabet, digits as numbers.",
    },
)


@strawberry.input(description="A sort key of a list of tasks.")
class TaskOrder:
    field: TaskOrderField = strawberry.field(description="What to sort by.")
    direction: OrderDirection = strawberry.field(description=DIRECTION, default=OrderDirection.ASC)
    nulls: NullsOrder | None = strawberry.field(description=NULLS, default=None)


TITLE = "What is to be done: one line of 1 to 500 characters."
DESCRIPTION = "More about it, in Markdown: at most 10,000 characters."
DUE_AT = "When it should be done; null: no particular time."
TASK = "The task."


@strawberry.input(description="The task to make.")
class CreateTaskInput:
    title: str = given(TITLE)
    description: str | None = unless_given(DESCRIPTION, "")
    status: TaskStatus | None = unless_given("How far it is.", TaskStatus.TODO)
    priority: TaskPriority | None = unless_given("How much it matters.", TaskPriority.MEDIUM)
    tags: list[str] | None = unless_given("Words to find it by.", [])
    due_at: strawberry.Maybe[datetime | None] = unless_given(DUE_AT)
    owner_id: strawberry.Maybe[strawberry.ID] = unless_given("Whose it is, when an admin makes it for somebody else.")
    id: strawberry.Maybe[strawberry.ID] = unless_given(CLIENT_ID)
    idempotency_key: strawberry.Maybe[str] = unless_given(IDEMPOTENCY_KEY)


@strawberry.input(description="What to change of a task. What is absent stays as it is.")
class UpdateTaskInput:
    id: strawberry.ID = given(TASK)
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    title: strawberry.Maybe[str] = optional(TITLE)
    description: strawberry.Maybe[str] = optional(DESCRIPTION)
    status: strawberry.Maybe[TaskStatus] = optional("How far it is.")
    priority: strawberry.Maybe[TaskPriority] = optional("How much it matters.")
    tags: strawberry.Maybe[list[str]] = optional("All its tags; those it has are replaced.")
    add_tags: strawberry.Maybe[list[str]] = optional("Tags to add to those it has.")
    remove_tags: strawberry.Maybe[list[str]] = optional("Tags to take away.")
    due_at: strawberry.Maybe[datetime | None] = optional(DUE_AT)
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.input
class TaskInput:
    """The fields of an input that names a task."""

    id: strawberry.ID = given(TASK)
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.input(description="The task to complete.")
class CompleteTaskInput(TaskInput):
    pass


@strawberry.input(description="The task to take up again.")
class ReopenTaskInput(TaskInput):
    pass


@strawberry.input(description="The task to move to the trash.")
class DeleteTaskInput(TaskInput):
    pass


@strawberry.input(description="The task to take out of the trash.")
class RestoreTaskInput(TaskInput):
    pass


@strawberry.input(description="The task to delete for good.")
class PurgeTaskInput(TaskInput):
    pass


@strawberry.type
class TaskPayload(Payload):
    task: Task | None = strawberry.field(description="The task; null when there are errors.", default=None)


@strawberry.type(description="The new task.")
class CreateTaskPayload(TaskPayload):
    pass


@strawberry.type(description="The changed task.")
class UpdateTaskPayload(TaskPayload):
    pass


@strawberry.type(description="The completed task.")
class CompleteTaskPayload(TaskPayload):
    pass


@strawberry.type(description="The task, open again.")
class ReopenTaskPayload(TaskPayload):
    pass


@strawberry.type(description="The task in the trash.")
class DeleteTaskPayload(TaskPayload):
    pass


@strawberry.type(description="The task out of the trash.")
class RestoreTaskPayload(TaskPayload):
    pass


@strawberry.type(description="What was purged.")
class PurgeTaskPayload(Payload):
    purged_task_id: strawberry.ID | None = strawberry.field(
        description="The id of the task that is no more; null when there are errors.", default=None
    )


@strawberry.type
class TaskQuery:
    @strawberry.field(description="The task with this id, in the trash or not; null: there is none for the viewer.")
    def task(self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description=TASK)]) -> Task | None:
        viewer, key = info.context.reader(), parse_id(id)
        if key is None:
            return None
        return nodes.find(info.context.session, viewer, TaskRow, key, selected_columns(info))  # type: ignore[return-value]  # an awaitable

    @strawberry.field(
        description="The viewer's tasks, newest first unless said otherwise.", metadata=of_list(tasks.LISTING)
    )
    def tasks(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[TaskFilter | None, strawberry.argument(description=WHICH)] = None,
        order_by: Annotated[list[TaskOrder] | None, SORT_KEYS] = None,
        search: Search = None,
        trash: InTrash = Trash.EXCLUDE,
        scope: Scope = ListScope.OWN,
    ) -> Connection[Task]:
        arguments = Arguments(first, after, last, before, filter, order_by, search, trash, scope)
        return connect(info, Task, tasks.LISTING, arguments)  # type: ignore[no-any-return]  # an awaitable


P = TypeVar("P", bound=TaskPayload)


async def change(
    info: Info, payload: type[P], input: Any, act: Callable[[Session, Viewer, UUID, int | None], Awaitable[TaskRow]]
) -> P:
    """Run a change of one task, which `input` names, and answer with the task."""
    viewer = info.context.writer()

    rules_of(input).done()

    async def work(session: Session) -> dict[str, TaskRow]:
        return {"task": await act(session, viewer, existing_id(input.id, "task"), if_version(input))}

    return await info.context.write(payload, input, work)


@strawberry.type
class TaskMutation:
    @mutation("Make a task.")
    async def create_task(self, info: Info, input: CreateTaskInput) -> CreateTaskPayload:
        viewer, rules = info.context.writer(), rules_of(input)
        id = client_id(input.id, rules)
        values = tasks.checked(present(input, TaskRow), rules=rules)
        owner_id = existing_id(input.owner_id.value, "user", "ownerId") if input.owner_id else None
        row = tasks.new(viewer, values, id=id, owner_id=owner_id)

        async def work(session: Session) -> dict[str, TaskRow]:
            return {"task": await tasks.create(session, viewer, id=row["id"], owner_id=owner_id, **values)}

        columns = once_per_field(info, "task", lambda: columns_of(Task, selected(info, "task")))
        return await info.context.create(CreateTaskPayload, input, "task", TaskRow, row, columns, work)

    @mutation("Change a task.")
    async def update_task(self, info: Info, input: UpdateTaskInput) -> UpdateTaskPayload:
        values = present(input, TaskRow)
        add, remove = (given.value if given else [] for given in (input.add_tags, input.remove_tags))
        # What is wrong whatever the task is like; with its tags the task itself is checked again.
        tasks.checked({"tags": [], **values}, add_tags=add, remove_tags=remove, rules=rules_of(input))
        act = functools.partial(tasks.update, given=values, add_tags=add, remove_tags=remove)
        return await change(info, UpdateTaskPayload, input, act)

    @mutation("Complete a task. Completing twice is no error, and the first time stays.")
    async def complete_task(self, info: Info, input: CompleteTaskInput) -> CompleteTaskPayload:
        return await change(info, CompleteTaskPayload, input, tasks.complete)

    @mutation("Take up a task again that is done or cancelled: it becomes TODO.")
    async def reopen_task(self, info: Info, input: ReopenTaskInput) -> ReopenTaskPayload:
        return await change(info, ReopenTaskPayload, input, tasks.reopen)

    @mutation("Move a task to the trash, from where it can be restored.")
    async def delete_task(self, info: Info, input: DeleteTaskInput) -> DeleteTaskPayload:
        return await change(info, DeleteTaskPayload, input, tasks.delete)

    @mutation("Take a task out of the trash.")
    async def restore_task(self, info: Info, input: RestoreTaskInput) -> RestoreTaskPayload:
        return await change(info, RestoreTaskPayload, input, tasks.restore)

    @mutation("Delete a task for good, in the trash or not. There is no way back.")
    async def purge_task(self, info: Info, input: PurgeTaskInput) -> PurgeTaskPayload:
        viewer = info.context.writer()

        async def work(session: Session) -> dict[str, UUID]:
            return {
                "purged_task_id": await tasks.purge(session, viewer, existing_id(input.id, "task"), if_version(input))
            }

        return await info.context.write(PurgeTaskPayload, input, work)
