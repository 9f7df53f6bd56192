"""Resolvers called directly: what Strawberry does around a resolver, done once for each field instead of each call.

Strawberry's own wrapper converts the arguments, makes its info, finds out which parameters the function has and
calls it through three more functions. Where nothing else hangs on the field (permissions, extensions, exception
handlers, a field class of its own) the same can be known in advance. What does is called through the wrapper.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graphql import FieldNode, GraphQLField, GraphQLSchema, get_argument_values, get_nullable_type, is_leaf_type
from graphql.execution.values import VariableValues
from strawberry.types.arguments import InputContext, StrawberryArgument, convert_arguments
from strawberry.types.base import StrawberryMaybe, StrawberryOptional, has_object_definition
from strawberry.types.field import StrawberryField
from strawberry.types.maybe import Some

from graph.execution.compiling.arguments import Build, Hole, Template, inputs_of, is_plain_input, variables_of
from graph.execution.compiling.fields import Field
from graph.execution.run import Run
from graph.execution.values import IMMUTABLE, UNSEEN

SEEN = object()


class CannotCopy(Exception):
    """The value holds something that may not be shared and cannot be copied."""


def copied(value: Any) -> Any:
    """The converted value of an argument for one more call: a resolver may change what it gets."""
    if isinstance(value, IMMUTABLE):
        return value
    kind: Any = type(value)
    if kind is list:
        return [copied(item) for item in value]
    if kind is dict:
        return {key: copied(item) for key, item in value.items()}
    if kind is Some:
        return Some(copied(value.value))
    if is_plain_input(kind):
        made = object.__new__(kind)
        made.__dict__.update({name: copied(item) for name, item in value.__dict__.items()})
        return made
    raise CannotCopy


class Direct:
    """A resolver function and how it wants to be called."""

    __slots__ = (
        "arguments",
        "config",
        "field",
        "function",
        "has_check",
        "info_class",
        "info_name",
        "parents",
        "registry",
        "self_",
    )

    def __init__(self, schema: Any, field: StrawberryField) -> None:
        resolver: Any = field.base_resolver
        self.field, self.function = field, resolver.wrapped_func
        self.arguments = field.arguments
        self.config, self.registry = schema.config, schema.schema_converter.scalar_registry
        self.info_class = schema.config.info_class
        self.self_ = bool(resolver.self_parameter)
        self.parents = [p.name for p in (resolver.parent_parameter, resolver.root_parameter) if p]
        self.info_name = resolver.info_parameter.name if resolver.info_parameter else None
        self.has_check = "check" in field.metadata

    def call(self, run: Run, owner: Field, source: Any, info: Any) -> Any:
        """What the resolver returns for the source."""
        if self.info_name is None:
            kwargs = self.converted(run, owner, None) if self.arguments else {}
        else:
            strawberry_info = self.info_class(_raw_info=info, _field=self.field)
            kwargs = self.converted(run, owner, strawberry_info) if self.arguments else {}
            kwargs[self.info_name] = strawberry_info
        for name in self.parents:
            kwargs[name] = source
        return self.function(source, **kwargs) if self.self_ else self.function(**kwargs)

    def converted(self, run: Run, owner: Field, info: Any) -> dict[str, Any]:
        """The arguments as Strawberry hands them over, converted once for all parents, each with copies of its own.

        Those without variables that nobody can change are converted once for good. A resolver that looks at what a
        check of them found out needs them no more.
        """
        if self.has_check and owner.place in getattr(run.context_value, "checked", ()):
            return {}
        if owner.constants is not None:
            return owner.constants.copy()
        known = run.converted.get(owner, UNSEEN)
        if type(known) is tuple:
            values, shared = known
            return values.copy() if shared else {name: copied(value) for name, value in values.items()}
        fresh: dict[str, Any] | None = None
        if owner.args is None:
            if owner.template is UNSEEN:
                owner.template = template(
                    owner.definition, owner.nodes[0], self, run.variable_values, run.hide_suggestions
                )
            if owner.template is not None:
                fresh = owner.template.fill(run.variable_values.coerced)
                if fresh is not None and not owner.template.converts:
                    return fresh
        if fresh is None:
            fresh = self.convert(run.arguments(owner) if owner.args is None else owner.args, info)
        if known is UNSEEN:
            run.converted[owner] = SEEN  # most fields are called once; the second call shows that it pays
        elif known is SEEN:
            shared = all(isinstance(value, IMMUTABLE) for value in fresh.values())
            try:
                run.converted[owner] = {name: copied(value) for name, value in fresh.items()}, shared
            except CannotCopy:
                run.converted[owner] = None
            if shared and owner.args is not None:
                owner.constants = fresh.copy()
        return fresh

    def convert(self, values: Mapping[str, Any], info: Any) -> dict[str, Any]:
        """Arguments as Strawberry hands them over, by their names in Python."""
        return convert_arguments(dict(values), self.arguments, self.registry, self.config, info)

    def name_of(self, argument: StrawberryArgument) -> str:
        """The name of an argument in GraphQL."""
        name: str = self.config.name_converter.from_argument(argument)
        return name


def direct(schema: GraphQLSchema, definition: GraphQLField) -> Direct | None:
    """How to call the resolver of the field without Strawberry's wrapper; None when the wrapper has to be used."""
    strawberry_schema: Any = getattr(schema, "_strawberry_schema", None)
    field = (definition.extensions or {}).get("strawberry-definition")
    wrapper: Callable[..., Any] | None = definition.resolve
    if (
        strawberry_schema is None
        or not isinstance(field, StrawberryField)
        or type(field).get_result is not StrawberryField.get_result
        or field.base_resolver is None
        or field.extensions
        or field.is_subscription
        or strawberry_schema.exception_handlers
        or getattr(wrapper, "__name__", "") not in {"_resolver", "_async_resolver"}
        or not callable(field.base_resolver.wrapped_func)
        or any(takes_context(argument.type) for argument in field.arguments)
    ):
        return None
    return Direct(strawberry_schema, field)


def takes_context(type_: Any) -> bool:
    """Whether an input type builds its own value, for which the info of the very call could matter.

    A `from_input` that looks at the values alone says so by an attribute `by_value`.
    """
    makes = [kind.__strawberry_definition__.from_input for kind in inputs_of(type_)]
    return any(make is not None and not getattr(make, "by_value", False) for make in makes)


def template(
    definition: GraphQLField, node: FieldNode, resolver: Direct, values: VariableValues, hide_suggestions: bool
) -> Template | None:
    """The template of a field's arguments; None when they have to be converted each time."""
    names = variables_of(node)
    sources, coerced = values
    if any(name not in sources for name in names):
        return None
    # Before anything is made with holes: what a class does with them is nobody's to see.
    if not all(is_plain_input(kind) for argument in resolver.arguments for kind in inputs_of(argument.type)):
        return None
    holes = VariableValues(sources, {**coerced, **{name: Hole(name) for name in names}})
    try:
        arguments = get_argument_values(definition, node, holes, None, hide_suggestions)
        whole = {}
        for argument in resolver.arguments:
            name = resolver.name_of(argument)
            hole = arguments.get(name)
            if type(hole) is Hole and not is_leaf_type(get_nullable_type(sources[hole.name].signature.type)):
                whole[argument.python_name] = conversion(arguments.pop(name).name, resolver, argument)
        return Template(names, resolver.convert(arguments, None), whole)
    except Exception:  # whatever a conversion has against holes, it is done with the values themselves then
        return None


def conversion(variable: str, resolver: Direct, argument: StrawberryArgument) -> Build:
    """Converts the value of a variable, which is not null, as `convert_argument` of Strawberry does."""
    kind: Any = argument.type
    context = InputContext(None, resolver.config, resolver.registry, (resolver.name_of(argument),))
    if isinstance(kind, StrawberryOptional) and not isinstance(kind, StrawberryMaybe):
        kind = kind.of_type
    if has_object_definition(kind) and (make := kind.__strawberry_definition__.from_input) is not None:
        return lambda variables: make(kind, variables[variable], context)
    return lambda variables: context.convert(variables[variable], kind)
