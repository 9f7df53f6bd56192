"""The compiler: from the selections of an operation to plans that run without looking at the document again.

graphql-core's own `collect_fields` and `get_argument_values` run here, once for each operation, so that selection
semantics are its own. Two kinds of field exist:

- *pure*: an attribute whose whole sub-selection is pure; these become generated code (`compiler_source`);
- *resolved*: the real resolver is called with the real info, and what it returns is completed by a `Complete`.

A `Complete` either returns the completed value, or `PENDING` when graphql-core made an awaitable of it, or raises
`Surprise` before anything had an effect; then graphql-core's `complete_value` does that position from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from keyword import iskeyword
from types import CoroutineType, NoneType
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    VariableNode,
    Visitor,
    get_argument_values,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    visit,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet, collect_fields, collect_subfields
from graphql.execution.executor import default_field_resolver, to_nodes
from graphql.pyutils import Path
from graphql.type.introspection import TypeNameMetaFieldDef
from strawberry.types.field import StrawberryField

from graph.execution.compiler_resolvers import IMMUTABLE, direct
from graph.execution.compiler_source import Source, serialiser
from graph.execution.compiler_values import ORDINARY, Natives, Surprise, Types, classes_of, ordinary

if TYPE_CHECKING:
    from graph.execution.executor import CompiledExecution

# An operation that selects more fields than this, fragments expanded, is not compiled.
MAX_FIELDS = 5_000

# Classes of rows for which one selection gets code of their own; usually there is one, from one SQL statement.
MAX_ROW_CLASSES = 8

PENDING: Any = object()

# Where a null goes that the schema does not allow where it arose: the container, the key in it, and its path.
Site = tuple[Any, Any, Path]

Complete = Callable[..., Any]

# What a list field may return to be completed here; other iterables can be read only once.
SEQUENCES = {list, tuple}

new = tuple.__new__  # a NamedTuple's own constructor takes three times as long


class TooLarge(Exception):
    """The operation is not worth compiling."""


class Facts:
    """What is known of a schema for good. `native` leaves datetimes, dates and UUIDs as they are, for orjson."""

    def __init__(self, schema: GraphQLSchema, native: bool = False, plain_members: bool = True) -> None:
        self.schema, self.types, self.natives = schema, Types(schema), Natives(schema, native)
        self.plain_members = plain_members
        self._direct: dict[int, Callable[..., Any] | None] = {}

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

    def direct(self, definition: GraphQLField) -> Callable[..., Any] | None:
        """What calls the resolver of the field without Strawberry's wrapper, if that is safe."""
        key = id(definition)  # fields cannot be hashed; they live as long as the schema
        if key not in self._direct:
            found = direct(self.schema, definition)
            self._direct[key] = found.call if found else None
        return self._direct[key]

    def member(self, definition: GraphQLField, node: FieldNode) -> str | None:
        """The name under which graphql-core's default resolver looks for a field without a resolver."""
        if self.plain_members and definition.resolve is None and not definition.args and not node.arguments:
            return node.name.value
        return None


class Position:
    """A place in the answer: its type, the nodes that ask for it, and how a value that arrives there is completed."""

    __slots__ = ("at", "details", "return_type")

    def __init__(self, return_type: Any, details: FieldDetailsList, at: Complete | None = None) -> None:
        self.return_type, self.details, self.at = return_type, details, at


class Field(Position):
    """One field of the selection on one object type."""

    __slots__ = (
        "args",
        "attribute",
        "constant",
        "definition",
        "direct",
        "key",
        "member",
        "nodes",
        "parent_type",
        "resolve",
    )

    def __init__(
        self, compiler: Compiler, parent_type: GraphQLObjectType, key: str, details: FieldDetailsList, definition: Any
    ) -> None:
        super().__init__(definition.type, details)
        self.key, self.definition, self.parent_type = key, definition, parent_type
        self.nodes = to_nodes(details)
        self.constant = parent_type.name if definition is TypeNameMetaFieldDef else None
        self.attribute = compiler.facts.attribute(definition)
        plain = compiler.executor.field_resolver is default_field_resolver
        self.member = compiler.facts.member(definition, self.nodes[0]) if plain else None
        self.args = compiler.arguments(definition, self.nodes[0])
        self.resolve = definition.resolve or compiler.executor.field_resolver
        self.direct = compiler.facts.direct(definition)

    def run(self, ex: CompiledExecution, source: Any, parent_path: Path | None, site: Site | None, box: Any) -> Any:
        """Resolve and complete the field for one object: the value, or PENDING when it will be stored in `box`."""
        path: Path = new(Path, (parent_path, self.key, self.parent_type.name))
        try:
            args = self.args
            if args is None:
                args = ex.arguments(self)
            info = ex.info(self, path)
            direct = self.direct
            result = direct(ex, self, source, info, args) if direct else self.resolve(source, info, **args)
            if type(result) not in ORDINARY and ex.is_awaitable(result):
                ex.wait_for((result, self, info, path, site, box, self.key))
                return PENDING
            return self.at(ex, result, info, path, site, box, self.key)  # type: ignore[misc]  # set by link()
        except Exception as error:
            ex.handle_field_error(error, self.return_type, self.details, path)
            if ex.pending:
                ex.abandon(path)
            return None


class ObjectPlan:
    """The selection of one object type: generated code for what is pure, `Field.run` for the rest."""

    def __init__(self, compiler: Compiler, type_: GraphQLObjectType, grouped: GroupedFieldSet) -> None:
        self.compiler, self.type = compiler, type_
        self.fields: list[Field] = []
        for key, details in grouped.items():
            definition = compiler.facts.schema.get_field(type_, details[0].node.name.value)
            if definition:
                self.fields.append(Field(compiler, type_, key, details, definition))
        compiler.count(len(self.fields))
        self.skeletons: dict[type | None, Callable[[Any], dict[str, Any]]] = {}
        self.loops: dict[type | None, Callable[[Any], list[dict[str, Any]]]] = {}
        self.resolved: list[Field] = Source(compiler).skeleton(self)[1]
        self.pure = not self.resolved
        for field in self.resolved:
            field.at = compiler.position(field.return_type, field.details)

    def skeleton_for(self, kind: type | None) -> Callable[[Any], dict[str, Any]]:
        """What makes one object, null in place of resolved fields; for rows of one class it reads by position."""
        kind = self.row(kind, self.skeletons)
        skeleton = self.skeletons.get(kind)
        if skeleton is None:
            source = Source(self.compiler, kind)
            skeleton = self.skeletons[kind] = source.function(source.skeleton(self)[0])
        return skeleton

    def loop_for(self, kind: type | None) -> Callable[[Any], list[dict[str, Any]]]:
        """What makes a list of pure objects, all of one class when there is a class."""
        kind = self.row(kind, self.loops)
        loop = self.loops.get(kind)
        if loop is None:
            source = Source(self.compiler, kind)
            loop = self.loops[kind] = source.loop(source.skeleton(self)[0])
        return loop

    def row(self, kind: type | None, made: dict[type | None, Any]) -> type | None:
        """The class when code for it alone is worth making: rows, and of these not arbitrarily many."""
        if kind is None or kind in made:
            return kind
        return kind if self.compiler.types.is_row(kind) and len(made) < MAX_ROW_CLASSES else None

    def execute(
        self, ex: CompiledExecution, source: Any, path: Path | None, site: Site | None, skeleton: Any = None
    ) -> dict[str, Any]:
        """The object that the selection makes of the source; pending fields are stored in it later."""
        try:
            data: dict[str, Any] = (skeleton or self.skeletons.get(None) or self.skeleton_for(None))(source)
        except Exception:  # whatever is wrong, graphql-core says so
            data = self.execute_pure_fields_apart(ex, source, path, site)
        for field in self.resolved:
            result = field.run(ex, source, path, site, data)
            if result is not PENDING:
                data[field.key] = result
        return data

    def execute_pure_fields_apart(
        self, ex: CompiledExecution, source: Any, path: Path | None, site: Site | None
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for field in self.fields:
            data[field.key] = None
            if field not in self.resolved:
                at = Path(path, field.key, self.type.name)
                result = ex.execute_field(self.type, source, field.details, at, None)
                position = Position(field.return_type, field.details)
                result = ex.stored(result, position, at, site, data, field.key)
                if result is not PENDING:
                    data[field.key] = result
        return data


class Compiler:
    """Compiles one operation for one executor: for one combination of @skip and @include."""

    def __init__(self, executor: CompiledExecution, facts: Facts) -> None:
        self.executor, self.facts = executor, facts
        self.types, self.natives = facts.types, facts.natives
        self.plans: dict[tuple[str, int], tuple[FieldDetailsList, ObjectPlan]] = {}
        self.fields = 0

    def count(self, fields: int) -> None:
        self.fields += fields
        if self.fields > MAX_FIELDS:
            raise TooLarge

    def root(self, root_type: GraphQLObjectType) -> ObjectPlan:
        ex = self.executor
        collected = collect_fields(
            ex.schema, ex.fragments, ex.variable_values, root_type, ex.operation, ex.hide_suggestions
        )
        if collected.new_defer_usages:
            raise TooLarge
        plan = ObjectPlan(self, root_type, collected.grouped_field_set)
        for field in plan.fields:  # a mutation runs all its fields one by one, pure ones too
            field.at = field.at or self.position(field.return_type, field.details)
        return plan

    def subplan(self, type_: GraphQLObjectType, details: FieldDetailsList) -> ObjectPlan:
        """The plan of what the fields select on one object type."""
        key = type_.name, id(details)
        known = self.plans.get(key)
        if known is None:
            ex = self.executor
            collected = collect_subfields(
                ex.schema, ex.fragments, ex.variable_values, ex.operation, type_, details, ex.hide_suggestions
            )
            if collected.new_defer_usages:
                raise TooLarge
            # The details are kept, so that their identity stays theirs.
            known = self.plans[key] = details, ObjectPlan(self, type_, collected.grouped_field_set)
        return known[1]

    def arguments(self, definition: GraphQLField, node: FieldNode) -> dict[str, Any] | None:
        """The arguments of a field when they are the same in every request; None: they are made once per request."""
        if not definition.args and not node.arguments:
            return {}
        if has_variables(node):
            return None
        try:
            arguments = get_argument_values(
                definition, node, self.executor.variable_values, None, self.executor.hide_suggestions
            )
        except GraphQLError:
            return None  # told at execution
        return arguments if all(isinstance(value, IMMUTABLE) for value in arguments.values()) else None

    def position(self, type_: Any, details: FieldDetailsList) -> Complete:
        """How a field or a list item of the type is completed, null and surprises included."""
        nullable, inner = not is_non_null_type(type_), get_nullable_type(type_)
        is_list, body = is_list_type(inner), self.complete(inner, details)
        position = Position(type_, details)

        def at(ex: CompiledExecution, value: Any, info: Any, path: Path, site: Site | None, box: Any, key: Any) -> Any:
            if (value is None or value is Undefined) and nullable:
                return None
            try:
                if value is None or value is Undefined or (is_list and type(value) not in SEQUENCES):
                    raise Surprise  # null where it must not be; iterators that can be read only once
                result = body(ex, value, info, path, (box, key, path) if nullable else site)
                return (
                    result if type(result) is not CoroutineType else ex.stored(result, position, path, site, box, key)
                )
            except GraphQLError as error:
                if error.path is not None:
                    raise  # the located error of a field below, on its way up
            except Exception:  # noqa: S110  # graphql-core finds the same problem again and says what it is
                pass
            result = ex.complete_value(type_, details, info, path, value, None)
            return ex.stored(result, position, path, site, box, key)

        return at

    def complete(self, type_: Any, details: FieldDetailsList) -> Complete:
        """How a value of the nullable type that is not null is completed: (ex, value, info, path, site)."""
        if is_leaf_type(type_):
            serialise = serialiser(type_, False)
            return lambda ex, value, info, path, site: serialise(value)
        if is_list_type(type_):
            return self.complete_list(type_.of_type, details)
        if is_object_type(type_):
            return self.complete_object(type_, details)
        return self.complete_abstract(type_, details)

    def complete_object(self, type_: GraphQLObjectType, details: FieldDetailsList) -> Complete:
        plan, accepted = self.subplan(type_, details), self.types.acceptance(type_)
        is_type_of: Any = type_.is_type_of
        execute, pure, skeletons = plan.execute, plan.pure, plan.skeletons

        def complete(ex: CompiledExecution, value: Any, info: Any, path: Path, site: Site | None) -> Any:
            if accepted is not None:
                if type(value) not in accepted[0]:
                    accepted[1](value)
            elif ordinary(value) and (answer := is_type_of(value, info)) is not True:
                if ex.is_awaitable(answer):
                    return ex.complete_when_told(answer, type_, details, path, value)
                raise Surprise
            return (skeletons.get(None) or plan.skeleton_for(None))(value) if pure else execute(ex, value, path, site)

        return complete

    def complete_abstract(self, type_: Any, details: FieldDetailsList) -> Complete:
        possible = {t.name: t for t in self.facts.schema.get_possible_types(type_)}
        by_class = self.types.resolve_by_class(type_)
        resolve_type: Any = type_.resolve_type
        completes: dict[str, Complete] = {}
        classes: dict[type, Complete] = {}

        def of(name: str) -> Complete:
            """Made on first need: most of many possible types never occur."""
            if name not in completes:
                completes[name] = self.complete_object(possible[name], details)
            return completes[name]

        def complete(ex: CompiledExecution, value: Any, info: Any, path: Path, site: Site | None) -> Any:
            known = classes.get(type(value))
            if known is not None:
                return known(ex, value, info, path, site)
            ordinary(value)
            if by_class is not None:
                known = classes[type(value)] = of(by_class(value).name)
                return known(ex, value, info, path, site)
            name: Any = (resolve_type or ex.type_resolver)(value, info, type_)
            if type(name) is not str or name not in possible:
                if ex.is_awaitable(name):
                    return ex.complete_when_named(name, type_, details, info, path, value)
                raise Surprise
            return of(name)(ex, value, info, path, site)

        return complete

    def complete_list(self, item_type: Any, details: FieldDetailsList) -> Complete:
        nullable, inner = not is_non_null_type(item_type), get_nullable_type(item_type)
        if is_leaf_type(inner):
            serialise = serialiser(inner, nullable)
            return lambda ex, value, info, path, site: [serialise(item) for item in value]
        at, plan, accepted = self.position(item_type, details), None, None
        if is_object_type(inner) and (accepted := self.types.acceptance(inner)) is not None:
            plan = self.subplan(inner, details)

        def complete(ex: CompiledExecution, value: Any, info: Any, path: Path, site: Site | None) -> Any:
            kinds = classes_of(value)
            if plan is not None and accepted is not None and all_accepted(kinds, value, accepted):
                kind = next(iter(kinds)) if len(kinds) == 1 else None
                if plan.pure:
                    return plan.loop_for(kind)(value)
                skeleton = plan.skeleton_for(kind)
                return self.execute_items(ex, plan, skeleton, value, item_type, details, path, site)
            out: list[Any] = [None] * len(value)
            for index, item in enumerate(value):
                item_path: Path = new(Path, (path, index, None))
                try:
                    result = at(ex, item, info, item_path, site, out, index)
                    if result is not PENDING:
                        out[index] = result
                except Exception as error:
                    ex.handle_field_error(error, item_type, details, item_path)
                    if ex.pending:
                        ex.abandon(item_path)
            return out

        return complete

    @staticmethod
    def execute_items(
        ex: CompiledExecution,
        plan: ObjectPlan,
        skeleton: Any,
        items: list[Any],
        item_type: Any,
        details: FieldDetailsList,
        path: Path,
        site: Site | None,
    ) -> list[Any]:
        """A list of objects of a known type, some fields of which have resolvers."""
        nullable = not is_non_null_type(item_type)
        out: list[Any] = [None] * len(items)
        for index, item in enumerate(items):
            item_path: Path = new(Path, (path, index, None))
            try:
                out[index] = plan.execute(ex, item, item_path, (out, index, item_path) if nullable else site, skeleton)
            except Exception as error:
                ex.handle_field_error(error, item_type, details, item_path)
                if ex.pending:
                    ex.abandon(item_path)
        return out


def all_accepted(kinds: set[type], items: list[Any], accepted: tuple[set[type], Callable[[Any], bool]]) -> bool:
    """Whether every item is an object of the type; null is no object, a wrong object a Surprise."""
    if NoneType in kinds:
        return False
    known, accept = accepted
    if not kinds <= known:
        for item in items:
            if type(item) not in known:
                accept(item)
    return True


def has_variables(node: FieldNode) -> bool:
    found: list[VariableNode] = []

    class Find(Visitor):
        def enter_variable(self, node: VariableNode, *_: Any) -> None:
            found.append(node)

    for argument in node.arguments or ():
        visit(argument, Find())
    return bool(found)
