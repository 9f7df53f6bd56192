"""Arguments that are checked before anything runs.

What is wrong with the arguments of a field refuses the whole request, as what is wrong with a variable does: an error
of the field would make its parent null, and a client with a cache would believe that. So a field may name, as `check`
in its metadata, a function that gets its arguments as the resolver does, raises RequestError for wrong ones, and
returns what follows from them. The resolver finds that again as `context.checked` under the field's `place`.

    Checks(facts).check(operation, the values of its variables) -> what was found out, by place, or what is wrong

Arguments without variables are checked once for an operation. A field that `@skip` or `@include` leaves out is not
looked at, a field in a fragment once, wherever it is spread.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLNamedType,
    GraphQLResolveInfo,
    SelectionSetNode,
    get_argument_values,
    get_named_type,
    located_error,
)
from graphql.execution.values import VariableValues

from graph.execution.compiling.arguments import Template, variables_of
from graph.execution.compiling.facts import Facts
from graph.execution.compiling.resolvers import Direct, template
from graph.execution.errors import RequestError
from graph.execution.preparing.documents import Operation
from graph.execution.preparing.selections import ALWAYS, Condition, condition_of, definition_of, unfolded
from graph.execution.values import UNSEEN

Check = Callable[..., Any]
Checked = Mapping[Hashable, Any]
MAX_ERRORS = 50


def checked(check: Check) -> dict[str, Any]:
    """The metadata of a field whose arguments are checked before anything runs.

    Its resolver looks at what the check returned, and gets no arguments where there is such a thing: they would be made
    a second time. So all of them have defaults.
    """
    return {"check": check}


def place(info: GraphQLResolveInfo[Any]) -> Hashable:
    """Where the current field is found in `context.checked`."""
    return info.parent_type.name, id(info.field_nodes[0])


@dataclass(slots=True)
class Place:
    """A field with a check in an operation."""

    node: FieldNode
    definition: GraphQLField
    direct: Direct
    path: tuple[str, ...]
    has_variables: bool
    conditions: set[Condition] = field(default_factory=set)
    template: Any = UNSEEN

    def included(self, values: Mapping[str, Any]) -> bool:
        return any(all(values.get(name) is wanted for name, wanted in each) for each in self.conditions)

    def check(self, values: VariableValues, hide_suggestions: bool) -> Any:
        """What the check finds out. Raises what it raises, and what making the arguments does."""
        return self.direct.field.metadata["check"](**self._arguments(values, hide_suggestions))

    def _arguments(self, values: VariableValues, hide_suggestions: bool) -> dict[str, Any]:
        if self.template is UNSEEN:
            self.template = template(self.definition, self.node, self.direct, values, hide_suggestions)
        if isinstance(self.template, Template) and (filled := self.template.fill(values.coerced)) is not None:
            return filled
        given = get_argument_values(self.definition, self.node, values, None, hide_suggestions)
        return self.direct.convert(given, None)


class Plan:
    """The checks of one operation: those that depend on variables, and what is known of the others for good."""

    __slots__ = ("changing", "known")

    def __init__(self, places: Mapping[Hashable, Place]) -> None:
        self.changing = dict(places)
        self.known: dict[Hashable, Any] = {}

    def check(self, values: VariableValues, hide_suggestions: bool) -> Checked | list[GraphQLError]:
        """What was found out, by place, or what is wrong."""
        if not self.changing:
            return self.known
        found, wrong = self.known.copy(), list[GraphQLError]()
        for key, one in list(self.changing.items()):
            if not one.included(values.coerced):
                continue
            try:
                found[key] = one.check(values, hide_suggestions)
            except Exception as error:
                wrong.append(refusal(error, one))
                if len(wrong) == MAX_ERRORS:
                    break
            else:
                if ALWAYS in one.conditions and not one.has_variables:
                    self.known[key] = found[key]
                    del self.changing[key]
        return wrong or found


def refusal(error: Exception, where: Place) -> GraphQLError:
    """The error of a field's arguments as that of the whole request: it says in its extensions where the field is."""
    if not isinstance(error, RequestError):
        return located_error(error, [where.node])
    refused = RequestError(error.message, error.code, nodes=where.node, status=error.status, headers=error.headers)
    refused.extensions = {**(error.extensions or {}), "path": list(where.path)}
    return refused


class Checks:
    """The checks of one schema. Raises TypeError for one whose resolver cannot be called with arguments made before."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.schema = facts, facts.schema
        self.fields: dict[int, Direct] = {}
        for kind in self.schema.type_map.values():
            for name, definition in getattr(kind, "fields", {}).items():
                made = getattr(definition, "extensions", {}).get("strawberry-definition")
                if "check" in getattr(made, "metadata", {}):
                    if (direct := facts.direct(definition)) is None:
                        raise TypeError(f"{kind.name}.{name} cannot be checked before it runs")
                    self.fields[id(definition)] = direct

    def check(
        self, operation: Operation, values: VariableValues, hide_suggestions: bool
    ) -> Checked | list[GraphQLError]:
        """What was found out, by place, or what is wrong."""
        plan: Plan | None = operation.memo.get("checks")
        if plan is None:
            plan = operation.memo["checks"] = Plan(self._places(operation) if self.fields else {})
        return plan.check(values, hide_suggestions)

    def _places(self, operation: Operation) -> dict[Hashable, Place]:
        """The fields of an operation with a check. Takes time in proportion to the selections, fragments expanded."""
        found: dict[Hashable, Place] = {}
        root: Any = self.schema.get_root_type(operation.kind)
        pending: list[tuple[GraphQLNamedType, SelectionSetNode, Condition, tuple[str, ...]]] = [
            (root, operation.definition.selection_set, ALWAYS, ())
        ]
        while pending:
            parent, selections, condition, path = pending.pop()
            for node in selections.selections:
                under = condition_of(node, condition)
                if under is None:
                    continue
                if isinstance(node, FieldNode):
                    definition = definition_of(self.schema, parent, node.name.value)
                    if definition is None:
                        continue
                    here = (*path, node.alias.value if node.alias else node.name.value)
                    if (direct := self.fields.get(id(definition))) is not None:
                        key = parent.name, id(node)
                        found.setdefault(
                            key, Place(node, definition, direct, here, bool(variables_of(node)))
                        ).conditions.add(under)
                    if node.selection_set:
                        pending.append((get_named_type(definition.type), node.selection_set, under, here))
                else:
                    pending.append((*unfolded(self.schema, operation, parent, node), under, path))
        return found
