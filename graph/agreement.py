"""What is declared in one place and missing in another ends the start, with a line that names it.

An entity is described by its model, its type, and the inputs that name its columns. Each of these is read by the names
of the others, at a moment when a name that nobody knows would be ignored or be a bug. So all of them are compared once,
when the schema is made.
"""

import dis
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import strawberry
from graphql import GraphQLEnumType, GraphQLField, GraphQLObjectType, get_named_type
from sqlalchemy import ARRAY, DateTime, Integer, String, Uuid
from sqlalchemy import Enum as EnumColumn
from strawberry.types.base import StrawberryMaybe, StrawberryOptional

from graph.lists import filters
from graph.types.node import Node
from graph.writes.mutations import columns_in, present
from persistence import access
from persistence.lists.filters import Filterable
from persistence.lists.listing import LISTINGS
from persistence.models import Base
from persistence.models.base import entities, public

COMPARED: dict[type, type | tuple[type, ...]] = {
    filters.IDFilter: Uuid,
    filters.StringFilter: String,
    filters.IntFilter: Integer,
    filters.DateTimeFilter: DateTime,
    filters.EnumFilter: EnumColumn,
    filters.TagsFilter: ARRAY,
}
"""What kind of column each comparator compares."""

COMBINING = {"and_", "or_", "not_"}
EVERYWHERE = {"idempotency_key"}
"""The field of every input that is read by who writes (`graph.request.context`)."""


class Disagreement(Exception):
    """The places that say different things, a line each."""


def check(schema: strawberry.Schema) -> None:
    """Compare the schema with the models. Raises `Disagreement`."""
    if found := list(disagreements(schema)):
        raise Disagreement("\n".join(found))


def disagreements(schema: strawberry.Schema) -> Iterator[str]:
    kinds = schema._schema.type_map.values()
    objects = {
        kind.name: kind for kind in kinds if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__")
    }
    nodes = {name for name, kind in objects.items() if any(each.name == Node.__name__ for each in kind.interfaces)}
    models = entities()
    yield from (f"{name}: a Node without a model" for name in sorted(nodes - models.keys()))
    yield from (f"{name}: a model with __entity__, and no Node of that name" for name in sorted(models.keys() - nodes))
    for name in sorted(nodes & models.keys()):
        yield from of_type(origin(objects[name]), models[name])
    for kind in objects.values():
        for name, field in kind.fields.items():
            yield from of_list(f"{kind.name}.{name}", field)
    for field in schema._schema.mutation_type.fields.values() if schema._schema.mutation_type else ():
        yield from of_mutation(field)


def origin(kind: Any) -> Any:
    """The Python class of a type."""
    return kind.extensions["strawberry-definition"].origin


def of_type(kind: Any, model: type[Base]) -> Iterator[str]:
    """The fields of an entity read columns that are there and no secret, and follow what everybody sees who sees it."""
    columns = public(model)
    for field in kind.__strawberry_definition__.fields:
        here = f"{kind.__name__}.{field.python_name}"
        for column in (field.python_name,) if field.is_basic_field else field.metadata.get("needs", ()):
            if column not in columns:
                yield f"{here}: {model.__name__} has no public column {column}"
        relation = field.metadata.get("joins")
        if relation and not access.sees_with(model, f"{relation}_id"):
            yield f"{here}: follows {relation}_id to what the viewer may not see"


def of_list(here: str, field: GraphQLField) -> Iterator[str]:
    """A list is filtered and sorted by what its table has."""
    kind = get_named_type(field.type)
    if not isinstance(kind, GraphQLObjectType) or "nodes" not in kind.fields or "pageInfo" not in kind.fields:
        return
    entity = get_named_type(kind.fields["nodes"].type).name
    listing = LISTINGS.get(entities()[entity]) if entity in entities() else None
    if listing is None:
        yield f"{here}: {entity} has no Listing"
        return
    if "check" not in field.extensions["strawberry-definition"].metadata:
        yield f"{here}: its arguments are checked too late; it needs the metadata of_list({entity}'s listing)"
    if "filter" in field.args:
        yield from of_filter(origin(get_named_type(field.args["filter"].type)), listing.filterable)
    if "orderBy" in field.args:
        order: Any = get_named_type(field.args["orderBy"].type)
        by = get_named_type(order.fields["field"].type)
        assert isinstance(by, GraphQLEnumType)
        for name, value in by.values.items():
            if getattr(value.value, "value", value.value) not in listing.sorts:
                yield f"{by.name}.{name}: {listing.model.__name__} has no such sort"


def of_filter(kind: Any, filterable: Filterable) -> Iterator[str]:
    for field in kind.__strawberry_definition__.fields:
        name, here = field.python_name, f"{kind.__name__}.{field.python_name}"
        if name in COMBINING or name in filterable.relations:
            continue
        column = filterable.columns.get(name)
        if column is None:
            yield f"{here}: {filterable.model.__name__} has no column or relation of that name to filter by"
            continue
        compared: Any = field.type
        while isinstance(compared, (StrawberryMaybe, StrawberryOptional)):
            compared = compared.of_type
        kinds = [kind for kind in COMPARED if isinstance(compared, type) and issubclass(compared, kind)]
        if not any(isinstance(column.type, COMPARED[comparator]) for comparator in kinds):
            yield f"{here}: {getattr(compared, '__name__', compared)} compares no {type(column.type).__name__}"


def of_mutation(field: GraphQLField) -> Iterator[str]:
    """Somebody reads each field of the input: the resolver, what it calls with the input, or `present` as a column."""
    resolver = field.extensions["strawberry-definition"].base_resolver.wrapped_func.__wrapped__
    kind = origin(get_named_type(field.args["input"].type))
    read = set(EVERYWHERE)
    for function in called(resolver, set()):
        read.update(read_of_input(function.__code__))
        if present in (used := list(globals_of(function))):
            for model in used:
                if isinstance(model, type) and issubclass(model, Base):
                    read.update(columns_in(kind, model))
    for each in kind.__strawberry_definition__.fields:
        if each.python_name not in read:
            yield f"{kind.__name__}.{each.python_name}: {resolver.__name__} does not read it, and it is no column"


def called(function: FunctionType, seen: set[FunctionType]) -> Iterator[FunctionType]:
    """A function and those of its package that it calls."""
    seen.add(function)
    yield function
    package = function.__module__.split(".")[0]
    for other in globals_of(function):
        if isinstance(other, FunctionType) and other not in seen and other.__module__.split(".")[0] == package:
            yield from called(other, seen)


def globals_of(function: FunctionType) -> Iterator[Any]:
    """What a function knows of its module, and of the modules that this has imported."""
    for code in codes(function.__code__):
        known = [function.__globals__[name] for name in code.co_names if name in function.__globals__]
        yield from known
        for module in known:
            if isinstance(module, ModuleType):
                yield from (vars(module)[name] for name in code.co_names if name in vars(module))


@cache
def read_of_input(code: CodeType) -> set[str]:
    """The attributes that code reads of a variable `input`."""
    found = set()
    for part in codes(code):
        before: Any = None
        if "input" not in part.co_varnames + part.co_freevars + part.co_cellvars:
            continue
        for instruction in dis.get_instructions(part):
            if before == "input" and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                found.add(instruction.argval)
            # Some instructions load two variables, of which the second is the one.
            before = instruction.argval[-1] if isinstance(instruction.argval, tuple) else instruction.argval
    return found


def codes(code: CodeType) -> Iterator[CodeType]:
    """Code and that of the functions in it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from codes(part)
