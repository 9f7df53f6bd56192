"""Users in the API. What a user does with the own account is in `graph.accounts`."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import strawberry

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
    NullsOrder,
    OrderDirection,
    Search,
    of_list,
)
from graph.lists.connections import Connection, connect, connections
from graph.lists.filters import (
    AND,
    NOT,
    OR,
    DateTimeFilter,
    EnumFilter,
    IDFilter,
    StringFilter,
    filter_field,
    filter_list,
)
from graph.request.columns import selected_columns
from graph.request.context import Info
from graph.request.refusals import unauthenticated
from graph.tasks import WHICH, Task, TaskFilter, TaskOrder
from graph.tokens import Token, TokenOrder
from graph.types.enums import described
from graph.types.node import Node, batched
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
from persistence import access, nodes, tasks, tokens, users
from persistence.access import Reach
from persistence.lists.listing import Listing, Trash
from persistence.models import Role
from persistence.models import User as UserRow
from persistence.models.ids import parse_id
from persistence.rules.validation import Checked
from persistence.session import Session
from persistence.viewer import Viewer

EMAIL = (
    "The address to sign in with, such as ada@example.org; upper and lower case are the same, "
    "and so are a domain and its form in DNS (xn--)."
)
NAME = "What to call the user: one line of 1 to 200 characters."
TIME_ZONE = "A time zone of the IANA database, such as Europe/Berlin."
PASSWORD = "The password: at least 10 characters, without blanks at its ends."  # noqa: S105  # its description


def of_each(kind: type, listing: Listing) -> Callable[..., Any]:
    """What stands in for the resolver of a list below a user, for many users at once."""

    def resolve(users: list[Any], info: Info, **arguments: Any) -> Any:
        if not access.sees_all(info.context.reader(), users):
            return NotImplemented
        return connections(info, kind, listing, Arguments(**arguments)).load_many([user.id for user in users])

    return resolve


@strawberry.type(description="Somebody with an account. Only the viewer's own is visible, and to admins everybody's.")
class User(Node):
    email: str = strawberry.field(
        description="The address to sign in with, in lower case, its domain as in DNS (xn--)."
    )
    name: str = strawberry.field(description="What to call them.")
    time_zone: str = strawberry.field(description="Where their days begin: a time zone of the IANA database.")
    role: Role = strawberry.field(description="What they may do.")
    version: int = strawberry.field(description="Counts the states of the account: 1, 2, 3, ... For `ifVersion`.")
    created_at: datetime = strawberry.field(description="When they signed up.")
    updated_at: datetime = strawberry.field(description="When the account was changed last.")

    @strawberry.field(
        description="Their tasks, newest first unless said otherwise.",
        metadata=batched(of_each(Task, tasks.LISTING)) | of_list(tasks.LISTING),
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
    ) -> Connection[Task]:
        arguments = Arguments(first, after, last, before, filter, order_by, search, trash)
        return connections(info, Task, tasks.LISTING, arguments).load(own(info, self))  # type: ignore[no-any-return]  # an awaitable

    @strawberry.field(
        description="Their tokens, newest first unless said otherwise.",
        metadata=batched(of_each(Token, tokens.LISTING)) | of_list(tokens.LISTING),
    )
    def tokens(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        order_by: Annotated[list[TokenOrder] | None, SORT_KEYS] = None,
    ) -> Connection[Token]:
        arguments = Arguments(first, after, last, before, order_by=order_by)
        return connections(info, Token, tokens.LISTING, arguments).load(own(info, self))  # type: ignore[no-any-return]  # an awaitable


def own(info: Info, user: User) -> UUID:
    """The id of a user whose things the viewer may see. Raises `RequestError`."""
    if not access.sees(info.context.reader(), user):
        raise unauthenticated()
    return user.id  # type: ignore[return-value]  # a row's id is a UUID


@strawberry.input(description="Which users. All conditions that are given must hold.")
class UserFilter:
    id: strawberry.Maybe[IDFilter] = filter_field("Their id.")
    email: strawberry.Maybe[StringFilter] = filter_field(
        "Their address, which is in lower case, its domain as in DNS (xn--)."
    )
    name: strawberry.Maybe[StringFilter] = filter_field("Their name.")
    time_zone: strawberry.Maybe[StringFilter] = filter_field("Their time zone.")
    role: strawberry.Maybe[EnumFilter[Role]] = filter_field("Their role.")
    created_at: strawberry.Maybe[DateTimeFilter] = filter_field("When they signed up.")
    updated_at: strawberry.Maybe[DateTimeFilter] = filter_field("When the account was changed last.")
    and_: strawberry.Maybe[list["UserFilter"]] = filter_list(AND, "and")
    or_: strawberry.Maybe[list["UserFilter"]] = filter_list(OR, "or")
    not_: strawberry.Maybe["UserFilter"] = filter_field(NOT, "not")


class UserOrderField(StrEnum):
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    EMAIL = "email"
    NAME = "name"


described(
    UserOrderField,
    "What users can be sorted by.",
    {
        "CREATED_AT": "When they signed up.",
        "UPDATED_AT": "When the account was changed last.",
        "EMAIL": "Their address.",
        "NAME": "Their name, as people sort names: letters by alphabet, digits as numbers.",
    },
)


@strawberry.input(description="A sort key of a list of users.")
class UserOrder:
    field: UserOrderField = strawberry.field(description="What to sort by.")
    direction: OrderDirection = strawberry.field(description=DIRECTION, default=OrderDirection.ASC)
    nulls: NullsOrder | None = strawberry.field(description=NULLS, default=None)


@strawberry.type
class UserQuery:
    @strawberry.field(description="Who is signed in.")
    def viewer(self, info: Info) -> User | None:
        return visible_user(info, info.context.reader().id)

    @strawberry.field(description="The user with this id; null: there is none that the viewer may see.")
    def user(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The user.")]
    ) -> User | None:
        info.context.reader()
        key = parse_id(id)
        return None if key is None else visible_user(info, key)

    @strawberry.field(
        description="All users, newest first unless said otherwise. For admins; others get null and an error.",
        metadata=of_list(users.LISTING),
    )
    def users(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[
            UserFilter | None, strawberry.argument(description="Which users are listed; absent: all.")
        ] = None,
        order_by: Annotated[list[UserOrder] | None, SORT_KEYS] = None,
    ) -> Connection[User] | None:
        arguments = Arguments(first, after, last, before, filter, order_by)
        return connect(info, User, users.LISTING, arguments, Reach.ALL)  # type: ignore[no-any-return]  # an awaitable


def visible_user(info: Info, id: UUID) -> User | None:
    return nodes.find(info.context.session, info.context.reader(), UserRow, id, selected_columns(info))  # type: ignore[return-value]  # an awaitable


@strawberry.input(description="The account to make. For admins.")
class CreateUserInput:
    email: str = given(EMAIL)
    name: str = given(NAME)
    password: str = given(PASSWORD)
    time_zone: str | None = unless_given(TIME_ZONE, "UTC")
    role: Role | None = unless_given("What they may do.", Role.MEMBER)
    id: strawberry.Maybe[strawberry.ID] = unless_given(CLIENT_ID)
    idempotency_key: strawberry.Maybe[str] = unless_given(IDEMPOTENCY_KEY)


@strawberry.input(description="What to change of an account. What is absent stays as it is. For admins.")
class UpdateUserInput:
    id: strawberry.ID = given("The user.")
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    email: strawberry.Maybe[str] = optional(EMAIL)
    name: strawberry.Maybe[str] = optional(NAME)
    time_zone: strawberry.Maybe[str] = optional(TIME_ZONE)
    role: strawberry.Maybe[Role] = optional("What they may do.")
    password: strawberry.Maybe[str] = optional("A new password; it ends all sessions of the user.")
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.input(description="The account to delete, with all that it owns. For admins.")
class DeleteUserInput:
    id: strawberry.ID = given("The user.")
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


def new_account(input: Any, rules: Checked) -> dict[str, Any]:
    """The values of an account to make, but for the password, which is only checked."""
    rules.password(input.password)
    return {
        "email": rules.email(input.email),
        "name": rules.name(input.name),
        "time_zone": rules.time_zone(input.time_zone),
    }


@strawberry.type(description="The new user.")
class CreateUserPayload(Payload):
    user: User | None = strawberry.field(description="The user; null when there are errors.", default=None)


@strawberry.type(description="The changed user.")
class UpdateUserPayload(Payload):
    user: User | None = strawberry.field(description="The user; null when there are errors.", default=None)


@strawberry.type(description="What was deleted.")
class DeleteUserPayload(Payload):
    deleted_user_id: strawberry.ID | None = strawberry.field(
        description="The id of the user who is no more; null when there are errors.", default=None
    )


@strawberry.type
class UserMutation:
    @mutation("Make an account for somebody. For admins.")
    async def create_user(self, info: Info, input: CreateUserInput) -> CreateUserPayload:
        info.context.admin()
        rules = rules_of(input)
        id, account = client_id(input.id, rules), new_account(input, rules)
        rules.done()
        password_hash = await info.context.services.passwords.hash(input.password)

        async def work(session: Session, admin: Viewer) -> dict[str, UserRow]:
            user = await users.create(
                session,
                id=id,
                password_hash=password_hash,
                **account,
                role=input.role or Role.MEMBER,
            )
            return {"user": user}

        return await info.context.govern(CreateUserPayload, input, work, as_admin=True)

    @mutation("Change somebody's account. For admins.")
    async def update_user(self, info: Info, input: UpdateUserInput) -> UpdateUserPayload:
        info.context.admin()
        id = existing_id(input.id, "user")
        values, rules = present(input, UserRow), rules_of(input)
        if input.password:
            rules.password(input.password.value)
        users.checked(values, rules)
        if input.password:
            values["password_hash"] = await info.context.services.passwords.hash(input.password.value)

        async def work(session: Session, admin: Viewer) -> dict[str, UserRow]:
            user = await users.update(session, admin, id, values, if_version=if_version(input))
            if "password_hash" in values:
                await tokens.revoke_sessions(session, id)
            return {"user": user}

        return await info.context.govern(UpdateUserPayload, input, work, user_id=id, as_admin=True)

    @mutation("Delete somebody's account and all that it owns, for good. For admins.")
    async def delete_user(self, info: Info, input: DeleteUserInput) -> DeleteUserPayload:
        info.context.admin()
        id = existing_id(input.id, "user")
        rules_of(input).done()

        async def work(session: Session, admin: Viewer) -> dict[str, UUID]:
            return {"deleted_user_id": await users.delete(session, admin, id, if_version=if_version(input))}

        return await info.context.govern(DeleteUserPayload, input, work, user_id=id, as_admin=True)
