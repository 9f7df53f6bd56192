"""Arguments with variables in them, converted once: later requests only put their values in.

The conversion of an input object (graphql-core's literals, Strawberry's classes) takes longer than anything else of a
small query: 90 us for a filter of two conditions. What it makes depends on the text alone but for the leaves, which
it hands on as they are. So it runs once with a `Hole` in place of each variable, and what comes out is the template.

A variable that is a whole input object or list is converted each time, when it is all of an argument.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from graphql import VariableNode, Visitor, visit
from strawberry.types.base import has_object_definition
from strawberry.types.lazy_type import LazyType
from strawberry.types.maybe import Some

from graph.execution.values import IMMUTABLE

Build = Callable[[Mapping[str, Any]], Any]
"""Makes a part of the arguments from the values of the variables."""


class NoTemplate(Exception):
    """The arguments hold something that a template cannot make anew."""


class Hole:
    """Stands for the value of a variable."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Template:
    """Makes the arguments of one field, as its resolver gets them. `converts`: some take a conversion each time."""

    __slots__ = ("_parts", "_variables", "converts")

    def __init__(self, variables: Iterable[str], arguments: Mapping[str, Any], whole: Mapping[str, Build]) -> None:
        self._variables = tuple(variables)
        self._parts = [(name, builder(value)) for name, value in arguments.items()] + list(whole.items())
        self.converts = bool(whole)

    def fill(self, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arguments for these variables, or None: absent values and nulls are converted in another way."""
        for name in self._variables:
            if variables.get(name) is None:
                return None
        return {name: build(variables) for name, build in self._parts}


def builder(value: Any) -> Build:
    """What makes a converted value again, with variables in the holes. Raises `NoTemplate`."""
    if isinstance(value, Hole):
        name = value.name
        return lambda variables: variables[name]
    if isinstance(value, IMMUTABLE):
        return lambda variables: value
    kind = type(value)
    if kind is list:
        items = [builder(item) for item in value]
        return lambda variables: [build(variables) for build in items]
    if kind is Some:
        inner = builder(value.value)
        return lambda variables: Some(inner(variables))
    if is_plain_input(kind):
        constants = {name: item for name, item in vars(value).items() if isinstance(item, IMMUTABLE)}
        parts = [(name, builder(item)) for name, item in vars(value).items() if name not in constants]

        def build(variables: Mapping[str, Any]) -> Any:
            made = object.__new__(kind)
            made.__dict__ |= constants
            for name, build in parts:
                made.__dict__[name] = build(variables)
            return made

        return build
    raise NoTemplate


def is_plain_input(kind: Any) -> bool:
    """Whether making an input object does not look at the leaves in it, and is the same each time.

    A `from_input` that hands them on as they are says so by an attribute `by_structure`.
    """
    if not is_input(kind) or not is_made_by_dataclasses(kind):
        return False
    make = kind.__strawberry_definition__.from_input
    return make is None or hasattr(make, "by_structure")


@lru_cache(1_024)
def is_made_by_dataclasses(kind: Any) -> bool:
    """Whether nothing of a class's own runs when an object of it is made."""
    made_by = getattr(kind.__init__, "__code__", None)
    return (
        made_by is not None
        and made_by.co_filename == "<string>"  # where `dataclasses` writes what it makes; anything else has a file
        and kind.__new__ is object.__new__
        and kind.__setattr__ is object.__setattr__
        and not hasattr(kind, "__post_init__")
        and all(each.default_factory in (dataclasses.MISSING, list) for each in dataclasses.fields(kind))
    )


def inputs_of(type_: Any) -> list[Any]:
    """The classes of the input objects that a value of Strawberry's type can have in it."""
    found: dict[Any, None] = {}
    pending = [type_]
    while pending:
        type_ = pending.pop()
        while hasattr(type_, "of_type"):
            type_ = type_.of_type
        if isinstance(type_, LazyType):
            pending.append(type_.resolve_type())
        elif has_object_definition(type_) and type_ not in found:
            found[type_] = None
            pending += [field.type for field in type_.__strawberry_definition__.fields]
    return list(found)


@lru_cache(1_024)
def is_input(kind: Any) -> bool:
    """Whether it is the class of input objects, all of whose fields are in `__dict__`."""
    slots = any(vars(base).get("__slots__") for base in kind.__mro__)  # `Generic` has some, but none in it
    return not slots and has_object_definition(kind) and kind.__strawberry_definition__.is_input


def variables_of(node: Any) -> list[str]:
    """The names of the variables in the arguments of a field."""
    found: dict[str, None] = {}

    class Find(Visitor):
        def enter_variable(self, node: VariableNode, *_: Any) -> None:
            found[node.name.value] = None

    for argument in node.arguments or ():
        visit(argument, Find())
    return list(found)
