"""The schema: the fields of all entities put together."""

from datetime import datetime

import strawberry
from graphql import lexicographic_sort_schema, print_schema
from strawberry.schema.config import StrawberryConfig

from graph import accounts, clock, nodes, tasks, tokens, users
from graph.agreement import check
from graph.types.scalars import DateTime
from graph.writes.errors import USER_ERRORS
from graph.writes.inputs import forget_null_defaults, refuse_nulls

NOUNS = (accounts, clock, nodes, tasks, tokens, users)


def root(operation: str, description: str) -> type:
    """The root of an operation: the fields that the nouns have for it (`TaskQuery`, `TaskMutation`, ...)."""
    parts = [
        kind
        for noun in NOUNS
        for name, kind in vars(noun).items()
        if name.endswith(operation) and kind.__module__ == noun.__name__
    ]
    return strawberry.type(type(operation, tuple(parts), {}), description=description)


Query = root("Query", "What can be read.")
Mutation = root("Mutation", "What can be changed. Each field runs in a transaction of its own, one after another.")
Subscription = root("Subscription", "What can be followed, over a WebSocket. Every event is authenticated anew.")


DESCRIPTION = """\
The tasks of users: to read, to change and to follow.

**Signing in.** `signUp` and `signIn` answer with a `secret`: send it with every other request as
`Authorization: Bearer <secret>`, and in the payload of `connection_init` over a WebSocket. Scripts get tokens of their
own by `createToken`.

**Ids.** An `id` is a UUID, unique over all types. `node` finds anything by it. What belongs to somebody else looks like
what does not exist.

**Lists** are connections: `first` with `after`, or `last` with `before`, 20 items unless said otherwise, at most 100.
Cursors are opaque, and belong to their list with its filter and order.

**Mutations** take one `input`. What their sender can mend is in `errors` of the payload, each with a `code` and a
`path` into the input; nothing was changed then. `idempotencyKey` makes it safe to send one again, `ifVersion` guards
against lost updates.

**Errors** at the top of an answer are what no other input of a mutation would mend: `extensions.code` says what to do.

More, with examples, is in docs/api.md of the source."""

schema = strawberry.Schema(
    Query,
    Mutation,
    Subscription,
    types=USER_ERRORS,
    config=StrawberryConfig(scalar_map={datetime: DateTime}),
)
schema._schema.description = DESCRIPTION
refuse_nulls(schema)
check(schema)
forget_null_defaults(schema)


def sdl() -> str:
    """The schema in its own language, sorted, so that its order says nothing."""
    return print_schema(lexicographic_sort_schema(schema._schema)) + "\n"
