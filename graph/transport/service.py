"""What is done with a request, whatever carried it: find the document, count its cost, run the operation.

    Parameters -> prepare() -> Prepared -> execute() -> Result

All that can refuse an operation without its viewer does so in `prepare`, before the application is asked for a context.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError, OperationType, Undefined, located_error
from starlette.types import Scope

from graph.execution.errors import RequestError, cause_of
from graph.execution.preparing.documents import Operation
from graph.execution.preparing.lookahead import at_root
from graph.execution.running.engine import Engine, Inputs, Result
from graph.transport.budget import Balance, rate_limited
from graph.transport.host import Host, HttpOptions, OperationRecord
from graph.transport.parameters import Parameters, bad_request

# The status that says what an error means for the whole request (GraphQL over HTTP, section "Status Codes").
STATUSES = {
    "GRAPHQL_PARSE_FAILED": 400,
    "LIMIT_EXCEEDED": 400,
    "COST_LIMIT_EXCEEDED": 400,
    "GRAPHQL_VALIDATION_FAILED": 422,
    "OPERATION_RESOLUTION_FAILURE": 422,
    "BAD_USER_INPUT": 422,
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "RATE_LIMITED": 429,
    "UNAVAILABLE": 503,
    "STORAGE_FULL": 503,
    "TIMEOUT": 504,
    "INTERNAL_SERVER_ERROR": 500,
}

# When one of these left nothing of the data, the request as a whole has failed, and its status says so.
FATAL = frozenset({"UNAUTHENTICATED", "FORBIDDEN", "RATE_LIMITED", "UNAVAILABLE", "STORAGE_FULL"})


class Refused(Exception):
    """The request was refused before anything ran, for the errors of its result."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors)
        self.result = Result(errors=errors)


@dataclass(slots=True)
class Prepared:
    """An operation that may be executed."""

    operation: Operation
    variables: dict[str, Any] | None
    points: int | None
    document_id: str | None
    inputs: Inputs | None = None
    public: bool = False
    """It may be asked for by somebody with a token that is not good (any more): it makes a new one."""
    explain: bool = False
    explain_statements: bool = False
    report_cost: bool = False


class Service:
    """Prepares and executes the operations of one schema for one application."""

    def __init__(self, engine: Engine, host: Host, options: HttpOptions) -> None:
        self.engine, self.host, self.options = engine, host, options

    def prepare(self, parameters: Parameters, record: OperationRecord) -> Prepared:
        """The operation of a request. Raises Refused or RequestError."""
        options = self.options
        extensions = parameters.extensions
        persisted = options.persisted
        if extensions or parameters.document_id is not None or parameters.query is None or persisted.trusted_only:
            text, record.document_id = persisted.resolve(parameters)
        else:
            text = parameters.query
        document = self.engine.documents.get(text)
        if document.errors:
            raise Refused(document.errors)
        if record.document_id is not None:
            persisted.add(record.document_id, text)
        operation = document.operation(parameters.operation_name or None)
        record.name, record.kind = operation.name, operation.kind_name
        prepared = Prepared(operation, parameters.variables, None, record.document_id)
        if operation.kind is OperationType.MUTATION:
            prepared.public = self._is_public(operation)
        if extensions:
            prepared.explain = _flag(extensions, "explainCost")
            prepared.report_cost = _flag(extensions, "cost")
            prepared.explain_statements = _flag(extensions, "explainStatements")
            if prepared.explain_statements and not options.explain_statements:
                raise bad_request("This server does not tell how many statements an operation took", 422)
        if (bounds := options.bounds) is not None:
            bounds.check(operation, parameters.variables)
        inputs = self.engine.inputs(operation, parameters.variables)
        if isinstance(inputs, list):
            raise Refused(inputs)
        prepared.inputs = inputs
        if (costs := options.costs) is not None:
            record.cost = prepared.points = costs.points(operation, parameters.variables)
            if prepared.points > costs.limit and not prepared.explain:
                costs.check(prepared.points)
        return prepared

    async def execute(
        self,
        prepared: Prepared,
        scope: Scope,
        params: Mapping[str, Any] | None,
        record: OperationRecord,
    ) -> tuple[Result, Any]:
        """The result of a query or mutation, and the context it ran in, if it got one. Only cancellation is raised."""
        context = None
        try:
            # As `context` below does it, which takes 3 us longer.
            new = self.host.context(scope, params)
            try:
                if (entering := new.enter(public=prepared.public)) is not None:
                    await entering
                context = new
                balance = None
                if (taken := self._taken(prepared, context)) is not None:
                    balance = self._paid(taken if type(taken) is Balance else await taken, prepared)  # type: ignore[misc]
                if prepared.explain:
                    result = self._explained(prepared)
                else:
                    result = await self.engine.execute(
                        prepared.operation, prepared.variables, context, inputs=prepared.inputs
                    )
                    if prepared.explain_statements:
                        result.extensions["statements"] = self.host.statements(context)
                self.report_cost(prepared, balance, result)
            finally:
                if (leaving := new.leave()) is not None:
                    await leaving
        except RequestError as error:
            # A kept traceback would keep the frames of the request, and the error with them, in a cycle.
            result = Result(errors=[error.with_traceback(None)])
        except Exception as error:  # whatever the application's context does wrong is masked like a resolver's bug
            result = self.failure(error)
        return result, context

    def _is_public(self, operation: Operation) -> bool:
        """Whether a field of a mutation has `public` in its metadata."""
        known: bool | None = operation.memo.get("public")
        if known is None:
            root = self.engine.schema._schema.mutation_type
            fields = root.fields if root else {}
            made = [fields[name].extensions.get("strawberry-definition") for name in at_root(operation) & fields.keys()]
            known = operation.memo["public"] = any("public" in getattr(each, "metadata", {}) for each in made)
        return known

    @asynccontextmanager
    async def context(self, scope: Scope, params: Mapping[str, Any] | None) -> AsyncIterator[Any]:
        """A context that was entered, and is left in the end."""
        context = self.host.context(scope, params)
        try:
            if (entering := context.enter()) is not None:
                await entering
            yield context
        finally:
            if (leaving := context.leave()) is not None:
                await leaving

    async def pay(self, prepared: Prepared, context: Any) -> Balance | None:
        """Take the points of an operation out of the viewer's budget. Raises RequestError (RATE_LIMITED)."""
        taken = self._taken(prepared, context)
        return None if taken is None else self._paid(taken if isinstance(taken, Balance) else await taken, prepared)

    def _taken(self, prepared: Prepared, context: Any) -> Balance | Awaitable[Balance] | None:
        budget, points = self.options.budget, prepared.points
        if budget is None or points is None:
            return None
        key = self.host.budget_key(context)
        return None if key is None else budget.take(key, 0 if prepared.explain else points)

    @staticmethod
    def _paid(balance: Balance, prepared: Prepared) -> Balance:
        if balance.retry_after > 0:
            raise rate_limited(balance, prepared.points or 0)
        return balance

    def report_cost(self, prepared: Prepared, balance: Balance | None, result: Result) -> None:
        """Put `extensions.cost` into the result, if it is to be there."""
        if prepared.points is None or not (self.options.report_cost or prepared.report_cost or prepared.explain):
            return
        cost = result.extensions.setdefault("cost", {})
        cost["requested"] = prepared.points
        if self.options.costs is not None:
            cost["limit"] = self.options.costs.limit
        if balance is not None:
            cost["remaining"] = balance.remaining
            cost["resetsAt"] = balance.resets

    def _explained(self, prepared: Prepared) -> Result:
        """The answer to `explainCost`: nothing is executed, so there are neither data nor errors."""
        costs = self.options.costs
        if costs is None:
            raise bad_request("This server does not count costs", 422)
        fields = costs.explain(prepared.operation, prepared.variables)
        return Result(data=None, extensions={"cost": {"fields": fields}})

    def failure(self, error: BaseException) -> Result:
        """The result of a bug: masked, reported under an id."""
        errors = self.engine._presentable([located_error(error)])  # type: ignore[arg-type]
        return Result(errors=errors)

    def timed_out(self, record: OperationRecord) -> RequestError:
        """The error of an operation that was stopped at the time limit."""
        message = f"The operation took longer than {self.options.timeout:g} s and was stopped"
        if record.kind == "mutation":
            message += "; whether it had an effect is not known"
        return RequestError(message, "TIMEOUT", status=504)

    def observe(self, context: Any, record: OperationRecord) -> None:
        """Tell the application that an operation is over; its log must not break the answer."""
        try:
            self.host.observe(context, record)
        except Exception as error:
            self.failure(error)


def _flag(extensions: Mapping[str, Any], name: str) -> bool:
    value = extensions.get(name)
    if value is not None and type(value) is not bool:
        raise bad_request(f"`extensions.{name}` must be true or false", 422)
    return value is True


def code_of(error: GraphQLError) -> str:
    """The code of an error, or an empty string."""
    code = error.extensions.get("code") if error.extensions else None
    return code if isinstance(code, str) else ""


def request_failed(result: Result) -> bool:
    """Whether the request failed as a whole, so that its answer has errors and no data."""
    if result.data is Undefined:
        return True
    if not result.errors or any(code_of(error) not in FATAL for error in result.errors):
        return False
    if result.data is None:
        return True
    # A null is an answer, too, where no error says that it stands for one.
    unanswered = {error.path[0] for error in result.errors if error.path}
    return all(value is None and key in unanswered for key, value in result.data.items())


def failure_status(errors: list[GraphQLError]) -> tuple[int, dict[str, str]]:
    """The status and the headers for the errors of a request that failed as a whole."""
    status, headers = 0, {}
    for error in errors:
        cause = cause_of(error)
        own = cause.status if isinstance(cause, RequestError) else None
        status = max(status, STATUSES.get(code_of(error)) or own or 400)
        if isinstance(cause, RequestError) and cause.headers:
            headers.update(cause.headers)
    if status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")  # RFC 9110, section 15.5.2
    return status, headers
