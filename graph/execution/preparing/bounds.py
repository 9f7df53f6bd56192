"""How much an operation may bring along, in its text and in its variables, checked before anything is converted.

A list may have so many items as its argument or input field says (`at_most`), or as all lists may; and there is a bound
on the values in all of them together: items of lists and members of objects, empty ones and nulls too. A variable
counts as often as it is used, because each use is a conversion.

    Bounds -> Given (kept in `Operation.memo`): what stands in the text -> check(the variables of one request)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DirectiveNode,
    FieldNode,
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLSchema,
    ListValueNode,
    ObjectValueNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_input_object_type,
    type_from_ast,
)

from graph.execution.errors import RequestError, limit_exceeded
from graph.execution.preparing.documents import Operation
from graph.execution.preparing.selections import definition_of, unfolded

ITEMS = "graph.execution.items"
"""In `extensions` of a graphql-core argument or input field, or in `metadata` of Strawberry's."""

CONTAINERS = {list, dict}

Path = tuple[Any, ...]
"""Where a value is: `(the path of what it is in, its name or position)`, from the inside out."""


def at_most(items: int) -> dict[str, Any]:
    """The metadata of an argument or input field whose list may have so many items."""
    return {ITEMS: items}


class TooLarge(Exception):
    """A list has too many items."""

    def __init__(self, items: int, allowed: int, path: Path) -> None:
        super().__init__(items, allowed)
        self.items, self.allowed, self.path = items, allowed, path


@dataclass(slots=True)
class Given:
    """What one operation says about inputs.

    `values` stand in its text. Of each variable it is known how often it is `used`, the smallest number of `items`
    that its uses allow, and its type. `refusal` is what is wrong whatever the variables are.
    """

    values: int = 0
    used: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    refusal: RequestError | None = None


class Bounds:
    """The bounds of one schema: `values` in all inputs of an operation, `items` in a list that says nothing else."""

    def __init__(self, schema: GraphQLSchema, *, values: int = 5_000, items: int = 100) -> None:
        self.schema, self.values, self.items = schema, values, items
        self.smallest = min([items, *map(self.of, _inputs(schema))])
        """No list with as few items is too long, wherever it is."""

    def of(self, definition: GraphQLArgument | GraphQLInputField) -> int:
        """How many items a list may have there."""
        found = definition.extensions.get(ITEMS)
        if found is None:
            found = getattr(definition.extensions.get("strawberry-definition"), "metadata", {}).get(ITEMS)
        return self.items if found is None else int(found)

    def check(self, operation: Operation, variables: Mapping[str, Any] | None) -> None:
        """Raise RequestError (LIMIT_EXCEEDED) when an operation with these variables is beyond a bound."""
        given: Given | None = operation.memo.get("bounds")
        if given is None:
            given = operation.memo["bounds"] = _Reader(self, operation).given()
        if given.refusal is not None:
            raise given.refusal.with_traceback(None)
        if not variables:
            return
        for value in variables.values():
            if type(value) in CONTAINERS:
                break
        else:  # nearly always
            if given.values + len(variables) <= self.values:
                return
        values, longest = given.values + len(variables), 0
        largest, most = "", 0
        for name, value in variables.items() if values <= self.values else ():
            if (kind := type(value)) is dict or kind is list:
                found, length = size(value, self.values)
                if length > longest:
                    longest = length
                found *= given.used.get(name, 1)
                values += found
                if found > most:
                    largest, most = name, found
                if values > self.values:
                    break
        if longest > self.smallest:
            for name, type_ in given.types.items():
                if type(variables.get(name)) in CONTAINERS:
                    try:
                        self.search(variables[name], type_, given.items.get(name, self.items))
                    except TooLarge as error:
                        raise too_long(f"Variable '${name}'", error, variable=name) from None
        if values > self.values:
            raise too_much(self.values, values, f", most of them in variable '${largest}'" if most else "", largest)

    def search(self, value: Any, type_: Any, allowed: int) -> None:
        """Raise `TooLarge` for a list in the value of a variable. Looks at as many values as there may be at most."""
        left = self.values
        pending: list[tuple[Any, Any, int, Path]] = [(value, type_, allowed, ())]
        while pending and left > 0:
            value, type_, allowed, path = pending.pop()
            type_ = get_nullable_type(type_)
            if type(value) is list:
                if len(value) > allowed:
                    raise TooLarge(len(value), allowed, path)
                left -= len(value)
                inner = type_.of_type if isinstance(type_, GraphQLList) else type_
                for n, item in enumerate(value):
                    if type(item) in CONTAINERS:
                        pending.append((item, inner, allowed, (path, n)))
                continue
            left -= len(value)
            while isinstance(type_, GraphQLList):  # a single value stands for a list of one
                type_ = get_nullable_type(type_.of_type)
            fields = type_.fields if isinstance(type_, GraphQLInputObjectType) else {}
            for name, item in value.items() if len(value) <= self.values else ():
                if type(item) in CONTAINERS and name in fields:
                    pending.append((item, fields[name].type, self.of(fields[name]), (path, name)))


def size(value: Any, enough: int) -> tuple[int, int]:
    """How many items and members a JSON value has, and the longest list in it. Ends soon after `enough`."""
    values, longest = 0, 0
    pending = [value]
    for container in pending:  # which grows meanwhile
        number = len(container)
        values += number
        if type(container) is list:
            if number > longest:
                longest = number
            inner: Any = container
        else:
            inner = container.values()
        if values > enough:
            break
        for item in inner:
            if (kind := type(item)) is dict or kind is list:
                pending.append(item)  # noqa: PERF401  # mostly there is none, and a comprehension is a call
    return values, longest


class _Reader:
    """Reads the inputs in the text of one operation. Takes time in proportion to the selections, fragments expanded."""

    def __init__(self, bounds: Bounds, operation: Operation) -> None:
        self.bounds, self.operation, self.schema = bounds, operation, bounds.schema
        self.found = Given()
        # What a field adds, so that it is read once however often its fragment is spread.
        self.known: dict[tuple[int, int], tuple[int, dict[str, int]]] = {}

    def given(self) -> Given:
        found, bounds = self.found, self.bounds
        try:
            self._selections()
            for variable in self.operation.variables:
                name = variable.variable.name.value
                found.types[name] = type_ = type_from_ast(self.schema, variable.type)
                if variable.default_value is not None:
                    allowed = found.items.get(name, bounds.items)
                    values, _ = self._literal(
                        variable.default_value, type_, allowed, f"Variable '${name}'", variable=name
                    )
                    found.values += values * max(1, found.used.get(name, 0))
        except RequestError as error:
            found.refusal = error
        else:
            if found.values > bounds.values:
                found.refusal = too_much(bounds.values, found.values, "")
        return found

    def _selections(self) -> None:
        root: Any = self.schema.get_root_type(self.operation.kind)
        pending: list[tuple[GraphQLNamedType, SelectionSetNode]] = [(root, self.operation.definition.selection_set)]
        while pending:
            parent, selections = pending.pop()
            for node in selections.selections:
                for directive in node.directives or ():
                    if (known := self.schema.get_directive(directive.name.value)) is not None:
                        self._arguments(directive, known.args)
                if isinstance(node, FieldNode):
                    definition = definition_of(self.schema, parent, node.name.value)
                    if definition is None:
                        continue
                    self._arguments(node, definition.args)
                    if node.selection_set:
                        pending.append((get_named_type(definition.type), node.selection_set))
                else:
                    pending.append(unfolded(self.schema, self.operation, parent, node))

    def _arguments(self, node: FieldNode | DirectiveNode, definitions: Mapping[str, GraphQLArgument]) -> None:
        if not node.arguments:
            return
        key = id(node), id(definitions)
        if key not in self.known:
            total, uses = 0, dict[str, int]()
            for argument in node.arguments:
                if (definition := definitions.get(argument.name.value)) is not None:
                    what = f"Argument '{argument.name.value}' of '{node.name.value}'"
                    allowed = self.bounds.of(definition)
                    values, used = self._literal(
                        argument.value, definition.type, allowed, what, argument=argument.name.value
                    )
                    total += values
                    for name, times in used.items():
                        uses[name] = uses.get(name, 0) + times
            self.known[key] = total, uses
        values, used = self.known[key]
        self.found.values += values
        for name, times in used.items():
            self.found.used[name] = self.found.used.get(name, 0) + times

    def _literal(
        self, node: ValueNode, type_: Any, allowed: int, what: str, **named: str
    ) -> tuple[int, dict[str, int]]:
        """The values in a literal, and how often it uses each variable. Raises RequestError for a list in it."""
        values, used = 0, dict[str, int]()
        items = self.found.items
        pending: list[tuple[ValueNode, Any, int, Path]] = [(node, type_, allowed, ())]
        while pending:
            node, type_, allowed, path = pending.pop()
            type_ = get_nullable_type(type_)
            if isinstance(node, VariableNode):
                name = node.name.value
                used[name] = used.get(name, 0) + 1
                if isinstance(type_, GraphQLList):
                    items[name] = min(allowed, items.get(name, allowed))
            elif isinstance(node, ListValueNode):
                values += len(node.values)
                if len(node.values) > allowed:
                    raise too_long(what, TooLarge(len(node.values), allowed, path), node, **named)
                inner = type_.of_type if isinstance(type_, GraphQLList) else type_
                pending += [(item, inner, allowed, (path, n)) for n, item in enumerate(node.values)]
            elif isinstance(node, ObjectValueNode):
                values += len(node.fields)
                while isinstance(type_, GraphQLList):
                    type_ = get_nullable_type(type_.of_type)
                fields = type_.fields if isinstance(type_, GraphQLInputObjectType) else {}
                for member in node.fields:
                    if (field := fields.get(member.name.value)) is not None:
                        pending.append((member.value, field.type, self.bounds.of(field), (path, member.name.value)))
        return values, used


def _inputs(schema: GraphQLSchema) -> Iterator[GraphQLArgument | GraphQLInputField]:
    """All that takes a value."""
    for type_ in schema.type_map.values():
        if is_input_object_type(type_):
            yield from type_.fields.values()
        elif fields := getattr(type_, "fields", None):
            for each in fields.values():
                yield from each.args.values()


def too_long(what: str, error: TooLarge, node: Any = None, **named: str) -> RequestError:
    """The refusal of a list; `named` is the argument or variable it came in."""
    parts: list[str] = []
    path = error.path
    while path:
        path, key = path
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    place = "".join(reversed(parts)).removeprefix(".")
    message = (
        f"{what} has {error.items:,} items{f' at {place}' if place else ''}; at most {error.allowed:,} are allowed"
    )
    refusal = limit_exceeded("listItems", error.allowed, error.items, message, node)
    return _refused(refusal, named)


def too_much(allowed: int, actual: int, most: str, variable: str = "") -> RequestError:
    """The refusal of all inputs together."""
    message = f"The arguments and variables have {actual:,} values or more{most}; at most {allowed:,} are allowed"
    return _refused(limit_exceeded("inputValues", allowed, actual, message), {"variable": variable} if variable else {})


def _refused(error: RequestError, named: Mapping[str, str]) -> RequestError:
    error.status = 400
    error.extensions = {**(error.extensions or {}), **named}
    return error
