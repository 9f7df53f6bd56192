"""The compiler: from the selections of an operation to plans that run without looking at the document again.

graphql-core's own `collect_fields` and `get_argument_values` run here, once for each operation, so that selection
semantics are its own. Three kinds of field exist:

- *pure*: an attribute whose whole sub-selection is pure; these become generated code (`source`);
- *resolved*: the real resolver is called with the real info, and what it returns is completed by a `Complete`;
- *batched*: resolved for all objects of a level with one call, where the field says how (`batches`).

A `Complete` either returns the completed value, or `PENDING` when graphql-core made an awaitable of it, or raises
`Surprise` before anything had an effect; then graphql-core's `complete_value` does that position from the start.
"""

from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    Undefined,
    get_argument_values,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import (
    FieldDetailsList,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.executor import Executor, default_field_resolver
from graphql.execution.values import VariableValues
from graphql.pyutils import Path
from graphql.type.introspection import TypeNameMetaFieldDef

from graph.execution.compiling.arguments import variables_of
from graph.execution.compiling.facts import Facts
from graph.execution.compiling.fields import PENDING, Complete, Field, Position
from graph.execution.compiling.plans import Form, ObjectPlan, new
from graph.execution.compiling.source import serialiser
from graph.execution.run import Run, Site
from graph.execution.values import IMMUTABLE, Surprise, all_accepted, classes_of, ordinary

# An operation that selects more fields than this, fragments expanded, is not compiled.
MAX_FIELDS = 5_000


# What a list field may return to be completed here; other iterables can be read only once.
SEQUENCES = {list, tuple}


class TooLarge(Exception):
    """The operation is not worth compiling."""


class Compiler:
    """Compiles one operation for one combination of @skip and @include.

    Plans outlive the request that they were made in, so nothing of it is kept but the variables named `conditions`.
    """

    def __init__(self, executor: Executor[Any], facts: Facts, conditions: Sequence[str]) -> None:
        self.facts, self.schema = facts, executor.schema
        self.operation, self.fragments = executor.operation, executor.fragments
        self.hide_suggestions, self.field_resolver = executor.hide_suggestions, executor.field_resolver
        sources, coerced = executor.variable_values
        self.variable_values = VariableValues(
            {name: sources[name] for name in conditions if name in sources},
            {name: coerced[name] for name in conditions if name in coerced},
        )
        self.types, self.natives = facts.types, facts.natives
        self.plans: dict[tuple[str, int], tuple[FieldDetailsList, ObjectPlan]] = {}
        self.fields = 0

    def root(self, root_type: GraphQLObjectType) -> ObjectPlan:
        collected = collect_fields(
            self.schema, self.fragments, self.variable_values, root_type, self.operation, self.hide_suggestions
        )
        if collected.new_defer_usages:
            raise TooLarge
        plan = self.plan(root_type, collected.grouped_field_set)
        for field in plan.fields:  # a mutation runs all its fields one by one, pure ones too
            field.at = field.at or self.position(field.return_type, field.details)
        return plan

    def plan(self, type_: GraphQLObjectType, grouped: GroupedFieldSet) -> ObjectPlan:
        """The plan of a selection, with all that is below it."""
        fields = []
        for key, details in grouped.items():
            definition = self.schema.get_field(type_, details[0].node.name.value)
            if definition:
                fields.append(self.field(type_, key, details, definition))
        self.fields += len(fields)
        if self.fields > MAX_FIELDS:
            raise TooLarge
        plan = ObjectPlan(type_, fields, self)
        for field in plan.resolved:
            field.at = self.position(field.return_type, field.details)
            field.many = self.many(field.return_type, field.details)
        return plan

    def field(
        self, parent_type: GraphQLObjectType, key: str, details: FieldDetailsList, definition: GraphQLField
    ) -> Field:
        """A field with all that is known of it before anything runs."""
        facts, field = self.facts, Field(parent_type, key, details, definition)
        if definition is TypeNameMetaFieldDef:
            field.constant = parent_type.name
        field.resolve = definition.resolve or self.field_resolver
        field.attribute = facts.attribute(definition)
        if self.field_resolver is default_field_resolver:
            field.member = facts.member(definition, field.nodes[0])
        field.args = self.arguments(definition, field.nodes[0])
        field.constants = facts.converted(definition, field.args)
        found, batched = facts.direct(definition), facts.batched(definition)
        field.direct = found.call if found else None
        field.batched = batched.call if batched else None
        kind = get_nullable_type(definition.type)
        if found is not None and is_object_type(kind) and self.types.acceptance(kind) is not None:
            field.carried = found.field.metadata.get("carried")
        return field

    def selected(self, type_: GraphQLObjectType, details: FieldDetailsList) -> Sequence[Field]:
        """The fields that a selection has on one object type."""
        return self.subplan(type_, details).fields

    def subplan(self, type_: GraphQLObjectType, details: FieldDetailsList) -> ObjectPlan:
        """The plan of what the fields select on one object type."""
        key = type_.name, id(details)
        known = self.plans.get(key)
        if known is None:
            collected = collect_subfields(
                self.schema,
                self.fragments,
                self.variable_values,
                self.operation,
                type_,
                details,
                self.hide_suggestions,
            )
            if collected.new_defer_usages:
                raise TooLarge
            # The details are kept, so that their identity stays theirs.
            known = self.plans[key] = details, self.plan(type_, collected.grouped_field_set)
        return known[1]

    def arguments(self, definition: GraphQLField, node: FieldNode) -> dict[str, Any] | None:
        """The arguments of a field when they are the same in every request; None: they are made once per request."""
        if not definition.args and not node.arguments:
            return {}
        if variables_of(node):
            return None
        try:
            arguments = get_argument_values(definition, node, self.variable_values, None, self.hide_suggestions)
        except GraphQLError:
            return None  # told at execution
        return arguments if all(isinstance(value, IMMUTABLE) for value in arguments.values()) else None

    def position(self, type_: Any, details: FieldDetailsList) -> Complete:
        """How a field or a list item of the type is completed, null and surprises included."""
        nullable, inner = not is_non_null_type(type_), get_nullable_type(type_)
        is_list, body = is_list_type(inner), self.complete(inner, details)
        position = Position(type_, details)

        def at(run: Run, value: Any, info: Any, path: Path, site: Site | None, box: Any, key: Any) -> Any:
            if (value is None or value is Undefined) and nullable:
                return None
            try:
                if value is None or value is Undefined or (is_list and type(value) not in SEQUENCES):
                    raise Surprise  # null where it must not be; iterators that can be read only once
                result = body(run, value, info, path, (box, key, path) if nullable else site)
                return (
                    result if type(result) is not CoroutineType else run.stored(result, position, path, site, box, key)
                )
            except GraphQLError as error:
                if error.path is not None:
                    raise  # the located error of a field below, on its way up
            except Exception:  # noqa: S110  # graphql-core finds the same problem again and says what it is
                pass
            result = run.complete_value(type_, details, info, path, value, None)
            return run.stored(result, position, path, site, box, key)

        return at

    def many(self, type_: Any, details: FieldDetailsList) -> Callable[[list[Any]], list[Any]] | None:
        """How objects that need no resolver are completed together, such as those a dataloader returns for a level."""
        inner: Any = get_nullable_type(type_)
        accepted = self.types.acceptance(inner) if is_object_type(inner) else None
        if accepted is None:
            return None
        plan = self.subplan(inner, details)
        return (lambda values: plan.loop(values, accepted)) if plan.pure else None

    def complete(self, type_: Any, details: FieldDetailsList) -> Complete:
        """How a value of the nullable type that is not null is completed: (run, value, info, path, site)."""
        if is_leaf_type(type_):
            serialise = serialiser(type_, False)
            return lambda run, value, info, path, site: serialise(value)
        if is_list_type(type_):
            return self.complete_list(type_.of_type, details)
        if is_object_type(type_):
            return self.complete_object(type_, details)
        return self.complete_abstract(type_, details)

    def complete_object(self, type_: GraphQLObjectType, details: FieldDetailsList) -> Complete:
        plan, accepted = self.subplan(type_, details), self.types.acceptance(type_)
        is_type_of: Any = type_.is_type_of
        execute, forms = plan.execute, plan.forms

        def complete(run: Run, value: Any, info: Any, path: Path, site: Site | None) -> Any:
            if accepted is not None:
                if type(value) not in accepted[0]:
                    accepted[1](value)
            elif ordinary(value) and (answer := is_type_of(value, info)) is not True:
                if run.is_awaitable(answer):
                    return run.complete_when_told(answer, type_, details, path, value)
                raise Surprise
            form = forms.get(type(value)) or plan.form(type(value))
            return execute(run, value, path, site, form) if form.resolved else form.make(value)

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

        def complete(run: Run, value: Any, info: Any, path: Path, site: Site | None) -> Any:
            known = classes.get(type(value))
            if known is not None:
                return known(run, value, info, path, site)
            ordinary(value)
            if by_class is not None:
                known = classes[type(value)] = of(by_class(value).name)
                return known(run, value, info, path, site)
            name: Any = (resolve_type or run.type_resolver)(value, info, type_)
            if type(name) is not str or name not in possible:
                if run.is_awaitable(name):
                    return run.complete_when_named(name, type_, details, info, path, value)
                raise Surprise
            return of(name)(run, value, info, path, site)

        return complete

    def complete_list(self, item_type: Any, details: FieldDetailsList) -> Complete:
        nullable, inner = not is_non_null_type(item_type), get_nullable_type(item_type)
        if is_leaf_type(inner):
            serialise = serialiser(inner, nullable)
            return lambda run, value, info, path, site: [serialise(item) for item in value]
        at, plan, accepted = self.position(item_type, details), None, None
        if is_object_type(inner) and (accepted := self.types.acceptance(inner)) is not None:
            plan = self.subplan(inner, details)

        def complete(run: Run, value: Any, info: Any, path: Path, site: Site | None) -> Any:
            kinds = classes_of(value)
            if plan is not None and accepted is not None and all_accepted(kinds, value, accepted):
                form = plan.form(next(iter(kinds)) if len(kinds) == 1 else None)
                if not form.resolved:
                    return form.loop(value)
                made = form.run_level(run, value, nullable, path, site)
                return self.execute_items(run, form, value, item_type, details, path, site) if made is None else made
            out: list[Any] = [None] * len(value)
            for index, item in enumerate(value):
                item_path: Path = new(Path, (path, index, None))
                try:
                    result = at(run, item, info, item_path, site, out, index)
                    if result is not PENDING:
                        out[index] = result
                except Exception as error:
                    run.handle_field_error(error, item_type, details, item_path)
                    if run.pending:
                        run.abandon(item_path)
            return out

        return complete

    @staticmethod
    def execute_items(
        run: Run,
        form: Form,
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
                item_site = (out, index, item_path) if nullable else site
                out[index] = form.plan.execute(run, item, item_path, item_site, form)
            except Exception as error:
                run.handle_field_error(error, item_type, details, item_path)
                if run.pending:
                    run.abandon(item_path)
        return out
