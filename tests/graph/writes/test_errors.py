"""Errors: what clients may see of a failure, and that no text of the driver ever leaves."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.request.context import Services
from graph.request.refusals import classify
from graph.writes.errors import USER_ERRORS, user_errors
from persistence.connections.engine import DatabaseUnreachable, create_engine
from persistence.connections.failures import UnknownOutcome
from persistence.models import Role
from persistence.rules.errors import (
    Conflict,
    DomainError,
    Forbidden,
    Invalid,
    KeyReused,
    LimitReached,
    NotFound,
    Problem,
)
from tests.conftest import Account, Api
from tests.graph.operations import DOCUMENTS, new_task
from tests.graph.samples import Place, filled, operation, places, with_value

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

LEAKS = (
    "asyncpg", "sqlalchemy", "postgres", "Traceback", "::", "SELECT ", "INSERT ", "UPDATE ", "$1", "0x", "<class",
    "object at", "constraint", "psycopg", "greenlet", "encoding", "codec", "Maybe[", "Strawberry", "Python",
)  # fmt: skip


@asynccontextmanager
async def services_with(services: Services, **changed: Any) -> AsyncIterator[Services]:
    """The services on a pool of their own, with other settings."""
    configured = replace(services.settings, **changed)
    engine = create_engine(configured)
    yield replace(services, settings=configured, engine=engine)
    await engine.dispose()


async def failure(api: Api, query: str, account: Account | None, **variables: Any) -> tuple[str, int | None]:
    """The code of the one error of an operation, and the status that it asks for."""
    answer = await api.run(query, account, **variables)
    [error] = answer.errors
    assert not any(word.lower() in error.message.lower() for word in LEAKS if word != "encoding"), error.message
    return (error.extensions or {})["code"], getattr(error, "status", None)


@pytest.mark.parametrize("query", ["{ viewer { id } }", 'mutation { createTask(input: {title: "x"}) { replayed } }'])
async def test_a_database_that_is_away_is_told_as_such(api: Api, account: Account, query: str) -> None:
    url = "postgresql://nobody:hunter2@127.0.0.1:1/nothing"
    async with services_with(api.services, database_url=url) as elsewhere:
        api.services = elsewhere
        code, _ = await failure(api, query, account)

    assert code == "UNAVAILABLE"


async def test_a_full_pool_is_told_before_long(api: Api, account: Account) -> None:
    async with services_with(api.services, pool_size=1, pool_overflow=0, pool_timeout=0.1) as small:
        api.services = small
        async with small.engine.connect():
            assert (await failure(api, "{ viewer { id } }", account))[0] == "UNAVAILABLE"
        assert (await api("{ viewer { id } }", account))["viewer"]["id"] == str(account.id)


@pytest.mark.parametrize(
    ("changed", "code"), [({"statement_timeout": 0.1}, "TIMEOUT"), ({"lock_timeout": 0.1}, "CONTENTION")]
)
@pytest.mark.parametrize("reading", [True, False])
async def test_what_takes_too_long_is_stopped(
    api: Api, account: Account, engine: AsyncEngine, changed: dict[str, float], code: str, reading: bool
) -> None:
    task = await new_task(api, account)
    async with services_with(api.services, **changed) as hasty, engine.begin() as other:
        api.services = hasty
        await other.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
        query = "{ tasks { nodes { id } } }" if reading else DOCUMENTS["completeTask"]
        variables = {} if reading else {"input": {"id": task["id"]}}
        assert (await failure(api, query, account, **variables))[0] == code


def wrapped(error: BaseException) -> DBAPIError:
    """A driver's error as SQLAlchemy raises it."""
    orig = Exception("asyncpg says something secret")
    orig.__cause__ = error
    orig.sqlstate = getattr(error, "sqlstate", None)  # type: ignore[attr-defined]
    return DBAPIError("SELECT secret", {}, orig)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownOutcome(), "UNKNOWN_OUTCOME"),
        (DatabaseUnreachable("the database at host is unreachable"), "UNAVAILABLE"),
        (ConnectionRefusedError("10.0.0.1"), "UNAVAILABLE"),
        (asyncpg.TooManyConnectionsError("sorry"), "UNAVAILABLE"),
        (asyncpg.ConnectionDoesNotExistError("gone"), "UNAVAILABLE"),
        (asyncpg.AdminShutdownError("terminating"), "UNAVAILABLE"),
        (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"), "UNAVAILABLE"),
        (asyncpg.DiskFullError("could not extend file"), "STORAGE_FULL"),
        (asyncpg.OutOfMemoryError("out of memory"), "UNAVAILABLE"),
        (asyncpg.PostgresIOError("could not fsync file"), "UNAVAILABLE"),
        (asyncpg.ProtocolViolationError("server conn crashed?"), "UNAVAILABLE"),
        (asyncpg.IdleSessionTimeoutError("terminating"), "UNAVAILABLE"),
        (asyncpg.QueryCanceledError("canceling"), "TIMEOUT"),
        (asyncpg.SerializationError("could not"), "CONTENTION"),
        (asyncpg.DeadlockDetectedError("deadlock"), "CONTENTION"),
        (asyncpg.LockNotAvailableError("lock"), "CONTENTION"),
        (asyncpg.NumericValueOutOfRangeError("value 99 out of range"), "BAD_USER_INPUT"),
        (asyncpg.CharacterNotInRepertoireError("invalid byte"), "BAD_USER_INPUT"),
    ],
)
@pytest.mark.parametrize("wrap", [False, True])
async def test_failures_of_the_database_have_a_code_and_none_of_its_words(
    error: BaseException, code: str, wrap: bool
) -> None:
    is_wrapped = wrap and isinstance(error, asyncpg.PostgresError)
    seen = classify(wrapped(error) if is_wrapped else error)

    assert seen is not None
    assert seen.code == code
    assert str(error) == "" or str(error) not in seen.message


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError("x"), AssertionError(), asyncpg.UndefinedTableError("x"), ZeroDivisionError()]
)
async def test_everything_else_is_a_bug(error: BaseException) -> None:
    assert classify(error) is None


def subclasses(kind: type) -> set[type]:
    found = {kind}
    children: list[type] = kind.__subclasses__()
    for child in children:
        found |= subclasses(child)
    return found


async def test_every_domain_error_has_a_type_of_its_own() -> None:
    examples: list[DomainError] = [
        Invalid([Problem("TOO_LONG", "a", ("due_at", 1, "x_y")), Problem("INVALID", "b")]),
        NotFound("task"),
        Conflict("c"),
        Forbidden("f"),
        KeyReused(),
        LimitReached("l"),
    ]
    assert {type(example) for example in examples} == subclasses(DomainError) - {DomainError}
    shown = [error for example in examples for error in user_errors(example)]

    assert {type(error) for error in shown} == set(USER_ERRORS)
    assert shown[0].path == ["dueAt", "1", "xY"]
    assert all(error.code and error.message for error in shown)


# -- whatever clients send ----------------------------------------------------------------------------

TEXTS = ["", "\x00", "\ud800", "\uffff", "'; DROP TABLE tasks; --", "%s %(x)s {0} $1 :x", "\\", "a" * 20_000]
IDS = ["", "\x00" * 36, "\ud800", "{" + str(uuid.UUID(int=1)) + "}", uuid.UUID(int=1).hex, -(2**70)]
NUMBERS = [0, -1, 2**31 - 1, -(2**31), 2**31, 2**63, 1.0, 1.5, "1", True, float("1e308")]
HOSTILE: dict[str, st.SearchStrategy[Any]] = {
    "String": st.sampled_from(TEXTS) | st.text(max_size=20),
    "ID": st.sampled_from(IDS)
    | st.uuids().map(str)
    | st.text(max_size=40)
    | st.integers(),
    "Int": st.sampled_from(NUMBERS) | st.integers(),
    "DateTime": st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-01", "", 0, "\x00"])
    | st.datetimes().map(lambda at: at.isoformat() + "Z"),
    "Boolean": st.sampled_from([True, False, 1, "true"]),
}  # fmt: skip
NAMES = st.sampled_from(["TODO", "ADMIN", "todo", "", "\x00", 0, True])


def hostile(place: Place) -> st.SearchStrategy[Any]:
    value = HOSTILE.get(place.leaf, NAMES)
    odd: st.SearchStrategy[Any] = st.sampled_from([None, [], [[]], {}, {"a": 1}])
    return st.one_of(value, value, value, odd, st.lists(value, max_size=3))


PLACES = sorted(places(), key=str)
CASES = st.sampled_from(PLACES).flatmap(lambda place: st.tuples(st.just(place), hostile(place)))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES)
async def test_no_value_of_an_argument_is_a_bug(
    api: Api, new_account: Callable[..., Any], case: tuple[Place, Any]
) -> None:
    place, value = case
    account = await new_account(Role.ADMIN)
    task = await new_task(api, account)
    names = {
        "email": f"{uuid.uuid4().hex}@example.org",
        "own_email": account.email,
        "user": str(account.id),
        "task": task["id"],
        "token": str(account.viewer.token_id),
    }
    variables = filled(with_value(place, None), names)
    variables = replaced(variables, place, value)
    answer = await api.run(operation(place.owner, place.root), account, **variables)
    shown = [error.message for error in answer.errors] + [
        error["message"] for error in user_errors_of(answer.data, place.root)
    ]
    assert not api.bugs, (place, value)
    for message in shown:
        sent = repr(value) + str(value)
        assert not any(word in message and word not in sent for word in LEAKS), (place, message)


def replaced(variables: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """The value as it is where the place is, in a list or not."""
    holder: Any = variables
    for name in place.path[:-1]:
        holder = holder[name]
        holder = holder[0] if isinstance(holder, list) else holder
    holder[place.path[-1]] = value
    return variables


def user_errors_of(data: Any, root: str) -> list[Any]:
    payload = (data or {}).get(root) or {}
    found = payload.get("errors", []) if isinstance(payload, dict) else []
    return [{"message": value} for error in found for name, value in error.items() if name.endswith("_message")]
