"""Connections that hang, and statements that are cancelled: what happens to one is nobody else's business."""

import asyncio
import dataclasses
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import Integer, bindparam, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks
from persistence.access import Reach
from persistence.connections.engine import create_engine
from persistence.connections.failures import FAILURES
from persistence.connections.readers import readers_of
from persistence.embedded.server import EmbeddedPostgres
from persistence.models import Task, User
from persistence.nodes import visible_by_id
from persistence.rows.reading import Statement
from persistence.session import Session
from persistence.settings import Settings
from persistence.writes import creation
from tests.conftest import Account
from tests.persistence.conftest import Gate, Raw

pytestmark = pytest.mark.anyio

SIZE = 4
OPERATION = 10.0
"""What an operation may take, in seconds."""
ECHO: Statement[Any] = Statement(select(bindparam("n", type_=Integer).label("n"), func.pg_backend_pid().label("pid")))
COLUMNS = frozenset({"id", "title"})


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(dataclasses.replace(settings, pool_size=SIZE, pool_overflow=0, pool_ping_after=3_600.0))
    yield engine
    await engine.dispose()


async def warm(engine: AsyncEngine) -> list[int]:
    """Open all connections, and give the pids of their server processes in the order in which they are used next."""
    held: list[Any] = [await engine.raw_connection() for _ in range(SIZE)]
    pids = [proxy.driver_connection.get_server_pid() for proxy in held]
    for proxy in reversed(held):
        proxy.close()
    return pids


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def read(engine: AsyncEngine, n: int) -> None:
    [row] = await Session(engine).fetch(ECHO, {"n": n})
    assert row.n == n


async def write(engine: AsyncEngine, account: Account, title: str) -> None:
    await Session(engine).transact(lambda s: tasks.create(s, account.viewer, title=title))


async def create(engine: AsyncEngine, account: Account, title: str) -> Any:
    row = tasks.new(account.viewer, tasks.checked({"title": title}))
    return await creation.create(Session(engine), Task, row, "task", None, COLUMNS)


async def find(engine: AsyncEngine, account: Account) -> None:
    found = await Session(engine).find(visible_by_id(User, frozenset({"id"}), Reach.OWN), account.id, account.id)
    assert found is not None


async def outcomes(*calls: Awaitable[Any]) -> list[str]:
    """What operations come to that have the usual time."""

    async def one(call: Awaitable[Any]) -> str:
        try:
            async with asyncio.timeout(OPERATION):
                await call
        except TimeoutError:
            return "TIMEOUT"
        return "ok"

    return await asyncio.gather(*(one(call) for call in calls))


async def settled(engine: AsyncEngine) -> None:
    """Wait until no connection is in use, as a shared statement may be for which nobody waits any more."""
    pool: Any = engine.pool
    async with asyncio.timeout(5):
        while readers_of(engine)._apart or pool.checkedout() != readers_of(engine).idle:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def kinds(engine: AsyncEngine, account: Account) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "read": lambda: read(engine, 7),
        "find": lambda: find(engine, account),
        "create": lambda: create(engine, account, "created"),
        "write": lambda: write(engine, account, "written"),
    }


@pytest.mark.parametrize("kind", ["read", "find", "create", "write"])
async def test_a_hung_connection_is_met_by_one_and_by_nobody_after(
    small: AsyncEngine, account: Account, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(f"{__name__}.OPERATION", 3.0)
    first, *_ = await warm(small)
    call = kinds(small, account)[kind]
    with frozen(first):
        met = await outcomes(*(call() for _ in range(20)))
        after = [await outcomes(call()) for _ in range(5)]
        everything = await outcomes(*(each() for each in kinds(small, account).values()))
        await settled(small)

    assert met.count("TIMEOUT") <= 1
    assert after == [["ok"]] * 5
    assert everything == ["ok"] * 4


async def test_what_many_wait_for_is_answered_over_another_connection(small: AsyncEngine, account: Account) -> None:
    first, *_ = await warm(small)
    with frozen(first):
        met = await outcomes(
            *(find(small, account) for _ in range(20)), *(create(small, account, "x") for _ in range(5))
        )
        await settled(small)

    assert met == ["ok"] * 25


async def test_when_all_but_one_connection_hang_each_costs_one_answer_at_most(
    small: AsyncEngine, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.OPERATION", 3.0)
    *hung, _ = await warm(small)
    assert len(hung) == SIZE - 1
    with frozen(*hung):
        met = [await outcomes(*(call() for call in kinds(small, account).values())) for _ in range(6)]
        await settled(small)

    assert sum(row.count("TIMEOUT") for row in met) <= SIZE - 1
    assert met[-1] == ["ok"] * 4


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_row_is_written_once_though_the_server_goes_on_with_the_first_try(
    small: AsyncEngine, account: Account, raw: Raw, given_up: bool
) -> None:
    first, *_ = await warm(small)
    with frozen(first):
        made = [await create(small, account, f"once {n}") for n in range(3)]
        if given_up:
            await settled(small)
    await settled(small)
    if given_up:
        async with asyncio.timeout(10):
            while await raw("SELECT 1 AS one FROM pg_stat_activity WHERE pid = :pid", pid=first):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    rows = await raw("SELECT id FROM tasks WHERE owner_id = :id", id=account.id)
    assert {row.id for row in rows} == {row.id for row in made}
    assert len(rows) == 3


async def children_of(postmaster: int) -> list[int]:
    listing = await asyncio.create_subprocess_exec("ps", "-o", "pid=,ppid=", "-A", stdout=asyncio.subprocess.PIPE)
    lines = (await listing.communicate())[0].decode().splitlines()
    return [int(pid) for pid, parent in map(str.split, lines) if int(parent) == postmaster]


async def test_a_server_that_is_frozen_and_thawed_serves_as_before(
    settings: Settings, postgres: EmbeddedPostgres, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.OPERATION", 2.0)
    limits = {"pool_size": SIZE, "pool_overflow": 0, "pool_timeout": 0.5, "connect_timeout": 0.5}
    engine = create_engine(dataclasses.replace(settings, **limits))  # type: ignore[arg-type]  # each has its type
    await warm(engine)
    postmaster = postgres.postmaster_pid
    assert postmaster is not None
    children = await children_of(postmaster)
    failed = []

    async def attempt(call: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with asyncio.timeout(OPERATION):
                await call()
        except FAILURES as error:
            failed.append(error)

    with frozen(postmaster, *children):
        calls = [call for call in kinds(engine, account).values() for _ in range(5)]
        await asyncio.gather(*(attempt(call) for call in calls))
    assert len(failed) == len(calls)

    assert await outcomes(*(call() for call in calls)) == ["ok"] * len(calls)
    await settled(engine)
    await engine.dispose()


async def test_a_cancelled_statement_that_the_server_does_not_let_go_of_keeps_nobody_waiting(
    small: AsyncEngine, account: Account
) -> None:
    first, *_ = await warm(small)
    with frozen(first):
        reading = asyncio.create_task(read(small, 1))
        await asyncio.sleep(0.05)
        reading.cancel()
        async with asyncio.timeout(OPERATION):
            after = [await outcomes(call()) for call in kinds(small, account).values()]
        assert after == [["ok"]] * 4
        await settled(small)


async def test_an_undone_transaction_keeps_nobody_waiting_whose_server_process_hangs(
    small: AsyncEngine, account: Account, raw: Raw
) -> None:
    pids: list[int] = []

    async def work(session: Session) -> None:
        pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
        session.add(Task(owner_id=account.id, title="undone"))
        await session.flush()
        os.kill(pids[-1], signal.SIGSTOP)
        raise ValueError

    try:
        async with asyncio.timeout(OPERATION):
            with pytest.raises(ValueError, match=r"^$"):
                await Session(small).transact(work)
    finally:
        os.kill(pids[0], signal.SIGCONT)
    await read(small, 1)
    await settled(small)
    assert await raw("SELECT 1 AS one FROM tasks WHERE owner_id = :id", id=account.id) == []


@pytest.mark.parametrize("seed", range(4))
async def test_cancelled_work_leaves_nothing_to_others(
    small: AsyncEngine, account: Account, raw: Raw, seed: int
) -> None:
    """Anything is cancelled at any moment; what went well is there, once, and every connection is as new."""
    chance, said = random.Random(seed), set[str]()  # no secret

    async def one(n: int) -> None:
        kind = chance.choice(["read", "find", "create", "write", "sleep"])
        title = f"{kind} {n}"
        if kind == "read":
            await read(small, n)
        elif kind == "find":
            await find(small, account)
        elif kind == "sleep":
            await Session(small).transact(lambda s: s.execute(text("SELECT pg_sleep(0.02)")))
        elif kind == "create":
            if await create(small, account, title) is not None:
                said.add(title)
        else:
            await write(small, account, title)
            said.add(title)

    async def some(n: int) -> None:
        task = asyncio.create_task(one(n))
        await asyncio.sleep(chance.random() * 0.02)
        if chance.random() < 0.5:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for n in range(0, 200, 10):
        async with asyncio.timeout(30):
            await asyncio.gather(*(some(n + m) for m in range(10)))
    await settled(small)

    states = await raw("SELECT count(*) AS n FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
    titles = [row.title for row in await raw("SELECT title FROM tasks WHERE owner_id = :id", id=account.id)]
    assert states[0].n == 0
    assert said
    assert said <= set(titles)
    assert len(titles) == len(set(titles))
    assert await outcomes(*(read(small, n) for n in range(20))) == ["ok"] * 20


async def test_a_cancellation_that_comes_late_meets_nobody_elses_statement(
    gate: tuple[Gate, AsyncEngine], account: Account
) -> None:
    late, engine = gate
    late.delays_cancellations = 0.3
    sleep: Statement[Any] = Statement(select(func.pg_sleep(literal_column("0.05")).label("slept")))
    for _ in range(3):
        reading = asyncio.create_task(Session(engine).fetch(sleep, {}))
        await asyncio.sleep(0.02)
        reading.cancel()
        answers = await asyncio.gather(*(Session(engine).fetch(sleep, {}) for _ in range(30)), return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []


async def test_a_statement_that_somebody_else_has_cancelled_is_sent_again(small: AsyncEngine, raw: Raw) -> None:
    pids: list[int] = []
    sleep: Statement[Any] = Statement(select(func.pg_sleep(literal_column("0.2")).label("slept")))

    async def work(session: Session) -> None:
        pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
        await session.execute(text("SELECT pg_sleep(0.2)"))

    await warm(small)
    reading, writing = (
        asyncio.create_task(Session(small).fetch(sleep, {})),
        asyncio.create_task(Session(small).transact(work)),
    )
    await asyncio.sleep(0.1)
    cancelled = await raw(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' "
        "AND pid <> pg_backend_pid()"
    )
    assert len(cancelled) == 2
    await asyncio.gather(reading, writing)

    assert len(pids) == 2


async def test_a_lost_host_is_noticed(gate: tuple[Gate, AsyncEngine]) -> None:
    _, engine = gate
    proxy: Any = await engine.raw_connection()
    connected = proxy.driver_connection._transport.get_extra_info("socket")

    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert 0 < connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) < OPERATION * 1000
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60
    proxy.close()
