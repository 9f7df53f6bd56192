"""The application and its database under pressure: full pools, clients that go away, statements and locks that last."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from graph.request.context import Services
from graph.server.app import Application, TaskstoreHost, create_app, note_used_tokens
from persistence.connections.engine import create_engine
from persistence.models import Role
from persistence.passwords import Passwords
from persistence.settings import Settings
from tests.conftest import Account
from tests.execution.serving import served
from tests.graph.queries import watched
from tests.persistence.conftest import Gate

pytestmark = pytest.mark.anyio

VIEWER = "{ viewer { name } }"
TASKS = "{ tasks { nodes { id title } } }"
CREATE = """mutation($input: CreateTaskInput!) { createTask(input: $input) { task { id } errors { code } } }"""
UPDATE = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { title } errors { code } } }"


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with a token that stays checked, so that the operation is what takes time."""
    return replace(settings, token_cache_seconds=60.0)


def named(settings: Settings, name: str) -> Settings:
    """The settings with a database URL by which the server knows the connections."""
    url = str(settings.database_url)
    return replace(settings, database_url=f"{url}{'&' if '?' in url else '?'}application_name={name}")


@asynccontextmanager
async def locked(
    engine: AsyncEngine, statement: str = "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"
) -> AsyncIterator[AsyncConnection]:
    """While somebody else has a lock."""
    async with engine.connect() as connection:
        await connection.execute(text(statement))
        yield connection
        await connection.rollback()


async def running(engine: AsyncEngine, name: str) -> list[str]:
    """The statements that connections of this name are running, by the server's own list."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT query FROM pg_stat_activity WHERE application_name = :name AND state = 'active'"),
            {"name": name},
        )
        return list(rows.scalars())


async def eventually(engine: AsyncEngine, name: str, *, number: int) -> None:
    """Wait until so many statements run."""
    async with asyncio.timeout(10):
        while len(await running(engine, name)) != number:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.01)


async def blocks(connection: AsyncConnection, number: int) -> None:
    """Wait until so many statements wait for what a connection holds."""
    waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    async with asyncio.timeout(30):
        while await connection.scalar(text(waiting)) != number:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.01)


def code(answer: httpx.Response) -> str:
    [error] = answer.json()["errors"]
    found: str = error["extensions"]["code"]
    return found


# The pool


async def test_a_full_pool_is_unavailable_soon_and_the_process_alive(
    quick: Settings, engine: AsyncEngine, account: Account
) -> None:
    small = replace(quick, pool_size=2, pool_overflow=0, pool_timeout=0.3)
    async with watched(small) as server:
        await server.post(VIEWER, account.authorization)
        async with locked(engine) as lock:
            holding = [asyncio.create_task(server.post(TASKS, account.authorization)) for _ in range(2)]
            await blocks(lock, 2)
            waiting = [
                asyncio.create_task(server.post(query, account.authorization)) for query in [TASKS] * 5 + [VIEWER]
            ]
            alive = await server.client.get("/livez")
            refused = await asyncio.gather(*waiting)
            ready = await server.client.get("/readyz")
            held = [task.done() for task in holding]
        served = await asyncio.gather(*holding)
        after = await server.post(VIEWER, account.authorization)

    assert alive.status_code == 200
    assert {answer.status_code for answer in refused} == {503}
    assert {code(answer) for answer in refused} == {"UNAVAILABLE"}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert (ready.status_code, held) == (503, [False, False])
    assert [answer.json()["data"] for answer in served] == [{"tasks": {"nodes": []}}] * 2
    assert after.json()["data"] == {"viewer": {"name": "Ada"}}


async def test_a_full_pool_refuses_writes_too(quick: Settings, engine: AsyncEngine, account: Account) -> None:
    small = replace(quick, pool_size=1, pool_overflow=0, pool_timeout=0.2)
    given = {"input": {"title": "Write", "idempotencyKey": "the key of this task"}}
    async with watched(small) as server:
        await server.post(VIEWER, account.authorization)
        async with locked(engine) as lock:
            holding = asyncio.create_task(server.post(TASKS, account.authorization))
            await blocks(lock, 1)
            refused = await server.post(CREATE, account.authorization, **given)
        await holding
        after = await server.post(CREATE, account.authorization, **given)

    assert (refused.status_code, code(refused)) == (503, "UNAVAILABLE")
    assert after.json()["data"]["createTask"]["errors"] == []


async def test_an_unchecked_token_waits_no_longer_either(
    settings: Settings, engine: AsyncEngine, account: Account
) -> None:
    async with watched(replace(settings, pool_size=1, pool_overflow=0, pool_timeout=0.2)) as server:
        async with locked(engine) as lock:
            holding = asyncio.create_task(server.post(TASKS, account.authorization))
            await blocks(lock, 1)
            refused = await server.post(VIEWER, account.authorization)
        await holding

    assert (refused.status_code, code(refused), refused.headers["retry-after"]) == (503, "UNAVAILABLE", "1")


# Time


@pytest.mark.parametrize(("query", "given"), [(TASKS, {}), (CREATE, {"input": {"title": "Write"}})])
async def test_the_time_of_an_operation_ends_its_statement(
    quick: Settings, engine: AsyncEngine, account: Account, query: str, given: dict[str, Any]
) -> None:
    name = f"timeout-{account.id.hex[-12:]}"
    async with watched(named(replace(quick, operation_timeout=0.3), name)) as server:
        await server.post(VIEWER, account.authorization)
        async with locked(engine):
            asked = asyncio.create_task(server.post(query, account.authorization, **given))
            await eventually(engine, name, number=1)
            answer = await asked
            await eventually(engine, name, number=0)
        after = await server.post(TASKS, account.authorization)

    [error] = answer.json()["errors"]
    unknown = "; whether it had an effect is not known" if given else ""
    assert (answer.status_code, error["extensions"]) == (504, {"code": "TIMEOUT"})
    assert error["message"] == f"The operation took longer than 0.3 s and was stopped{unknown}"
    assert after.json()["data"] == {"tasks": {"nodes": []}}


async def test_a_statement_that_takes_too_long_is_a_timeout(
    quick: Settings, engine: AsyncEngine, account: Account
) -> None:
    async with watched(replace(quick, statement_timeout=0.2)) as server:
        await server.post(VIEWER, account.authorization)
        async with locked(engine):
            answer = await server.post(TASKS, account.authorization)
        after = await server.post(TASKS, account.authorization)

    [error] = answer.json()["errors"]
    assert error["message"] == "The database needed too long for this; ask for less."
    assert error["extensions"] == {"code": "TIMEOUT"}
    assert error["path"] == ["tasks"]
    assert after.json()["data"] == {"tasks": {"nodes": []}}


async def test_a_lock_that_is_held_too_long_is_contention(
    quick: Settings, engine: AsyncEngine, account: Account
) -> None:
    async with watched(replace(quick, lock_timeout=0.2)) as server:
        made = await server.post(CREATE, account.authorization, input={"title": "Write"})
        id = made.json()["data"]["createTask"]["task"]["id"]
        async with locked(engine, f"SELECT 1 FROM tasks WHERE id = '{id}' FOR UPDATE"):
            refused = await server.post(UPDATE, account.authorization, input={"id": id, "title": "Edit"})
            read = await server.post(TASKS, account.authorization)
        after = await server.post(UPDATE, account.authorization, input={"id": id, "title": "Edit"})

    [error] = refused.json()["errors"]
    assert error["message"] == "Others are changing the same things; try again."
    assert error["extensions"] == {"code": "CONTENTION"}
    assert read.json()["data"]["tasks"]["nodes"] == [{"id": id, "title": "Write"}]
    assert after.json()["data"]["updateTask"]["task"] == {"title": "Edit"}


# Clients that go away


@pytest.fixture
def name(account: Account) -> str:
    return f"gone-{account.id.hex[-12:]}"


@pytest.mark.parametrize(("query", "given"), [(TASKS, {}), (CREATE, {"input": {"title": "Write"}})])
async def test_a_client_that_goes_away_ends_its_statement(
    quick: Settings, engine: AsyncEngine, account: Account, name: str, query: str, given: dict[str, Any]
) -> None:
    app = create_app(named(quick, name))
    body = json.dumps({"query": query, "variables": given}).encode()
    async with app.router.lifespan_context(app), served(app) as address:
        host, port = address.split(":")
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            await client.post("/graphql", json={"query": VIEWER}, headers=account.authorization)
            async with locked(engine):
                _, writer = await asyncio.open_connection(host, int(port))
                head = [
                    "POST /graphql HTTP/1.1",
                    f"host: {address}",
                    "content-type: application/json",
                    f"authorization: Bearer {account.secret}",
                    f"content-length: {len(body)}",
                ]
                writer.write("\r\n".join([*head, "", ""]).encode() + body)
                await eventually(engine, name, number=1)
                writer.transport.abort()
                await eventually(engine, name, number=0)
            after = await client.post("/graphql", json={"query": TASKS}, headers=account.authorization)

    assert after.json()["data"] == {"tasks": {"nodes": []}}
    assert isinstance(app, Application)
    assert isinstance(app.endpoint.host, TaskstoreHost)
    pool: Any = app.endpoint.host.services.engine.pool
    assert pool.checkedout() == 0


async def test_many_clients_that_go_away_leave_the_pool_as_it_was(
    quick: Settings, engine: AsyncEngine, account: Account, name: str
) -> None:
    small = replace(quick, pool_size=2, pool_overflow=2, pool_timeout=5.0)
    async with watched(named(small, name)) as server:
        await server.post(VIEWER, account.authorization)
        for _ in range(3):
            async with locked(engine):
                asked = [asyncio.create_task(server.post(TASKS, account.authorization)) for _ in range(10)]
                await eventually(engine, name, number=4)
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                await eventually(engine, name, number=0)
        after = await asyncio.gather(*(server.post(TASKS, account.authorization) for _ in range(10)))

    assert [answer.status_code for answer in after] == [200] * 10


async def test_the_timeouts_reach_the_server(settings: Settings) -> None:
    engine = create_engine(replace(settings, statement_timeout=1.5, lock_timeout=0.25))
    async with engine.connect() as connection:
        shown = [await connection.scalar(text(f"SHOW {name}")) for name in ("statement_timeout", "lock_timeout")]
    await engine.dispose()

    assert shown == ["1500ms", "250ms"]


@pytest.mark.parametrize("keyed", [False, True])
async def test_creations_that_wait_for_a_locked_owner_delay_nobody_else(
    engine: AsyncEngine, quick: Settings, new_account: Any, keyed: bool
) -> None:
    leaving, other, admin = await new_account(), await new_account(), await new_account(Role.ADMIN)
    small = replace(quick, pool_size=3, pool_overflow=0)

    def given(**more: Any) -> dict[str, Any]:
        return {"input": {"title": "x", **more, **({"idempotencyKey": uuid.uuid4().hex} if keyed else {})}}

    app = create_app(small)
    async with (
        app.router.lifespan_context(app),
        served(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client,
    ):

        async def ask(account: Account, query: str, variables: dict[str, Any]) -> str:
            body = {"query": query, "variables": variables}
            answer = (await client.post("/graphql", json=body, headers=account.authorization)).json()
            assert not any(payload.get("errors") for payload in (answer.get("data") or {}).values() if payload), answer
            return "".join(error["extensions"]["code"] for error in answer.get("errors", [])) or "ok"

        for account in (leaving, other, admin):
            assert await ask(account, VIEWER, {}) == "ok"
        again = given()
        async with locked(engine, f"SELECT 1 FROM users WHERE id = '{leaving.id}' FOR UPDATE"):
            waiting = [
                *(asyncio.create_task(ask(leaving, CREATE, given())) for _ in range(8)),
                *(asyncio.create_task(ask(leaving, CREATE, again)) for _ in range(2)),
                *(asyncio.create_task(ask(admin, CREATE, given(ownerId=str(leaving.id)))) for _ in range(4)),
            ]
            for _ in range(5):
                for query, variables in ((CREATE, given()), (TASKS, {}), (VIEWER, {})):
                    assert await ask(other, query, variables) == "ok"
            assert [await task for task in waiting if task.done()] == []
        assert await asyncio.gather(*waiting) == ["ok"] * len(waiting)

        async with locked(engine, f"SELECT 1 FROM users WHERE id = '{leaving.id}' FOR UPDATE"):
            late = await asyncio.gather(*(ask(leaving, CREATE, given()) for _ in range(6)))
        assert late == ["CONTENTION"] * 6


async def test_a_mutation_that_was_done_is_not_said_to_be_undone_because_its_answer_cannot_be_read(
    quick: Settings, account: Account, engine: AsyncEngine
) -> None:
    """The database goes away between the COMMIT and the look at what else was asked for."""
    url = str(quick.database_url)
    gate = Gate(f"{url.split('host=')[1]}/.s.PGSQL.5432")
    gate.before = gate.stays_away = True
    proxy = await asyncio.start_server(gate.serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    url = f"{url.split('?')[0].replace('@/', f'@127.0.0.1:{port}/')}?sslmode=disable"
    query = CREATE.replace("{ id }", "{ id owner { name } }")
    app = create_app(replace(quick, database_url=url))
    async with app.router.lifespan_context(app), served(app) as address, httpx.AsyncClient() as client:

        async def ask(query: str, **given: Any) -> Any:
            body = {"query": query, "variables": {"input": given}}
            answer = await client.post(f"http://{address}/graphql", json=body, headers=account.authorization)
            return answer.json()

        assert "errors" not in await ask(CREATE, title="before")
        gate.marker = b"users.name"  # the look at the owner
        answer = await ask(query, title="done")
        never = await ask(CREATE, title="not done")
    proxy.close()

    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT title FROM tasks WHERE owner_id = :id"), {"id": account.id})
        assert sorted(found.scalars()) == ["before", "done"]
    assert gate.broken >= 1
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNKNOWN_OUTCOME"]
    assert [error["extensions"]["code"] for error in never["errors"]] == ["UNAVAILABLE"]


async def test_a_connection_that_hangs_does_not_end_the_housekeeping(
    quick: Settings, account: Account, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("background.loops.TRANSACTION_SECONDS", 1.0)
    own = create_engine(replace(quick, pool_size=1, pool_overflow=0))
    services = Services(quick, own, Passwords(1))
    async with own.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    os.kill(pid, signal.SIGSTOP)
    try:
        for failed in (True, False):
            services.used_tokens.add(account.viewer.token_id)
            with pytest.raises(TimeoutError) if failed else nullcontext():
                await note_used_tokens(services)
    finally:
        os.kill(pid, signal.SIGCONT)
    await own.dispose()

    async with engine.connect() as connection:
        used = text("SELECT last_used_at FROM tokens WHERE id = :id")
        assert await connection.scalar(used, {"id": account.viewer.token_id}) is not None
