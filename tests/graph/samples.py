"""Operations made from the schema itself, so that what is added to it is tested without a word about it.

A place is where a value goes into an operation: an argument, or a field of an input, however deep. `operation`
builds a whole operation around one place; everything else that is required gets a sample.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    ast_from_value,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
    print_ast,
)

from graph.schema import schema
from persistence.models.base import entities
from tests.conftest import PASSWORD

SCHEMA: GraphQLSchema = schema._schema

# How an operation comes to a field of a type.
WAYS = {"Query": "query @ { # }", "Mutation": "mutation @ { # }", "User": "query @ { viewer { # } }"}


def fields_of(owner: str) -> dict[str, GraphQLField]:
    kind = SCHEMA.type_map[owner]
    assert isinstance(kind, GraphQLObjectType)
    found: dict[str, GraphQLField] = kind.fields
    return found


BY_TYPE: dict[str, Any] = {
    "String": "Sample",
    "Int": 1,
    "Float": 1.0,
    "Boolean": True,
    "DateTime": "2035-01-01T00:00:00Z",
}
# What a sample of the type does not do for.
BY_PLACE: dict[str, Any] = {
    "email": "{email}",
    "password": PASSWORD,
    "currentPassword": PASSWORD,
    "newPassword": PASSWORD,
    "timeZone": "Europe/Berlin",
    "SignInInput.email": "{own_email}",
    "Query.node.id": "{task}",
    "Query.nodes.ids": "{task}",
}
BY_VALUE = {"scopes": ["READ"]}


def sample(coordinate: str, kind: Any) -> Any:
    """A value that the place accepts. Fails for a place that nobody thought of."""
    if isinstance(kind, GraphQLNonNull):
        return sample(coordinate, kind.of_type)
    name = coordinate.rpartition(".")[2]
    if name in BY_VALUE:
        return BY_VALUE[name]
    if isinstance(kind, GraphQLList):
        return [sample(coordinate, kind.of_type)]
    if isinstance(kind, GraphQLInputObjectType):
        return {
            field: sample(f"{kind.name}.{field}", definition.type)
            for field, definition in kind.fields.items()
            if is_required_input_field(definition)
        }
    for key in (coordinate, name):
        if key in BY_PLACE:
            return BY_PLACE[key]
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    if kind.name == "ID" and (entity := entity_of(coordinate)) is not None:
        return f"{{{entity.lower()}}}"
    assert kind.name in BY_TYPE, f"give {coordinate} ({kind.name}) a sample value in tests/graph/samples.py"
    return BY_TYPE[kind.name]


def entity_of(coordinate: str) -> str | None:
    """The entity that an id names: `UpdateTaskInput.id`, `Query.task.id`. Its sample becomes the asker's own."""
    place = coordinate.split(".")[-2].removesuffix("Input")
    return next((name for name in entities() if place.endswith(name) or place == name.lower()), None)


def creations() -> dict[str, str]:
    """By the name of an entity the mutation that makes one for whoever asks."""
    return {name: f"create{name}" for name in entities() if name != "User"}


def filled(value: Any, names: dict[str, str]) -> Any:
    """A sample with its ids and addresses put in."""
    if isinstance(value, str) and value.startswith("{"):
        return names[value[1:-1]]
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    if isinstance(value, dict):
        return {name: filled(item, names) for name, item in value.items()}
    return value


@dataclass(frozen=True)
class Place:
    """Where a value goes: the field of a type, the path of names in its arguments, and the value's type."""

    owner: str
    root: str
    path: tuple[str, ...]
    type: Any = field(compare=False)
    coordinate: str = ""
    """The input field, as `TaskFilter.id`, or the argument, as `Query.task.id`."""

    @property
    def leaf(self) -> str:
        name: str = get_named_type(self.type).name
        return name

    @property
    def is_list(self) -> bool:
        return isinstance(self.type.of_type if isinstance(self.type, GraphQLNonNull) else self.type, GraphQLList)

    def __str__(self) -> str:
        return ".".join((self.owner, self.root, *self.path))


def places(depth: int = 6) -> Iterator[Place]:
    """All places of all fields whose values are leaves."""
    for owner, name, definition in questions():
        for argument, details in definition.args.items():
            yield from _below(owner, name, (argument,), details, f"{owner}.{name}.{argument}", depth, ())


def questions() -> Iterator[tuple[str, str, GraphQLField]]:
    """All fields at the root, and those below that take arguments. Fails for one that no operation comes to.

    Not the subscriptions, which have no one answer.
    """
    for owner, kind in SCHEMA.type_map.items():
        if isinstance(kind, GraphQLObjectType) and not owner.startswith("__") and owner != "Subscription":
            for name, definition in kind.fields.items():
                if owner in ("Query", "Mutation") or definition.args:
                    assert owner in WAYS, f"say in tests/graph/samples.py how an operation comes to {owner}.{name}"
                    yield owner, name, definition


def _below(
    owner: str,
    root: str,
    path: tuple[str, ...],
    definition: GraphQLArgument | GraphQLInputField,
    coordinate: str,
    depth: int,
    seen: tuple[str, ...],
) -> Iterator[Place]:
    named = get_named_type(definition.type)
    if not isinstance(named, GraphQLInputObjectType):
        yield Place(owner, root, path, definition.type, coordinate)
    elif named.name not in seen and len(path) < depth:
        for name, inner in named.fields.items():
            below = (*path, name)
            yield from _below(owner, root, below, inner, f"{named.name}.{name}", depth, (*seen, named.name))


def variables_of(owner: str, root: str) -> dict[str, Any]:
    """Samples for all that a field requires."""
    definition = fields_of(owner)[root]
    return {
        name: sample(f"{owner}.{root}.{name}", argument.type)
        for name, argument in definition.args.items()
        if is_required_argument(argument)
    }


def with_value(place: Place, value: Any) -> dict[str, Any]:
    """Variables with the value at a place, and samples for what else is required."""
    variables = copy.deepcopy(variables_of(place.owner, place.root))
    definition: Any = fields_of(place.owner)[place.root].args[place.path[0]]
    holder: Any = variables
    for name, following in zip(place.path, place.path[1:], strict=False):
        named = get_named_type(definition.type)
        bare = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
        inner = holder.get(name)
        if isinstance(inner, list):
            inner = inner[0]
        if inner is None:
            inner = sample(named.name, named)
            holder[name] = [inner] if isinstance(bare, GraphQLList) else inner
        holder, definition = inner, named.fields[following]
    holder[place.path[-1]] = [value] if place.is_list else value
    return variables


def operation(owner: str, root: str, depth: int = 1) -> str:
    """A field with all its arguments as variables, and everything selected down to a depth."""
    definition = fields_of(owner)[root]
    declared = ", ".join(f"${name}: {argument.type}{default(argument)}" for name, argument in definition.args.items())
    given = ", ".join(f"{name}: ${name}" for name in definition.args)
    variables = (f"({declared})", f"({given})") if declared else ("", "")
    field = f"{root}{variables[1]}{selection(definition, depth)}"
    return WAYS[owner].replace("@", f"{root[0].upper()}{root[1:]}{variables[0]}").replace("#", field)


def default(argument: GraphQLArgument) -> str:
    if argument.default_value is Undefined or argument.default_value is None:
        return ""
    literal = ast_from_value(argument.default_value, argument.type)
    assert literal is not None
    return f" = {print_ast(literal)}"


def selection(definition: GraphQLField, depth: int, prefix: str = "") -> str:
    """The selection set of a field; fields that need arguments are left out."""
    named = get_named_type(definition.type)
    if is_leaf_type(named):
        return ""
    parts = ["__typename"]
    if isinstance(named, GraphQLInterfaceType):
        kinds = sorted(SCHEMA.get_possible_types(named), key=lambda kind: kind.name)
        parts += [f"... on {kind.name} {{ {chosen(kind, depth, f'{kind.name}_')} }}" for kind in kinds]
    elif isinstance(named, GraphQLObjectType):
        parts.append(chosen(named, depth, prefix))
    return " { " + " ".join(parts) + " }"


# Layers that only wrap others cost no depth.
WRAPPERS = ("Connection", "Edge", "PageInfo")


def chosen(kind: GraphQLObjectType, depth: int, prefix: str) -> str:
    found = []
    for name, definition in kind.fields.items():
        named = get_named_type(definition.type)
        if any(is_required_argument(argument) for argument in definition.args.values()):
            continue
        below = depth if named.name.endswith(WRAPPERS) else depth - 1
        if is_leaf_type(named) or below >= 0:
            alias = f"{prefix}{name}: " if prefix else ""
            found.append(f"{alias}{name}{selection(definition, below)}")
    return " ".join(found)
