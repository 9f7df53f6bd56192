"""What is known of a schema for good, for all its operations."""

from copy import copy
from keyword import iskeyword
from typing import Any

from graphql import FieldNode, GraphQLField, GraphQLSchema
from strawberry.types.field import StrawberryField

from graph.execution.compiling.resolvers import Direct, direct
from graph.execution.values import IMMUTABLE, Natives, Types


class Facts:
    """What is known of a schema for good. `native` leaves datetimes, dates and UUIDs as they are, for orjson."""

    def __init__(self, schema: GraphQLSchema, native: bool = False, plain_members: bool = True) -> None:
        self.schema, self.types, self.natives = schema, Types(schema), Natives(schema, native)
        self.plain_members = plain_members
        self._direct: dict[int, Direct | None] = {}

    @staticmethod
    def attribute(definition: GraphQLField) -> str | None:
        """The attribute that Strawberry reads for a field without resolver, permissions or extensions."""
        field = (definition.extensions or {}).get("strawberry-definition")
        if (
            isinstance(field, StrawberryField)
            and field.is_basic_field
            and field.default_resolver is getattr
            and type(field).get_result is StrawberryField.get_result
            and getattr(definition.resolve, "_is_default", False)
            and field.python_name.isidentifier()
            and not iskeyword(field.python_name)
        ):
            return field.python_name
        return None

    def direct(self, definition: GraphQLField) -> Direct | None:
        """What calls the resolver of the field without Strawberry's wrapper, if that is safe."""
        key = id(definition)  # fields cannot be hashed; they live as long as the schema
        if key not in self._direct:
            self._direct[key] = direct(self.schema, definition)
        return self._direct[key]

    def batched(self, definition: GraphQLField) -> Direct | None:
        """The same for the function that resolves the field for many objects (`batches`), if it has one."""
        found = self.direct(definition)
        if found is None or "batch" not in found.field.metadata:
            return None
        batched = copy(found)
        batched.function, batched.self_, batched.parents = found.field.metadata["batch"], True, []
        return batched

    def converted(self, definition: GraphQLField, args: dict[str, Any] | None) -> dict[str, Any] | None:
        """Arguments that are the same in every request, as a resolver gets them, if they can be shared."""
        found = self.direct(definition)
        if found is None or args is None:
            return None
        try:
            made = found.convert(args, None)
        except Exception:  # told at execution
            return None
        return made if all(isinstance(value, IMMUTABLE) for value in made.values()) else None

    def member(self, definition: GraphQLField, node: FieldNode) -> str | None:
        """The name under which graphql-core's default resolver looks for a field without a resolver."""
        if self.plain_members and definition.resolve is None and not definition.args and not node.arguments:
            return node.name.value
        return None
