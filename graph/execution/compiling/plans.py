"""What the compiler makes: the plan of each object type of an operation, and of each field in it.

A plan runs with a `CompiledExecution`; it holds nothing of a request and is shared by all that send the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    get_nullable_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from graphql.execution.executor import default_field_resolver, to_nodes
from graphql.pyutils import Path
from graphql.type.introspection import TypeNameMetaFieldDef
from strawberry.types.field import StrawberryField

from graph.execution.compiling.batches import Items, Places, is_in_list, resolve_later
from graph.execution.compiling.resolvers import Direct, direct
from graph.execution.compiling.source import Hole, Source
from graph.execution.values import (
    IMMUTABLE,
    ORDINARY,
    UNSEEN,
    Acceptance,
    Natives,
    Surprise,
    Types,
    all_accepted,
    classes_of,
)

if TYPE_CHECKING:
    from graph.execution.compiling.compiler import Compiler
    from graph.execution.running.executor import CompiledExecution

# Classes of objects that one selection remembers; usually there is one, such as that of a SQL statement's rows.
MAX_CLASSES_OF_PLAN = 8

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
        """The same for the function that resolves the field for many objects (`compiler_batches`), if it has one."""
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
        "resolve",
        "template",
    )

    def __init__(
        self, compiler: Compiler, parent_type: GraphQLObjectType, key: str, details: FieldDetailsList, definition: Any
    ) -> None:
        super().__init__(definition.type, details)
        self.key, self.definition, self.parent_type = key, definition, parent_type
        self.nodes = to_nodes(details)
        self.constant = parent_type.name if definition is TypeNameMetaFieldDef else None
        self.attribute = compiler.facts.attribute(definition)
        plain = compiler.field_resolver is default_field_resolver
        self.member = compiler.facts.member(definition, self.nodes[0]) if plain else None
        self.args = compiler.arguments(definition, self.nodes[0])
        # The arguments as the resolver gets them, when all requests agree.
        self.constants = compiler.facts.converted(definition, self.args)
        self.template: Any = UNSEEN  # `compiler_arguments.Template`, or None
        self.resolve = definition.resolve or compiler.field_resolver
        found, batched = compiler.facts.direct(definition), compiler.facts.batched(definition)
        self.direct = found.call if found else None
        self.batched = batched.call if batched else None
        # The attribute in which an object may bring along what the resolver would return for it.
        self.carried: str | None = None
        kind = get_nullable_type(definition.type)
        if found is not None and is_object_type(kind) and compiler.types.acceptance(kind) is not None:
            self.carried = found.field.metadata.get("carried")

    def run(self, ex: CompiledExecution, source: Any, parent_path: Path | None, site: Site | None, box: Any) -> Any:
        """Resolve and complete the field for one object: the value, or PENDING when it will be stored in `box`."""
        path: Path = new(Path, (parent_path, self.key, self.parent_type.name))
        try:
            if self.carried is not None and (carried := getattr(source, self.carried, None)) is not None:
                # The type is known by the class alone, so nobody needs the info.
                return self.at(ex, carried, None, path, site, box, self.key)  # type: ignore[misc]  # set by link()
            if self.batched is not None and is_in_list(parent_path):
                resolve_later(ex, self, [source], [box], [(path, site)])
                return PENDING
            info = ex.info(self, path)
            result = self.call(ex, source, info)
            if type(result) not in ORDINARY and ex.is_awaitable(result):
                ex.wait_for((result, self, info, path, site, box, self.key))
                return PENDING
            return self.at(ex, result, info, path, site, box, self.key)  # type: ignore[misc]  # set by link()
        except Exception as error:
            ex.handle_field_error(error, self.return_type, self.details, path)
            if ex.pending:
                ex.abandon(path)
            return None

    def call(self, ex: CompiledExecution, source: Any, info: Any) -> Any:
        """What the resolver returns for one object."""
        if self.attribute is not None:  # all that Strawberry's wrapper would do
            return getattr(source, self.attribute)
        if self.direct is not None:
            return self.direct(ex, self, source, info)
        return self.resolve(source, info, **(ex.arguments(self) if self.args is None else self.args))


class Form:
    """How objects of one class are made (None: of any class). The code is generated when it is used first."""

    def __init__(self, plan: ObjectPlan, kind: type | None) -> None:
        self.plan, self.kind = plan, kind
        # The fields that have to be resolved for each object.
        self.resolved = Source(plan.compiler, kind).skeleton(plan)[1]

    @cached_property
    def make(self) -> Callable[[Any], dict[str, Any]]:
        """What makes one object, null in place of resolved fields."""
        return Source(self.plan.compiler, self.kind).one(self.plan)

    @cached_property
    def loop(self) -> Callable[[Any], list[dict[str, Any]]]:
        """What makes a list of objects for which nothing has to be resolved."""
        return Source(self.plan.compiler, self.kind).loop(self.plan)

    @cached_property
    def level(self) -> tuple[Callable[..., list[dict[str, Any]]], list[Hole]] | None:
        """What makes a list of objects of which all that is to be resolved is resolved for many at once."""
        return Source(self.plan.compiler, self.kind).level(self.plan)

    def run_level(
        self, ex: CompiledExecution, items: list[Any], nullable: bool, path: Path, site: Site | None
    ) -> list[Any] | None:
        """A list of objects, their fields pending; None when something is not as expected, and nothing happened."""
        if self.level is None:
            return None
        function, holes = self.level
        found: list[list[Any]] = [[] for _ in range(2 * len(holes))]
        try:
            made: list[Any] = function(items, *[each.append for each in found])
        except Exception:  # whatever is wrong, graphql-core says so
            return None
        if made:
            places = Items(made, nullable, path, site)
            for n, hole in enumerate(holes):
                sources, boxes = found[2 * n : 2 * n + 2]
                resolve_later(ex, hole.field, sources, boxes, Places(places, hole.way, hole.field))
        return made


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
        # By the class of the objects.
        self.forms: dict[type | None, Form] = {None: Form(self, None)}
        self.resolved = self.forms[None].resolved
        self.pure = not self.resolved
        for field in self.resolved:
            field.at = compiler.position(field.return_type, field.details)
            field.many = compiler.many(field.return_type, field.details)

    def form(self, kind: type | None) -> Form:
        """How objects of the class are made. Code for one class alone is made for rows: it reads by position."""
        form = self.forms.get(kind)
        if form is None:
            form = self.forms[None]
            if len(self.forms) <= MAX_CLASSES_OF_PLAN and kind is not None:
                form = self.forms[kind] = Form(self, kind) if self.compiler.types.is_row(kind) else form
        return form

    def loop(self, values: list[Any], accepted: Acceptance) -> list[dict[str, Any]]:
        """All the values as objects, when they are; Surprise when one is not."""
        kinds = classes_of(values)
        if not all_accepted(kinds, values, accepted):
            raise Surprise
        return self.form(next(iter(kinds)) if len(kinds) == 1 else None).loop(values)

    def execute(
        self, ex: CompiledExecution, source: Any, path: Path | None, site: Site | None, form: Form | None = None
    ) -> dict[str, Any]:
        """The object that the selection makes of the source; pending fields are stored in it later."""
        form = form or self.forms.get(type(source)) or self.form(type(source))
        resolved = form.resolved
        try:
            data: dict[str, Any] = form.make(source)
        except Exception:  # whatever is wrong, graphql-core says so
            data, resolved = self.execute_pure_fields_apart(ex, source, path, site), self.resolved
        for field in resolved:
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
