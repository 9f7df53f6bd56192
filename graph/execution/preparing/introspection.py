"""What introspection comes to: its objects are those of the schema, so they are counted instead of estimated.

Answers to operations that ask for nothing else are kept: tools send the same few, and the schema never changes.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLBoolean,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)
from graphql.type.introspection import SchemaMetaFieldDef, TypeMetaFieldDef

from graph.execution.preparing.documents import Operation

META_FIELDS = {"__schema", "__type", "__typename"}

WEIGHT = 2
"""What each object counts. Nothing is read for it, but its fields are resolved one by one: 18 us for each object."""

MAX_ANSWERS = 8
"""How many answers are kept. That of the full query takes about 1 MB."""


class TooMany(Exception):
    """There are more objects than anybody wants to know."""


def is_meta(definition: GraphQLField) -> bool:
    """Whether it is `__schema` or `__type`. Their names say so, and the names that clients give them do not."""
    return definition is SchemaMetaFieldDef or definition is TypeMetaFieldDef


def objects(
    schema: GraphQLSchema, nodes: Sequence[FieldNode], fragments: dict[str, FragmentDefinitionNode], most: int
) -> int:
    """How many objects one field `__schema` or `__type`, which stands in these places, answers with.

    At most `most` and one are counted: that is also the time it takes. Of a `__type` that a variable names it is the
    number for the largest type. @skip and @include count as if they were not there.
    """
    below = [node.selection_set for node in nodes if node.selection_set]
    if nodes[0].name.value == "__schema":
        roots: list[Any] = [schema]
    else:
        name = nodes[0].arguments[0].value if nodes[0].arguments else None
        named = [schema.get_type(name.value)] if isinstance(name, StringValueNode) else schema.type_map.values()
        roots = [type_ for type_ in named if type_ is not None]
    counter = _Counter(schema, fragments, most)
    kind = get_named_type((SchemaMetaFieldDef if roots == [schema] else TypeMetaFieldDef).type)
    largest, before = 0, 0
    try:
        for root in roots:
            counter.count([root], kind, below)
            largest, before = max(largest, counter.counted - before), counter.counted
    except TooMany:
        return most + 1
    return largest


class _Counter:
    """Walks through the parts of a schema as the executor would."""

    def __init__(self, schema: GraphQLSchema, fragments: dict[str, FragmentDefinitionNode], most: int) -> None:
        self.info = SimpleNamespace(schema=schema)  # all that the resolvers of introspection look at
        self.fragments, self.most, self.counted = fragments, most, 0

    def count(self, found: list[Any], kind: GraphQLNamedType, selections: Sequence[SelectionSetNode]) -> None:
        """Count the objects and what is selected of them. Raises `TooMany`."""
        self.counted += len(found)
        if self.counted > self.most:
            raise TooMany
        if not found:
            return
        for name, below in self._fields(selections):
            definition = kind.fields.get(name)  # type: ignore[attr-defined]  # the types of introspection are objects
            if definition is not None and is_composite_type(inner := get_named_type(definition.type)):
                self.count(self._children(found, definition), inner, below)

    def _children(self, parents: list[Any], definition: GraphQLField) -> list[Any]:
        all_of_them = {"includeDeprecated": True} if "includeDeprecated" in definition.args else {}
        resolve: Any = definition.resolve
        listed = is_list_type(get_nullable_type(definition.type))
        children: list[Any] = []
        for parent in parents:
            found = resolve(parent, self.info, **all_of_them)
            if found is not None:
                children += found if listed else [found]
            if self.counted + len(children) > self.most:
                raise TooMany
        return children

    def _fields(self, selections: Iterable[SelectionSetNode]) -> list[tuple[str, list[SelectionSetNode]]]:
        """The names of the fields, each with what is selected of it, merged as they are in the answer."""
        fields: dict[str, tuple[str, list[SelectionSetNode]]] = {}
        pending = list(selections)
        while pending:
            for node in pending.pop().selections:
                if isinstance(node, FieldNode):
                    if node.selection_set:
                        name = node.alias.value if node.alias else node.name.value
                        fields.setdefault(name, (node.name.value, []))[1].append(node.selection_set)
                elif isinstance(node, InlineFragmentNode):
                    pending.append(node.selection_set)
                elif isinstance(node, FragmentSpreadNode):
                    pending.append(self.fragments[node.name.value].selection_set)
        return list(fields.values())


def is_one_of(type_: Any, info: Any) -> bool | None:
    """Whether only one field of an input may be given; null for other types (GraphQL, section 4.5.2.8)."""
    if not isinstance(type_, GraphQLInputObjectType):
        return None
    definition = type_.extensions.get("strawberry-definition")
    return bool(definition.is_one_of) if definition is not None else type_.is_one_of


def mend_is_one_of(schema: GraphQLSchema) -> None:
    """Strawberry's own resolver raises for lists and types with `!`: a bug in the log for each of thousands."""
    schema.type_map["__Type"].fields["isOneOf"] = GraphQLField(  # type: ignore[attr-defined]  # it is an object type
        GraphQLBoolean, resolve=is_one_of
    )


class Answers:
    """The answers to operations that ask for introspection alone, at most `MAX_ANSWERS` of them.

    They are found by the prepared operation itself. What is in them is shared by all answers.
    """

    def __init__(self) -> None:
        self._data: OrderedDict[Operation, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._data)

    @staticmethod
    def of_all(operation: Operation) -> bool:
        """Whether the operation has the same answer for everybody, whatever is sent with it."""
        known: bool | None = operation.memo.get("introspection")
        if known is None:
            nodes = operation.definition.selection_set.selections
            names = {node.name.value if isinstance(node, FieldNode) else "" for node in nodes}
            alone = names <= META_FIELDS and names != {"__typename"}
            known = alone and operation.kind is OperationType.QUERY and not operation.variables
            operation.memo["introspection"] = known
        return known

    def get(self, operation: Operation) -> Any:
        """The data of the answer, or None."""
        data = self._data.get(operation)
        if data is not None:
            self._data.move_to_end(operation)
        return data

    def keep(self, operation: Operation, data: Any) -> None:
        self._data[operation] = data
        while len(self._data) > MAX_ANSWERS:
            self._data.popitem(last=False)
