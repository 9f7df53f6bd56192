"""What all mutations have in common: their rights, their payloads and their retries."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_type_hints
from uuid import UUID

import strawberry
from strawberry.types.base import StrawberryOptional

from graph.execution.preparing.cost import Cost
from graph.request.context import Info
from graph.writes.errors import UserError, user_errors
from graph.writes.inputs import ABSENT, WRITES, refused_nulls
from persistence.models import Base
from persistence.models.base import public
from persistence.models.ids import parse_id
from persistence.rules.errors import DomainError, Invalid, NotFound
from persistence.rules.validation import Checked
from persistence.writes import idempotency

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

IDEMPOTENCY_KEY = (
    "A key of the client's own for this request, 8 to 255 characters, best a new UUID. Sent again within 24 hours "
    "with the same input, it gets the first answer again (`replayed: true`) and nothing is done twice."
)
IF_VERSION = "Do it only if this is the current version; otherwise nothing changes and there is a ConflictError."
CLIENT_ID = (
    "A UUID of the client's own (best version 7), so that a retry cannot create twice; otherwise the server makes one."
)


def given(description: str) -> Any:
    """A required field of an input."""
    return strawberry.field(description=description)


def optional(description: str) -> Any:
    """A field of an input that may be absent; declare it as `strawberry.Maybe[...]`. A null is told as an error."""
    return strawberry.field(description=description, default=None, metadata={WRITES: True})


def unless_given(description: str, default: Any = None) -> Any:
    """A field of what is to be made that may be absent, for which null says the same.

    With a default, which the schema shows, declare it as `... | None`, otherwise as `strawberry.Maybe[...]`.
    """
    more = {"default_factory": list} if default == [] else {"default": default}
    return strawberry.field(description=description, metadata={WRITES: True, ABSENT: True}, **more)


@strawberry.type
class Payload:
    """The fields of every payload; each mutation has a payload type of its own, so that it can grow."""

    errors: list[UserError] = strawberry.field(
        description="What the sender can mend. Empty: it was done; otherwise nothing was changed.",
        default_factory=list,
        metadata={"cost": Cost(weight=0, size=1)},  # they are no objects of the store, only what they show is
    )
    replayed: bool = strawberry.field(
        description="Whether this is the kept answer to an earlier request with the same idempotencyKey.", default=False
    )


def mutation(description: str, *, public: bool = False) -> Callable[[F], Any]:
    """A mutation field. Unless `public`, the viewer must be signed in with the scope WRITE.

    A domain error that the resolver raises, after its transaction is rolled back, becomes the payload's errors.
    """

    def decorate(resolver: F) -> Any:
        payload = get_type_hints(resolver, localns={"Info": Any})["return"]

        @functools.wraps(resolver)
        async def resolve(self: Any, info: Info, **arguments: Any) -> Any:
            if not public:
                info.context.writer()
            try:
                if (given := arguments.get("input")) is not None and (nulls := refused_nulls(given)):
                    raise Invalid(nulls)
                return await resolver(self, info, **arguments)
            except DomainError as error:
                info.context.loaders.clear()
                return payload(errors=user_errors(error))

        metadata = {"public": True} if public else {}
        field: Any = strawberry.mutation(resolve, description=description, metadata=metadata)
        for argument in field.base_resolver.arguments:  # its type says what it is
            kind: Any = argument.type.of_type if isinstance(argument.type, StrawberryOptional) else argument.type
            argument.description = kind.__strawberry_definition__.description
        return field

    return decorate


def rules_of(input: Any) -> Checked:
    """Collects the problems of an input, beginning with those of its `idempotencyKey`."""
    rules = Checked()
    if input.idempotency_key:
        idempotency.check_key(rules, input.idempotency_key.value)
    return rules


def client_id(given: "strawberry.Maybe[strawberry.ID]", rules: Checked) -> UUID | None:
    """The id that a client chose for what it creates."""
    if given is None:
        return None
    id = parse_id(given.value)
    if id is None:
        rules.add("INVALID_ID", "id must be a UUID of 36 characters.", "id")
    return id


def if_version(input: Any) -> int | None:
    """The version that the input expects, if it says one."""
    return input.if_version.value if input.if_version else None


def existing_id(text: str, what: str, field: str = "id") -> UUID:
    """The id of something that should exist. What is no id at all names nothing: raises `NotFound`."""
    id = parse_id(text)
    if id is None:
        raise NotFound(what, path=(field,))
    return id


def present(input: Any, model: type[Base]) -> dict[str, Any]:
    """The values of those fields of an input that are columns of a table, without those that are absent.

    What says which row it is (`id`, `if_version`) and whose is not among them.
    """
    kind: Any = type(input)
    values = {}
    for name in columns_in(kind, model):
        value = getattr(input, name)
        if value is not None:
            values[name] = value.value if type(value) is strawberry.Some else value
    return values


@functools.cache
def columns_in(kind: Any, model: type[Base]) -> tuple[str, ...]:
    """The fields of an input that are columns of a table."""
    columns = public(model).keys() - {"id", "version", model.__owner__}
    return tuple(field.python_name for field in kind.__strawberry_definition__.fields if field.python_name in columns)
