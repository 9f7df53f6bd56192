"""The schema: the fields of all entities put together."""

from datetime import datetime

import strawberry
from graphql import lexicographic_sort_schema, print_schema
from strawberry.schema.config import StrawberryConfig

from graph.accounts import AccountMutation
from graph.clock import ClockSubscription
from graph.nodes import NodeQuery
from graph.tasks import TaskMutation, TaskQuery
from graph.tokens import TokenMutation
from graph.types.scalars import DateTime
from graph.users import UserMutation, UserQuery
from graph.writes.errors import USER_ERRORS
from graph.writes.inputs import refuse_nulls


@strawberry.type(description="What can be read.")
class Query(UserQuery, TaskQuery, NodeQuery):
    pass


@strawberry.type(description="What can be changed. Each field runs in a transaction of its own, one after another.")
class Mutation(AccountMutation, TokenMutation, TaskMutation, UserMutation):
    pass


@strawberry.type(description="What can be followed, over a WebSocket. Every event is authenticated anew.")
class Subscription(ClockSubscription):
    pass


schema = strawberry.Schema(
    Query,
    Mutation,
    Subscription,
    types=USER_ERRORS,
    config=StrawberryConfig(scalar_map={datetime: DateTime}),
)
refuse_nulls(schema)


def sdl() -> str:
    """The schema in its own language, sorted, so that its order says nothing."""
    return print_schema(lexicographic_sort_schema(schema._schema)) + "\n"
