"""What a running operation offers to the plan that it executes, so that plans know nothing of the executor."""

from typing import Any, Protocol

from graphql import GraphQLResolveInfo
from graphql.execution.values import VariableValues
from graphql.pyutils import Path

Site = tuple[Any, Any, Path]
"""Where a null goes that the schema does not allow where it arose: the container, the key in it, and its path."""

Entry = tuple[Any, Any, Any, Path, Site | None, Any, Any]
"""What is waited for: the awaitable, its position in the plan, the info, the path and the site, and where the completed
value is stored, a container and the key in it."""


class Run(Protocol):
    """One run of an operation. Paths lead to a place in the answer, from the inside out."""

    pending: dict[Any, Any]
    """What is waited for, by position: a list of entries, or a batch."""
    converted: dict[Any, Any]
    """Arguments of fields that were converted, for all their parents."""
    variable_values: VariableValues
    collected_errors: Any
    context_value: Any
    hide_suggestions: bool
    type_resolver: Any

    def is_awaitable(self, value: Any) -> bool: ...

    def info(self, field: Any, path: Path) -> GraphQLResolveInfo[Any]:
        """What the resolver of a field is told of its place."""
        ...

    def arguments(self, field: Any) -> dict[str, Any]:
        """The arguments of a field in this run, as graphql-core has them. Raises GraphQLError."""
        ...

    def wait_for(self, entry: Entry) -> None: ...

    def stored(self, result: Any, position: Any, path: Path, site: Site | None, box: Any, key: Any) -> Any:
        """The result, or `PENDING` when it has to be waited for."""
        ...

    def abandon(self, path: Path | None) -> None:
        """Forget what is waited for below a place that has become null."""
        ...

    def handle_field_error(self, error: Exception, return_type: Any, details: Any, path: Path) -> None:
        """Note an error whose place becomes null; raise it where null may not be."""
        ...

    def complete_value(self, type_: Any, details: Any, info: Any, path: Path, value: Any, context: Any) -> Any:
        """What graphql-core makes of a value, errors and odd values included."""
        ...

    def execute_field(self, parent: Any, source: Any, details: Any, path: Path, context: Any) -> Any:
        """What graphql-core makes of a field."""
        ...

    async def complete_when_told(self, answer: Any, type_: Any, details: Any, path: Path, value: Any) -> Any: ...

    async def complete_when_named(
        self, name: Any, type_: Any, details: Any, info: Any, path: Path, value: Any
    ) -> Any: ...
