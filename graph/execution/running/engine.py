"""The engine: runs the operations of prepared documents and turns results into bytes.

Documents.get(text) -> Document.operation(name) -> Engine.execute(operation, variables, context) -> Engine.encode
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import strawberry
from graphql import ExecutionResult, GraphQLError, GraphQLFormattedError, OperationType, Undefined, located_error
from graphql.execution import create_source_event_stream
from graphql.execution.executor import Executor, default_field_resolver, default_type_resolver
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable

from graph.execution.compiling.checks import Checked, Checks
from graph.execution.compiling.facts import Facts
from graph.execution.errors import (
    Classify,
    Report,
    after_effect,
    presentable,
    without_frames,
)
from graph.execution.preparing.documents import Documents, Operation
from graph.execution.preparing.introspection import Answers, mend_is_one_of
from graph.execution.preparing.variables import coerced
from graph.execution.running.encoding import encode
from graph.execution.running.executor import CompiledExecutor, PlainExecutor


@dataclass(slots=True)
class Result:
    """What an operation came to. `data` is `Undefined` when it was refused before anything ran."""

    data: Any = Undefined
    errors: list[GraphQLError] = field(default_factory=list)
    extensions: dict[str, Any] = field(default_factory=dict)

    @property
    def executed(self) -> bool:
        """Whether execution began: only then does the answer have a `data` member (GraphQL, section 7.1)."""
        return self.data is not Undefined


@dataclass(slots=True)
class Inputs:
    """What an operation was given: the values of its variables, and what checking its arguments found out."""

    values: VariableValues
    checked: Checked


MAX_MESSAGE = 1_000
"""Characters of a message that are shown. Many repeat what was sent: 50 mistakes of a document, each with a value."""


def shortened(error: GraphQLFormattedError) -> GraphQLFormattedError:
    """An error as it is shown, with a message of bounded length."""
    if len(error["message"]) > MAX_MESSAGE:
        error["message"] = f"{error['message'][: MAX_MESSAGE - 1]}…"
    return error


class Engine:
    """Executes operations of one schema.

    `classify` says of an exception of a resolver what a client may see of it, or None for a bug; `report` writes a
    bug down and returns the id that the client gets. `compiled=False` runs everything on graphql-core's own executor.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        documents: Documents,
        classify: Classify,
        report: Report,
        compiled: bool = True,
    ) -> None:
        self.schema, self.documents, self.compiled = schema, documents, compiled
        self._schema = schema._schema  # Strawberry keeps the graphql-core schema in this attribute only
        self._classify, self._report = classify, report
        self._facts = Facts(self._schema, native=compiled)
        self._answers = Answers()
        self._checks = Checks(self._facts)
        mend_is_one_of(self._schema)

    def inputs(self, operation: Operation, variables: Mapping[str, Any] | None) -> Inputs | list[GraphQLError]:
        """What these variables give the operation, or what is wrong with them or with arguments of its fields."""
        try:
            values = coerced(self._schema, operation, variables, self.documents.hide_suggestions)
            if isinstance(values, list):
                return values
            checked = self._checks.check(operation, values, self.documents.hide_suggestions)
        except Exception as error:  # an input type's own code failed
            return self._presentable([located_error(error)])
        return self._presentable(checked) if isinstance(checked, list) else Inputs(values, checked)

    def execute(
        self,
        operation: Operation,
        variables: Mapping[str, Any] | None,
        context: Any,
        root: Any = None,
        *,
        inputs: Inputs | None = None,
    ) -> Coroutine[Any, Any, Result]:
        """Run a query or mutation (or one already received event of a subscription, as `root`).

        `inputs` are those of the variables, where they are known already. `context.operation` and `context.checked` are
        set when the context takes attributes. Only cancellation is raised.
        """
        if self._answers.of_all(operation):
            return self._introspected(operation, context, root)
        given = self.inputs(operation, variables) if inputs is None else inputs
        if isinstance(given, list):
            return self._refused(given)
        return self._run(self._executor(operation, given, context, root))

    async def _introspected(self, operation: Operation, context: Any, root: Any) -> Result:
        """The answer to introspection, which is the same for everybody."""
        data = self._answers.get(operation)
        if data is not None:
            return Result(data)
        inputs = self.inputs(operation, None)
        assert isinstance(inputs, Inputs)  # there are no variables, and no arguments but those of introspection
        result = await self._run(self._executor(operation, inputs, context, root))
        if not result.errors:
            self._answers.keep(operation, result.data)
        return result

    async def subscribe(
        self,
        operation: Operation,
        variables: Mapping[str, Any] | None,
        context_factory: Callable[[], AbstractAsyncContextManager[Any]],
        root: Any = None,
        *,
        inputs: Inputs | None = None,
    ) -> AsyncIterator[Result]:
        """The results of a subscription, one for each event, until the source ends.

        The source runs in a context of its own for as long as the subscription lasts, each event in a fresh one. When
        the source cannot be created the only result is one that was not executed. When it breaks, or a context is
        refused, the last result carries the error and null as data.
        """
        given = self.inputs(operation, variables) if inputs is None else inputs
        if isinstance(given, list):
            yield Result(errors=given)
            return
        try:
            async with context_factory() as context, self._source(operation, given, context, root) as source:
                if isinstance(source, Result):
                    yield source
                    return
                while True:
                    try:
                        event = await anext(source)
                    except StopAsyncIteration:
                        return
                    async with context_factory() as event_context:
                        executor = self._executor(operation, given, event_context, event)
                        result = await self._run(executor, serially=False)
                    yield result
        except Exception as error:  # the source broke, or a context refused
            yield Result(None, self._presentable([located_error(error)]))

    @asynccontextmanager
    async def _source(
        self, operation: Operation, inputs: Inputs, context: Any, root: Any
    ) -> AsyncIterator[AsyncIterator[Any] | Result]:
        """The events of a subscription, closed at the end; or the result that says why there are none."""
        stream: Any = create_source_event_stream(self._executor(operation, inputs, context, root))
        if optimized_is_awaitable(stream):
            stream = await stream
        if isinstance(stream, ExecutionResult):
            yield Result(errors=self._presentable(stream.errors))
            return
        events = aiter(stream)
        try:
            yield events
        finally:
            if hasattr(events, "aclose"):
                await events.aclose()

    def encode(self, result: Result) -> bytes:
        """The answer as JSON. A value that has no JSON form is a bug: it is reported and replaces the answer."""
        try:
            return encode(self._answer(result), self._facts.natives.option)
        except (TypeError, ValueError, RecursionError) as error:
            bug = self._presentable([located_error(error)])
            return encode(self._answer(Result(None, bug)))

    @staticmethod
    def _answer(result: Result) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        if result.errors:  # first, so that a person sees them (GraphQL, section 7.1)
            answer["errors"] = [shortened(error.formatted) for error in result.errors]
        if result.data is not Undefined:
            answer["data"] = result.data
        if result.extensions:
            answer["extensions"] = result.extensions
        return answer

    def _executor(self, operation: Operation, inputs: Inputs, context: Any, root: Any) -> Executor[Any]:
        """The execution context, made directly: `Executor.build` would look through the document again."""
        try:  # contextlib.suppress takes longer than the rest of this method
            context.operation = operation
            context.checked = inputs.checked
        except AttributeError:
            pass  # a dict or None; lookahead then works without memory
        prototype: CompiledExecutor | None = operation.memo.get(self)
        if prototype is not None:
            return prototype.again(root, context, inputs.values)
        executor = (CompiledExecutor if self.compiled else PlainExecutor)(
            self._schema,
            operation.fragments,
            operation.fragment_details,
            root,
            context,
            operation.definition,
            inputs.values,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]  # it returns a plain bool, no TypeGuard
            hide_suggestions=self.documents.hide_suggestions,
        )
        if isinstance(executor, CompiledExecutor):
            executor.facts, executor.memo = self._facts, operation.memo
            operation.memo[self] = executor.prototype()
        return executor

    async def _refused(self, errors: list[GraphQLError]) -> Result:
        return Result(errors=errors)

    async def _run(self, executor: Executor[Any], serially: bool | None = None) -> Result:
        try:
            outcome: Any = executor.execute_operation(serially)
            if type(outcome) is not ExecutionResult:
                outcome = await outcome
        except Exception as error:  # a bug of the executor itself; resolvers' errors are part of the outcome
            return Result(None, self._presentable([located_error(error)]))
        finally:
            if isinstance(executor, CompiledExecutor):
                executor.release()
        if not outcome.errors:
            return Result(outcome.data, [])
        shown = self._presentable(outcome.errors)
        if executor.operation.operation is OperationType.MUTATION:
            shown = [after_effect(error) for error in shown]
        return Result(outcome.data, shown)

    def _presentable(self, errors: list[GraphQLError] | None) -> list[GraphQLError]:
        shown = []
        for error in errors or ():
            shown.append(presentable(error, self._classify, self._report))
            without_frames(error)
        return shown
