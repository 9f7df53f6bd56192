"""The compiled executor: graphql-core's executor with the plans of `compiling` in place of its walk of the document.

    Executor (graphql-core)
    ├── PlainExecutor        Strawberry's info for resolvers, no incremental delivery
    └── CompiledExecution    mixin: compiles, runs, waits
        └── CompiledExecutor both; what the engine uses

Private methods of graphql-core are used (`complete_value`, `execute_field`, `handle_field_error` and a few more): they
are what keeps errors and odd values the same. graphql-core is pinned, and its own tests run against this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

from graphql import (
    ExecutionResult,
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLResolveInfoHelpers,
    InlineFragmentNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_argument_values,
    is_non_null_type,
)
from graphql.execution.execute import assume_not_awaitable
from graphql.execution.executor import CollectedErrors, Executor, invalid_return_type_error
from graphql.execution.values import VariableValues
from graphql.pyutils import Path, RefMap
from graphql.pyutils.is_awaitable import is_awaitable as default_is_awaitable
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graph.execution.compiling.batches import Later
from graph.execution.compiling.compiler import Compiler, TooLarge
from graph.execution.compiling.facts import Facts
from graph.execution.compiling.fields import PENDING, Field, Position
from graph.execution.compiling.plans import ObjectPlan, new, run_field
from graph.execution.preparing.documents import MAX_PLANS
from graph.execution.run import Entry, Site
from graph.execution.running.waiting import Waiting, is_under
from graph.execution.values import ORDINARY

logger = logging.getLogger(__name__)

UNSUPPORTED_DIRECTIVES = {"defer", "stream", "experimental_disableErrorPropagation"}

# Other predicates might call plain data awaitable.
PREDICATES = (optimized_is_awaitable, default_is_awaitable, assume_not_awaitable)


class PlainExecutor(Executor[None]):
    """graphql-core's executor with the info that Strawberry's resolvers expect."""

    operation_extensions: Any = None
    build_resolve_info = cast(
        "Callable[..., GraphQLResolveInfo[Any]]", StrawberryGraphQLCoreExecutionContext.build_resolve_info
    )


class Conditions:
    """Which variables decide over the fields of an operation, and whether it can be compiled at all."""

    def __init__(self, executor: Executor[Any]) -> None:
        self.names: list[str] = []
        self.supported = True
        operation = executor.operation
        self._directives(operation.directives)
        for definition in executor.fragment_definitions.values():
            self.supported = self.supported and not definition.variable_definitions
        pending: list[SelectionSetNode] = [operation.selection_set]
        pending += [definition.selection_set for definition in executor.fragment_definitions.values()]
        while pending:
            for selection in pending.pop().selections:
                self._directives(selection.directives)
                if isinstance(selection, (FieldNode, InlineFragmentNode)) and selection.selection_set:
                    pending.append(selection.selection_set)
                elif isinstance(selection, FragmentSpreadNode) and selection.arguments:
                    self.supported = False
        self.names = sorted(set(self.names))

    def _directives(self, directives: Any) -> None:
        for directive in directives or ():
            if directive.name.value in UNSUPPORTED_DIRECTIVES:
                self.supported = False
            if directive.name.value in {"skip", "include"}:
                values = [argument.value for argument in directive.arguments or ()]
                self.names += [value.name.value for value in values if isinstance(value, VariableNode)]


class WhenNeeded:
    """An attribute that is made when it is first asked for: what most operations never need."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, executor: Any, owner: type) -> Any:
        value = executor.__dict__[self.name] = self.make(executor)
        return value


class CompiledExecution(Executor[Any]):
    """Mixin for an executor class; `facts` and `memo` are set by who has them ready."""

    facts: Facts | None = None
    memo: dict[Any, Any] | None = None
    pending: dict[Any, list[Entry]]

    # What graphql-core's constructor makes for one run of the operation.
    collected_errors: Any = WhenNeeded(lambda _: CollectedErrors())
    pending_incremental_futures: Any = WhenNeeded(lambda _: set())
    background_futures: Any = WhenNeeded(lambda _: set())
    _relevant_sub_fields: Any = WhenNeeded(lambda _: {})
    _stream_usages: Any = WhenNeeded(lambda _: RefMap())
    async_helpers: Any = WhenNeeded(
        lambda executor: GraphQLResolveInfoHelpers(gather=executor.gather_async_work, track=executor.track_async_work)
    )

    def prototype(self) -> Self:
        """What executors of the same operation for other requests are made of (`again`)."""
        other = object.__new__(type(self))
        own = {name for name, value in vars(CompiledExecution).items() if isinstance(value, WhenNeeded)}
        other.__dict__ = {name: value for name, value in self.__dict__.items() if name not in own}
        other.root_value, other.context_value, other.variable_values = None, None, VariableValues({}, {})
        return other

    def again(self, root: Any, context: Any, values: VariableValues) -> Self:
        """An executor of the same operation for another request, from its prototype.

        graphql-core's constructor takes 5 us, most of it to look at the operation once more.
        """
        other = object.__new__(type(self))
        other.__dict__ = known = self.__dict__.copy()
        known["root_value"], known["context_value"], known["variable_values"] = root, context, values
        return other

    def release(self) -> None:
        """The operation is over: let go of what refers back to the executor.

        Otherwise each request leaves its rows to the garbage collector, in a cycle.
        """
        self.__dict__.pop("async_helpers", None)
        self.__dict__.pop("_infos", None)

    def execute_operation(self, serially: bool | None = None) -> Any:
        """Run the operation; what cannot be compiled runs on graphql-core's executor."""
        plan = self.plan()
        if plan is None:
            return super().execute_operation(serially)
        self.pending = {}
        self._infos: dict[Field, tuple[Any, Any, Any]] = {}
        self._arguments: dict[Field, dict[str, Any]] = {}
        self.converted: dict[Field, Any] = {}
        if serially is None:
            serially = self.operation.operation is OperationType.MUTATION
        data: dict[str, Any] | None = {}
        try:
            if serially:
                fields = iter(plan.fields)
                for field in fields:
                    self.run_root(field, data)
                    if self.pending:
                        return self.finish_later(data, fields)
            else:
                data = plan.execute(self, self.root_value, None, None, plan.forms[None])
                if self.pending:
                    return self.finish_later(data, ())
        except GraphQLError as error:
            self.abandon(None)
            self.collected_errors.add(error, None)
            data = None
        return self.result(data)

    def run_root(self, field: Field, data: Any) -> None:
        if field.constant is not None:
            data[field.key] = field.constant
            return
        data[field.key] = None
        result = run_field(self, field, self.root_value, None, None, data)
        if result is not PENDING:
            data[field.key] = result

    async def finish_later(self, data: dict[str, Any] | None, fields: Any) -> ExecutionResult:
        """Wait for what is pending, then run the remaining fields of a mutation one by one."""
        try:
            if (entry := self.single()) is not None:
                # An operation of one field needs nothing that keeps track of what is awaited.
                awaitable, position, info, path, site, box, key = entry
                try:
                    value = await awaitable
                    if position.at is not None:
                        value = position.at(self, value, info, path, site, box, key)
                    if value is not PENDING:
                        box[key] = value
                except Exception as error:
                    if self.pending:
                        self.abandon(path)
                    self.handle_field_error(error, position.return_type, position.details, path)
                    box[key] = None
            if self.pending:
                await Waiting(self).finish()
            for field in fields:
                self.run_root(field, data)
                if self.pending:
                    await Waiting(self).finish()
        except GraphQLError as error:
            self.abandon(None)
            self.collected_errors.add(error, None)
            data = None
        return self.result(data)

    def result(self, data: dict[str, Any] | None) -> ExecutionResult:
        """What `build_response` makes of it, without hooks and incremental delivery, which are not compiled."""
        collected = self.__dict__.get("collected_errors")
        return ExecutionResult(data, collected.errors or None if collected is not None else None)

    def single(self) -> Entry | None:
        """The only thing to wait for, if it is one and a null in its place would not spread to another place."""
        if len(self.pending) != 1:
            return None
        ((position, entries),) = self.pending.items()
        if len(entries) != 1 or (is_non_null_type(position.return_type) and entries[0][4] is not None):
            return None
        self.pending = {}
        return entries[0]

    # The plan of the operation

    def plan(self) -> ObjectPlan | None:
        if self.memo is not None and (only := self.memo.get("plan")) is not None:
            return only  # type: ignore[no-any-return]
        if (
            self.abort_signal is not None
            or self.hooks is not None
            or (self.middleware_manager is not None and self.middleware_manager.middlewares)
            or not self.error_propagation
            or self.is_awaitable not in PREDICATES
        ):
            return None
        memo: dict[Any, Any] = self.memo if self.memo is not None else {}
        conditions = memo.get("conditions")
        if conditions is None:
            conditions = memo["conditions"] = Conditions(self)
        if not conditions.supported:
            return None
        plans: dict[Any, ObjectPlan | None] = memo.setdefault("plans", {})
        coerced = self.variable_values.coerced
        key = tuple([coerced.get(name) for name in conditions.names])
        try:
            return plans[key]
        except KeyError:
            pass
        plan = self.compile(conditions.names)
        if len(plans) >= MAX_PLANS:
            del plans[next(iter(plans))]
        plans[key] = plan
        if not conditions.names:
            memo["plan"] = plan  # whatever the variables are
        return plan

    def compile(self, conditions: Sequence[str]) -> ObjectPlan | None:
        root_type = self.schema.get_root_type(self.operation.operation)
        if root_type is None:
            return None
        try:
            return Compiler(self, self.facts or Facts(self.schema), conditions).root(root_type)
        except (TooLarge, GraphQLError, RecursionError):
            return None  # nested too deeply, a mistake in a directive: graphql-core says so
        except Exception:
            logger.exception("An operation could not be compiled; graphql-core's executor runs it")
            return None

    # What plans need while they run

    def arguments(self, field: Field) -> dict[str, Any]:
        """The arguments of a field that are the same for all its parents within this request."""
        known = self._arguments.get(field)
        if known is None:
            known = self._arguments[field] = get_argument_values(
                field.definition, field.nodes[0], self.variable_values, None, self.hide_suggestions
            )
        return known

    def info(self, field: Field, path: Path) -> GraphQLResolveInfo[Any]:
        """The info of a field; for all its parents the same, but for the path (the fifth member)."""
        known = self._infos.get(field)
        if known is None:
            info = self.build_resolve_info(field.definition, field.nodes, field.parent_type, path)
            self._infos[field] = type(info), info[:4], info[5:]
            return info
        kind, before, after = known
        return cast("GraphQLResolveInfo[Any]", new(kind, (*before, path, *after)))

    def wait_for(self, entry: Entry) -> None:
        group = self.pending.get(entry[1])
        if group is None:
            self.pending[entry[1]] = [entry]
        else:
            group.append(entry)

    def stored(self, result: Any, position: Position, path: Path, site: Site | None, box: Any, key: Any) -> Any:
        """What graphql-core completed; it may be an awaitable, which is then stored when it is done."""
        if type(result) not in ORDINARY and self.is_awaitable(result):
            self.wait_for((result, position, None, path, site, box, key))
            return PENDING
        return result

    async def complete_when_told(self, answer: Any, type_: Any, details: Any, path: Path, value: Any) -> Any:
        """An object whose `is_type_of` has to be awaited; graphql-core completes it."""
        if not await answer:
            raise invalid_return_type_error(type_, value, details)
        result = self.collect_and_execute_subfields(type_, details, path, value, None)
        return await result if self.is_awaitable(result) else result

    async def complete_when_named(self, name: Any, type_: Any, details: Any, info: Any, path: Path, value: Any) -> Any:
        """An object of an abstract type whose `resolve_type` has to be awaited; graphql-core completes it."""
        kind = self.ensure_valid_runtime_type(await name, type_, details, info, value)
        result = self.complete_object_value(kind, details, info, path, value, None)
        return await result if self.is_awaitable(result) else result

    def abandon(self, path: Path | None) -> None:
        """A null has replaced this position: what was started below it goes on by itself, nobody looks at it."""
        orphans = []
        for position, entries in list(self.pending.items()):
            left = [entry for entry in entries if not is_under(entry[3], path)]
            if len(left) < len(entries):
                gone = [entry[0] for entry in entries if is_under(entry[3], path)]
                orphans += [awaitable for awaitable in gone if type(awaitable) is not Later]  # that was not even begun
                if left:
                    self.pending[position] = left
                else:
                    del self.pending[position]
        if orphans:
            self.settle_in_background(orphans)


class CompiledExecutor(CompiledExecution, PlainExecutor):
    """The executor of the engine. Also fit for `strawberry.Schema(execution_context_class=...)`."""

    def __init__(self, *args: Any, operation_extensions: Any = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.operation_extensions = operation_extensions
