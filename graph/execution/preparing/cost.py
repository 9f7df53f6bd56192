"""What an operation may cost, known before it runs: the number of objects it can read at most.

Every object counts one, as often as the pages and lists above it can repeat it; a connection counts the objects on
its page, its wrappers (edges, page info) count nothing, and a connection of which no objects are selected counts one.
A value counts nothing, unless it is asked for again under another name: a long text under 30 names is a long answer.
Page sizes and @skip/@include are taken from the variables of the request. The plan is made once per operation:

    Costs -> Plan (kept in `Operation.memo`) -> points for the variables of one request

Fields that are merged in the answer are counted once. Type conditions are added up, which is never too little.
Introspection counts twice the objects of the schema that it shows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    BooleanValueNode,
    FieldNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from graph.execution.errors import RequestError
from graph.execution.preparing.documents import Operation
from graph.execution.preparing.introspection import WEIGHT, is_meta, objects
from graph.execution.preparing.selections import ALWAYS, Condition, condition_of, definition_of, unfolded

COST_LIMIT_EXCEEDED = "COST_LIMIT_EXCEEDED"
PAGE_ARGUMENTS = ("first", "last")
LIST_ARGUMENT = "ids"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the schema says of a field where the rules would be wrong.

    It is `extensions["cost"]` of a graphql-core field, or `metadata={"cost": ...}` of a Strawberry field.

    `weight` is what each object (or the value of a leaf) counts; `size` is how many there are, as a number or as the
    name of the argument that is this number or is a list of as many values.
    """

    weight: int = 1
    size: int | str | None = None


@dataclass(slots=True)
class Size:
    """How many objects there are, by arguments; the largest that is given, else `default`."""

    arguments: list[tuple[str, Any]]  # variables with their defaults
    constants: list[int]
    default: int

    def __call__(self, variables: Mapping[str, Any]) -> int:
        sizes = list(self.constants)
        for name, default in self.arguments:
            size = _number(variables.get(name, default))
            if size is not None:
                sizes.append(size)
        return max(sizes) if sizes else self.default


@dataclass(slots=True)
class Node:
    """A field that may be repeated or contain such: `size` times its `weight` and what is `below`, at least `least`."""

    name: str
    weight: int
    size: int | Size
    least: int
    conditions: list[Condition]
    below: "Plan"

    @property
    def constant(self) -> bool:
        return isinstance(self.size, int) and not self.conditions and not self.below.dynamic

    def count(self, variables: Mapping[str, Any]) -> int:
        size = self.size
        return size if isinstance(size, int) else size(variables)

    def holds(self, variables: Mapping[str, Any]) -> bool:
        return not self.conditions or any(
            all(variables.get(name) is wanted for name, wanted in condition) for condition in self.conditions
        )

    def points(self, variables: Mapping[str, Any]) -> int:
        if not self.holds(variables):
            return 0
        return max(self.least, self.count(variables) * (self.weight + self.below.points(variables)))


class Plan:
    """The points of a selection set: what is always the same as one number, and the fields that depend on variables."""

    __slots__ = ("constant", "defaults", "dynamic", "nodes")

    def __init__(self, nodes: Iterable[Node], defaults: dict[str, bool] | None = None) -> None:
        self.nodes = tuple(nodes)
        self.dynamic = tuple(node for node in self.nodes if not node.constant)
        self.constant = sum(node.points({}) for node in self.nodes if node.constant)
        self.defaults = defaults or {}  # of the Boolean variables

    def points(self, variables: Mapping[str, Any]) -> int:
        points = self.constant
        for node in self.dynamic:
            points += node.points(variables)
        return points

    def explain(self, variables: Mapping[str, Any], times: int = 1, path: str = "") -> Iterator[dict[str, Any]]:
        """What each field adds, as `{"path", "points"}`; together they are the points of the plan."""
        for node in self.nodes:
            if not node.holds(variables):
                continue
            place = f"{path}.{node.name}" if path else node.name
            count = node.count(variables)
            below = list(node.below.explain(variables, times * count, place))
            own = times * count * node.weight
            if node.least and not own + sum(item["points"] for item in below):
                own = times * node.least
            if own:
                yield {"path": place, "points": own}
            yield from below


class Costs:
    """The costs of operations on one schema.

    `limit` is what one operation may cost; `default_page` is the size of a page whose argument is absent and has no
    default in the schema; `list_size` is taken for lists of which nothing else is known.
    """

    def __init__(
        self, schema: GraphQLSchema, *, limit: int = 10_000, default_page: int = 20, list_size: int = 10
    ) -> None:
        self.schema, self.limit, self.default_page, self.list_size = schema, limit, default_page, list_size

    def points(self, operation: Operation, variables: Mapping[str, Any] | None) -> int:
        """The points of a request, at least one."""
        plan: Plan | None = operation.memo.get("cost")
        if plan is None:
            plan = operation.memo["cost"] = _Planner(self, operation).plan()
        if not plan.dynamic:
            return plan.constant or 1
        return plan.points(_filled(plan, variables)) or 1

    def explain(self, operation: Operation, variables: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """What each field adds to the points."""
        self.points(operation, variables)
        plan: Plan = operation.memo["cost"]
        return list(plan.explain(_filled(plan, variables)))

    def check(self, points: int) -> None:
        """Raise RequestError (COST_LIMIT_EXCEEDED) for more points than one operation may cost."""
        if points > self.limit:
            raise RequestError(
                f"The operation could read {_shown(points)} objects; at most {self.limit} are allowed."
                " Ask for smaller pages or fewer levels",
                COST_LIMIT_EXCEEDED,
                status=400,
                limit="cost",
                allowed=self.limit,
                actual=min(points, 2**53),
            )


def _shown(points: int) -> str:
    return str(points) if points < 10**15 else "more than 10^15"


def _filled(plan: Plan, variables: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if not plan.defaults:
        return variables or {}
    return {**plan.defaults, **(variables or {})}


def _number(value: Any) -> int | None:
    """The size that an argument asks for: a number as it stands in JSON, or the length of a list."""
    if type(value) is int:
        return max(0, value)
    if isinstance(value, list):
        return len(value)
    if isinstance(value, float) and value.is_integer():
        return max(0, int(value))
    return None


@dataclass(slots=True)
class _Group:
    """The fields that are one field of the answer, with the conditions each stands under."""

    definition: GraphQLField
    fields: list[tuple[FieldNode, Condition]] = field(default_factory=list)


class _Planner:
    """Makes the plan of one operation. Takes time in proportion to the selections, fragments expanded."""

    def __init__(self, costs: Costs, operation: Operation) -> None:
        self.costs, self.operation, self.schema = costs, operation, costs.schema
        self.defaults: dict[str, Any] = {}
        for variable in operation.variables:
            if variable.default_value is not None:
                self.defaults[variable.variable.name.value] = _literal(variable.default_value)

    def plan(self) -> Plan:
        root = self.schema.get_root_type(self.operation.kind)
        if root is None:
            return Plan(())
        plan = self._plan([(root, self.operation.definition.selection_set, ALWAYS)], None)
        plan.defaults = {name: value for name, value in self.defaults.items() if isinstance(value, bool)}
        return plan

    def _plan(
        self, places: Sequence[tuple[GraphQLNamedType, SelectionSetNode, Condition]], page: int | Size | None
    ) -> Plan:
        groups: dict[tuple[str, int], _Group] = {}
        for parent, selections, condition in places:
            self._collect(parent, selections, condition, groups)
        nodes = list[Node]()
        known = set[int]()
        for (name, definition), group in groups.items():
            node = self._node(name, group, page)
            if node is None and definition in known:
                node = Node(name, 1, 1, 0, self._conditions(group), Plan(()))
            known.add(definition)
            if node is not None:
                nodes.append(node)
        return Plan(nodes)

    @staticmethod
    def _conditions(group: _Group) -> list[Condition]:
        """The conditions under which a field is there; none when it always is."""
        return [] if any(under == ALWAYS for _, under in group.fields) else [under for _, under in group.fields]

    def _collect(
        self,
        parent: GraphQLNamedType,
        selections: SelectionSetNode,
        condition: Condition,
        groups: dict[tuple[str, int], _Group],
    ) -> None:
        for node in selections.selections:
            under = condition_of(node, condition)
            if under is None:
                continue
            if isinstance(node, FieldNode):
                definition = definition_of(self.schema, parent, node.name.value)
                if definition is not None:
                    name = node.alias.value if node.alias else node.name.value
                    group = groups.setdefault((name, id(definition)), _Group(definition))
                    group.fields.append((node, under))
            else:
                self._collect(*unfolded(self.schema, self.operation, parent, node), under, groups)

    def _node(self, name: str, group: _Group, page: int | Size | None) -> Node | None:
        definition = group.definition
        hint = _hint(definition)
        kind: Any = get_named_type(definition.type)
        conditions = self._conditions(group)
        if is_meta(definition):
            nodes = [node for node, _ in group.fields]
            found = objects(self.schema, nodes, self.operation.fragments, self.costs.limit // WEIGHT)
            return Node(name, WEIGHT, found, 0, conditions, Plan(()))
        if not is_composite_type(kind):
            if hint is None:
                return None
            return Node(name, hint.weight, self._size(group, hint, listed=False), 0, conditions, Plan(()))
        listed = is_list_type(get_nullable_type(definition.type))
        paged = any(argument in definition.args for argument in PAGE_ARGUMENTS)
        size: int | Size = 1
        if hint is not None and hint.size is not None:
            size = self._size(group, hint, listed=listed)
        elif listed and page is not None and not paged:
            size = page  # the `nodes` or `edges` of a connection
        elif listed:
            size = self._size(group, hint, listed=True)
        weight = hint.weight if hint is not None else 0 if _is_wrapper(kind, paged and not listed) else 1
        places = [(kind, node.selection_set, under) for node, under in group.fields if node.selection_set]
        connection = paged and not listed
        below = self._plan(places, self._page(group) if connection else None)
        return Node(name, weight, size, int(connection), conditions, below)

    def _size(self, group: _Group, hint: Cost | None, *, listed: bool) -> int | Size:
        if hint is not None and isinstance(hint.size, int):
            return hint.size
        if hint is not None and isinstance(hint.size, str):
            return self._given(group, (hint.size,), self.costs.list_size)
        if any(argument in group.definition.args for argument in PAGE_ARGUMENTS):
            return self._page(group)
        if listed and LIST_ARGUMENT in group.definition.args:
            return self._given(group, (LIST_ARGUMENT,), self.costs.list_size)
        return self.costs.list_size if listed else 1

    def _page(self, group: _Group) -> int | Size:
        return self._given(group, PAGE_ARGUMENTS, self.costs.default_page)

    def _given(self, group: _Group, names: tuple[str, ...], default: int) -> int | Size:
        """The size by the arguments of these names. All fields of a group have the same arguments."""
        for name in names:
            argument = group.definition.args.get(name)
            if argument is not None and (number := _number(argument.default_value)) is not None:
                default = number
        size = Size([], [], default)
        for argument_node in group.fields[0][0].arguments or ():
            if argument_node.name.value not in names:
                continue
            value = argument_node.value
            if isinstance(value, VariableNode):
                size.arguments.append((value.name.value, self.defaults.get(value.name.value)))
            elif (number := _number(_literal(value))) is not None:
                size.constants.append(number)
        return size if size.arguments else size({})


def _literal(value: ValueNode) -> Any:
    if isinstance(value, IntValueNode):
        return int(value.value) if len(value.value) < 20 else 2**63
    if isinstance(value, BooleanValueNode):
        return value.value
    if isinstance(value, ListValueNode):
        return [None] * len(value.values)
    return None


def _hint(definition: GraphQLField) -> Cost | None:
    hint = definition.extensions.get("cost")
    if hint is None:
        hint = getattr(definition.extensions.get("strawberry-definition"), "metadata", {}).get("cost")
    return hint if isinstance(hint, Cost) else None


def _is_wrapper(kind: GraphQLNamedType, connection: bool) -> bool:
    """Whether a type is not an object of its own but the wrapping of a page (Relay's cursor connections)."""
    if connection or kind.name == "PageInfo":
        return True
    return isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType)) and {"node", "cursor"} <= kind.fields.keys()
