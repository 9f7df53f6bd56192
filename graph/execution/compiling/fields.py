"""The fields of a plan: what the compiler found out about each, filled in by it. They hold nothing of a request."""

from collections.abc import Callable
from typing import Any

from graphql import GraphQLField, GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.executor import to_nodes

from graph.execution.run import Run
from graph.execution.values import UNSEEN

PENDING: Any = object()

Complete = Callable[..., Any]


class Position:
    """A place in the answer: its type, the nodes that ask for it, and how a value that arrives there is completed."""

    __slots__ = ("at", "details", "many", "return_type")

    def __init__(self, return_type: Any, details: FieldDetailsList) -> None:
        self.return_type, self.details = return_type, details
        # None: what arrives is complete already.
        self.at: Complete | None = None
        # Completes a list of values of as many objects in one go, or raises; None: it takes one at a time.
        self.many: Callable[[list[Any]], list[Any]] | None = None


class Field(Position):
    """One field of the selection on one object type."""

    __slots__ = (
        "args",
        "attribute",
        "batched",
        "carried",
        "constant",
        "constants",
        "definition",
        "direct",
        "key",
        "member",
        "nodes",
        "parent_type",
        "place",
        "resolve",
        "template",
    )

    def __init__(
        self, parent_type: GraphQLObjectType, key: str, details: FieldDetailsList, definition: GraphQLField
    ) -> None:
        super().__init__(definition.type, details)
        self.key, self.definition, self.parent_type = key, definition, parent_type
        self.nodes = to_nodes(details)
        self.place = parent_type.name, id(self.nodes[0])  # as `checks.place` says it
        self.resolve: Callable[..., Any] = definition.resolve  # type: ignore[assignment]  # or the executor's own
        # The value, when it is the same for all objects.
        self.constant: str | None = None
        # How the value is read where there is no resolver: an attribute, or a member as graphql-core looks for it.
        self.attribute: str | None = None
        self.member: str | None = None
        # The arguments when all requests agree, and the same as the resolver gets them.
        self.args: dict[str, Any] | None = None
        self.constants: dict[str, Any] | None = None
        self.template: Any = UNSEEN  # `resolvers.template`, or None
        # Calls the resolver without Strawberry's wrapper, and the function that resolves it for many objects.
        self.direct: Callable[..., Any] | None = None
        self.batched: Callable[..., Any] | None = None
        # The attribute in which an object may bring along what the resolver would return for it.
        self.carried: str | None = None

    def call(self, run: Run, source: Any, info: Any) -> Any:
        """What the resolver returns for one object."""
        if self.attribute is not None:  # all that Strawberry's wrapper would do
            return getattr(source, self.attribute)
        if self.direct is not None:
            return self.direct(run, self, source, info)
        return self.resolve(source, info, **(run.arguments(self) if self.args is None else self.args))
