"""Sessions: concurrent reads, whole transactions, and what happens when the connection does not hold."""

import asyncio
import dataclasses
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import ARRAY, Float, Text, bindparam, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import DateTime, Integer, Uuid

from persistence import tasks, users
from persistence.connections.engine import create_engine, ping
from persistence.connections.failures import UnknownOutcome, is_unreachable, sqlstate
from persistence.connections.readers import readers_of
from persistence.models import Change, Task, TaskPriority, TaskStatus, User
from persistence.rows.reading import Statement, by_ids
from persistence.rules.errors import Conflict, DomainError, NotFound
from persistence.session import Session
from persistence.settings import Settings
from tests.conftest import QUICK_HASH, Account
from tests.execution.serving import until
from tests.persistence.conftest import Gate, Raw, Write, terminate, url_of

pytestmark = pytest.mark.anyio

ECHO: Statement[Any] = Statement(select(bindparam("n", type_=Integer).label("n"), func.pg_backend_pid().label("pid")))
SLEEP: Statement[Any] = Statement(
    select(func.pg_sleep(bindparam("seconds", type_=Float)), literal_column("1").label("one"))
)
TITLES: Statement[Any] = Statement(select(Task.title).where(Task.owner_id == bindparam("owner", type_=Uuid())))


def checked_out(engine: AsyncEngine) -> int:
    """How many connections are in use: out of the pool, and not idle among the readers."""
    count: int = engine.pool.checkedout()  # type: ignore[attr-defined]  # a QueuePool
    return count - readers_of(engine).idle


# -- reads --------------------------------------------------------------------------------------------


async def test_fifty_concurrent_reads_share_one_connection(own_engine: AsyncEngine) -> None:
    session = Session(own_engine)

    answers = await asyncio.gather(*(session.fetch(ECHO, {"n": n}) for n in range(50)))

    assert [row.n for [row] in answers] == list(range(50))
    assert len({row.pid for [row] in answers}) == 1
    assert own_engine.pool.checkedout() == 1  # type: ignore[attr-defined]  # a QueuePool
    assert (session.statements, session.rows) == (50, 50)
    await session.close()


async def test_a_connection_is_held_for_a_statement_and_no_longer(own_engine: AsyncEngine) -> None:
    session = Session(own_engine)
    before = checked_out(own_engine)

    reading = asyncio.create_task(session.fetch(SLEEP, {"seconds": 0.2}))
    await until(lambda: checked_out(own_engine) == 1)
    await reading

    assert (before, checked_out(own_engine)) == (0, 0)
    await session.close()


async def test_a_connection_passes_from_one_read_to_the_next(own_engine: AsyncEngine) -> None:
    first, second = Session(own_engine), Session(own_engine)
    [one] = await first.fetch(ECHO, {"n": 1})

    [two] = await second.fetch(ECHO, {"n": 2})

    assert (two.n, two.pid) == (2, one.pid)
    await first.close()
    await second.close()


async def test_a_write_gets_the_connection_that_is_kept_for_reads(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_size=1, pool_overflow=0, pool_timeout=1.0))
    reading, writing = Session(engine), Session(engine)
    [row] = await reading.fetch(ECHO, {"n": 1})
    busy = asyncio.create_task(reading.fetch(SLEEP, {"seconds": 0.1}))
    await asyncio.sleep(0)

    answers = [await writing.transact(_one), *[row.n for row in await reading.fetch(ECHO, {"n": 2})]]

    await busy
    assert (row.n, answers, checked_out(engine)) == (1, [1, 2], 0)
    await engine.dispose()


async def test_many_reads_share_one_connection_in_their_order(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_size=1, pool_overflow=0))
    done: list[int] = []

    async def read(n: int) -> None:
        await Session(engine).fetch(ECHO, {"n": n})
        done.append(n)

    await asyncio.gather(*(read(n) for n in range(50)))

    assert done == list(range(50))
    await engine.dispose()


async def test_a_read_in_a_transaction_sees_its_writes_and_only_it_does(
    session: Session, engine: AsyncEngine, account: Account
) -> None:
    async def work(session: Session) -> tuple[list[str], list[str]]:
        session.add(Task(owner_id=account.id, title="mine"))
        inside = await session.fetch(TITLES, {"owner": account.id})
        other = Session(engine)
        outside = await other.fetch(TITLES, {"owner": account.id})
        await other.close()
        return [row.title for row in inside], [row.title for row in outside]

    assert await session.transact(work) == (["mine"], [])


async def test_a_read_that_comes_first_in_a_transaction_is_part_of_it(own_engine: AsyncEngine) -> None:
    """A second connection would be another snapshot, and could wait for ever for a pool that this one empties."""
    session = Session(own_engine)

    async def work(session: Session) -> tuple[int, int, int]:
        [first] = await session.fetch(ECHO, {"n": 1})
        second = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        return first.pid, second, checked_out(own_engine)

    first, second, connections = await session.transact(work)

    assert (first == second, connections) == (True, 1)


async def test_a_lock_that_is_taken_by_a_read_is_held_until_the_end_of_its_transaction(own_engine: AsyncEngine) -> None:
    key: Any = literal_column(str(uuid4().int % 2**31))
    lock: Statement[Any] = Statement(select(func.pg_advisory_xact_lock(key).label("locked")))
    free: Statement[Any] = Statement(select(func.pg_try_advisory_xact_lock(key).label("free")))

    async def work(session: Session) -> bool:
        await session.fetch(lock, {})
        [row] = await Session(own_engine).fetch(free, {})
        return bool(row.free)

    assert await Session(own_engine).transact(work) is False
    [row] = await Session(own_engine).fetch(free, {})
    assert row.free is True


async def test_a_transaction_that_somebody_left_open_swallows_nobody_elses_write(
    settings: Settings, account: Account, raw: Raw
) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_size=1, pool_overflow=0))
    for leave in ("BEGIN", "BEGIN; SELECT 1/0"):
        proxy: Any = await engine.raw_connection()
        with suppress(asyncpg.DivisionByZeroError):
            await proxy.driver_connection.execute(leave)
        proxy.close()

        [row] = await Session(engine).fetch(ECHO, {"n": 1})
        await Session(engine).transact(partial(tasks.create, viewer=account.viewer, title=leave))

        assert row.n == 1
    await engine.dispose()
    assert await titles(raw, account.id) == ["BEGIN", "BEGIN; SELECT 1/0"]


async def test_concurrent_reads_in_a_transaction_take_turns(session: Session, account: Account) -> None:
    async def work(session: Session) -> list[int]:
        session.add(Task(owner_id=account.id, title="mine"))
        answers = await asyncio.gather(*(session.fetch(ECHO, {"n": n}) for n in range(20)))
        return [row.n for [row] in answers]

    assert await session.transact(work) == list(range(20))


async def test_statements_and_rows_are_counted_in_reads_and_writes(session: Session, account: Account) -> None:
    await session.fetch(ECHO, {"n": 1})

    async def work(session: Session) -> None:
        await tasks.create(session, account.viewer, title="counted")

    await session.transact(work)

    assert (
        session.statements == 5
    )  # the read, the looks at the owner and the id, the INSERT of the task, that of its change
    assert session.rows == 1


async def test_a_connection_that_broke_between_reads_is_replaced(own_engine: AsyncEngine, settings: Settings) -> None:
    session = Session(own_engine)
    [first] = await session.fetch(ECHO, {"n": 1})
    await terminate(url_of(own_engine), first.pid)

    [second] = await session.fetch(ECHO, {"n": 2})

    assert (second.n, second.pid != first.pid) == (2, True)
    await session.close()
    assert checked_out(own_engine) == 0


async def end_all_connections(engine: AsyncEngine) -> None:
    """Open five connections, give them back, and end the server's side of each."""
    together = asyncio.Barrier(5)

    async def pid(session: Session) -> int:
        number: int = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await together.wait()
        return number

    pids = await asyncio.gather(*(Session(engine).transact(pid) for _ in range(5)))
    assert len(set(pids)) == 5
    await terminate(url_of(engine), *pids)


async def test_a_read_survives_the_end_of_every_connection_of_the_pool(own_engine: AsyncEngine) -> None:
    """As after a restart of the server, within the time in which idle connections are not tested."""
    await end_all_connections(own_engine)

    session = Session(own_engine)
    [row] = await session.fetch(ECHO, {"n": 2})

    assert row.n == 2
    await session.close()


async def test_a_write_survives_the_end_of_every_connection_of_the_pool(own_engine: AsyncEngine) -> None:
    await end_all_connections(own_engine)

    async def work(session: Session) -> int:
        return int((await session.execute(text("SELECT 2"))).scalar_one())

    assert await Session(own_engine).transact(work) == 2


async def test_a_wrong_statement_is_no_outage_and_the_connection_goes_on(session: Session) -> None:
    broken: Statement[Any] = Statement(select((bindparam("n", type_=Integer) / literal_column("0")).label("n")))
    [before] = await session.fetch(ECHO, {"n": 1})

    with pytest.raises(asyncpg.DivisionByZeroError):
        await session.fetch(broken, {"n": 1})

    [after] = await session.fetch(ECHO, {"n": 2})
    assert after.pid == before.pid


async def test_a_value_that_the_driver_refuses_costs_no_connection(session: Session) -> None:
    [before] = await session.fetch(ECHO, {"n": 1})

    with pytest.raises(asyncpg.DataError, match="out of int32 range"):
        await session.fetch(ECHO, {"n": 2**40})

    [after] = await session.fetch(ECHO, {"n": 2})
    assert after.pid == before.pid


async def asleep(engine: AsyncEngine) -> None:
    """Wait until a statement of this database sleeps."""
    sleeping = "wait_event = 'PgSleep' AND datname = current_database()"
    statement = text(f"SELECT count(*) FROM pg_stat_activity WHERE {sleeping}")
    other = create_engine(Settings(database_url=url_of(engine)), pooled=False)
    async with asyncio.timeout(30), other.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(statement):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
    await other.dispose()


async def test_after_a_cancelled_read_the_session_goes_on(own_engine: AsyncEngine) -> None:
    session = Session(own_engine)
    reading = asyncio.create_task(session.fetch(SLEEP, {"seconds": 5.0}))
    waiting = asyncio.create_task(session.fetch(ECHO, {"n": 1}))
    await asleep(own_engine)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert [row.n for row in await waiting] == [1]
    await session.close()
    assert checked_out(own_engine) == 0


async def test_after_a_cancelled_read_the_pool_goes_on(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_size=1, pool_overflow=0))
    session = Session(engine)
    reading = asyncio.create_task(session.fetch(SLEEP, {"seconds": 5.0}))
    await asleep(engine)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await session.close()

    answers = [await Session(engine).transact(_one) for _ in range(3)]

    assert answers == [1, 1, 1]
    await engine.dispose()


async def _one(session: Session) -> int:
    return int((await session.execute(text("SELECT 1"))).scalar_one())


async def test_a_full_pool_is_told_within_the_pool_timeout(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_size=1, pool_overflow=0, pool_timeout=0.1))
    holding, waiting = Session(engine), Session(engine)
    held = asyncio.create_task(holding.fetch(SLEEP, {"seconds": 30.0}))
    await until(lambda: checked_out(engine) == 1)

    async with asyncio.timeout(10):
        with pytest.raises(PoolTimeout):
            await waiting.fetch(ECHO, {"n": 2})
        with pytest.raises(PoolTimeout):
            await waiting.transact(_one)

    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert [row.n for row in await waiting.fetch(ECHO, {"n": 3})] == [3]
    await waiting.close()
    await engine.dispose()


async def test_a_statement_is_stopped_after_the_statement_timeout(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, statement_timeout=0.1))
    session = Session(engine)

    with pytest.raises(asyncpg.QueryCanceledError):
        await session.fetch(SLEEP, {"seconds": 5.0})

    assert [row.n for row in await session.fetch(ECHO, {"n": 1})] == [1]
    await session.close()
    await engine.dispose()


async def test_a_transaction_gives_up_a_lock_after_the_lock_timeout(
    settings: Settings, account: Account, write: Write
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="locked"))
    engine = create_engine(dataclasses.replace(settings, lock_timeout=0.1))

    async def hold(session: Session) -> None:
        await tasks.for_update(session, account.viewer, task.id)
        with pytest.raises(DBAPIError) as caught:
            await Session(engine).transact(lambda other: tasks.for_update(other, account.viewer, task.id))
        assert sqlstate(caught.value) == "55P03"

    await write(hold)
    await engine.dispose()


# -- transactions -------------------------------------------------------------------------------------


async def test_a_transaction_is_committed_as_a_whole(session: Session, account: Account, raw: Raw) -> None:
    async def work(session: Session) -> None:
        session.add_all([Task(owner_id=account.id, title=title) for title in ("one", "two")])

    await session.transact(work)

    assert await titles(raw, account.id) == ["one", "two"]


async def titles(raw: Raw, owner_id: UUID) -> list[str]:
    return [row.title for row in await raw("SELECT title FROM tasks WHERE owner_id = :id ORDER BY 1", id=owner_id)]


async def test_of_a_transaction_that_fails_nothing_remains(session: Session, account: Account, raw: Raw) -> None:
    async def work(session: Session) -> None:
        session.add(Task(owner_id=account.id, title="lost"))
        await session.flush()
        raise NotFound("task")

    with pytest.raises(DomainError):
        await session.transact(work)

    assert await titles(raw, account.id) == []
    assert await raw("SELECT 1 FROM changes WHERE owner_id = :id AND entity = 'Task'", id=account.id) == []
    assert not session.in_transaction()


async def test_a_row_that_an_error_shows_stays_readable(session: Session, account: Account, write: Write) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="current"))

    with pytest.raises(Conflict) as caught:
        await session.transact(lambda s: tasks.update(s, account.viewer, task.id, 7, given={"title": "stale"}))

    assert (caught.value.current.title, caught.value.current.version) == ("current", 1)


async def test_rows_stay_readable_after_their_transaction(session: Session, account: Account) -> None:
    async def work(session: Session) -> Task:
        return await tasks.create(session, account.viewer, title="first")

    task = await session.transact(work)
    await session.close()

    assert (task.title, task.version, task.created_at == task.updated_at) == ("first", 1, True)
    assert task.created_at.tzinfo is not None


async def test_two_transactions_that_wait_for_each_other_both_succeed(
    engine: AsyncEngine, account: Account, write: Write, raw: Raw
) -> None:
    """PostgreSQL ends one of them (40P01); it is run again as a whole."""
    first = await write(lambda s: tasks.create(s, account.viewer, title="first"))
    second = await write(lambda s: tasks.create(s, account.viewer, title="second"))
    both = asyncio.Barrier(2)
    runs = []

    def rename(order: tuple[UUID, UUID], name: str) -> Any:
        async def work(session: Session) -> str:
            runs.append(name)
            for n, id in enumerate(order):
                task = await tasks.for_update(session, account.viewer, id)
                task.description += name
                await session.flush()
                if n == 0 and len(runs) <= 2:
                    await both.wait()
            return name

        return Session(engine).transact(work)

    done: list[str] = await asyncio.gather(rename((first.id, second.id), "a"), rename((second.id, first.id), "b"))

    assert done == ["a", "b"]
    assert len(runs) == 3
    rows = await raw("SELECT description, version FROM tasks WHERE owner_id = :id", id=account.id)
    assert [("".join(sorted(row.description)), row.version) for row in rows] == [("ab", 3)] * 2


async def test_a_serialization_failure_runs_the_transaction_again(
    engine: AsyncEngine, account: Account, write: Write, raw: Raw
) -> None:
    await write(lambda s: tasks.create(s, account.viewer, title="counter"))
    both, runs = asyncio.Barrier(2), []

    async def work(session: Session) -> None:
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        task = (await session.scalars(select(Task).where(Task.owner_id == account.id))).one()
        runs.append(task.version)
        if len(runs) <= 2:
            await both.wait()
        task.description += "+"

    # The version that the UPDATE names would be stale as well: what counts is that 40001 comes first.
    await asyncio.gather(Session(engine).transact(work), Session(engine).transact(work))

    assert sorted(runs) == [1, 1, 2]
    [row] = await raw("SELECT description FROM tasks WHERE owner_id = :id", id=account.id)
    assert row.description == "++"


async def test_a_conflict_that_does_not_end_is_told_after_some_attempts(session: Session) -> None:
    runs = []

    async def work(session: Session) -> None:
        runs.append(1)
        await session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    with pytest.raises(DBAPIError) as caught:
        await session.transact(work)

    assert sqlstate(caught.value) == "40001"
    assert len(runs) == 4


async def test_a_connection_that_breaks_before_commit_runs_the_transaction_again(
    own_engine: AsyncEngine, account: Account
) -> None:
    url = url_of(own_engine)
    pids: list[int] = []

    async def work(session: Session) -> None:
        session.add(Task(owner_id=account.id, title="once"))
        await session.flush()
        pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
        if len(pids) == 1:
            await terminate(url, pids[0])
            await session.execute(text("SELECT 1"))

    session = Session(own_engine)
    await session.transact(work)

    assert len(set(pids)) == 2
    assert [row.title for row in await session.fetch(TITLES, {"owner": account.id})] == ["once"]
    await session.close()


async def test_a_database_that_stays_away_is_told_after_one_more_attempt(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, database_url="postgresql://ada@127.0.0.1:1/tasks"))
    runs = []

    async def work(session: Session) -> None:
        runs.append(1)
        await session.execute(text("SELECT 1"))

    with pytest.raises(Exception, match=r".*") as caught:
        await Session(engine).transact(work)

    assert is_unreachable(caught.value)
    assert len(runs) == 2


async def test_a_connection_that_breaks_during_commit_leaves_an_unknown_outcome(
    gate: tuple[Gate, AsyncEngine], own_engine: AsyncEngine, account: Account
) -> None:
    broken, engine = gate
    runs = []

    async def work(session: Session) -> None:
        runs.append(1)
        session.add(Task(owner_id=account.id, title="maybe"))

    await ping(engine)
    broken.marker = b"COMMIT;"
    session = Session(engine)
    with pytest.raises(UnknownOutcome):
        await session.transact(work)
    broken.marker = None

    assert (len(runs), broken.broken) == (1, 1)
    # The server had got the COMMIT, so a second run would have made a second task.
    async with asyncio.timeout(5):
        while not (found := await session.fetch(TITLES, {"owner": account.id})):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0.01)
    assert [row.title for row in found] == ["maybe"]
    await session.close()
    assert checked_out(engine) == 0


async def test_what_no_answer_speaks_of_has_no_unknown_outcome(
    gate: tuple[Gate, AsyncEngine], account: Account
) -> None:
    broken, engine = gate

    async def work(session: Session) -> None:
        session.add(Task(owner_id=account.id, title="noted"))

    await ping(engine)
    broken.marker = b"COMMIT;"
    session = Session(engine)
    with pytest.raises(DBAPIError) as caught:
        await session.note(work)
    broken.marker = None

    assert is_unreachable(caught.value)
    assert caught.value.__cause__ is not caught.value
    await session.close()


async def test_a_connection_that_is_lost_before_commit_runs_the_transaction_again(
    own_engine: AsyncEngine, account: Account
) -> None:
    """The driver knows: what was never sent has no unknown outcome."""
    runs = []

    async def work(session: Session) -> None:
        runs.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
        session.add(Task(owner_id=account.id, title="once"))
        await session.flush()
        if len(runs) == 1:
            await terminate(url_of(own_engine), runs[0])
            await asyncio.sleep(0.05)  # the news reaches the driver

    session = Session(own_engine)
    await session.transact(work)

    assert len(set(runs)) == 2
    assert [row.title for row in await session.fetch(TITLES, {"owner": account.id})] == ["once"]


async def some_user(engine: AsyncEngine) -> UUID:
    async def work(session: Session) -> UUID:
        return (await users.create(session, email="ada@example.org", name="Ada", password_hash=QUICK_HASH)).id

    return await Session(engine).transact(work)


async def test_a_server_process_that_dies_during_commit_leaves_an_unknown_outcome(own_database: AsyncEngine) -> None:
    owner_id = await some_user(own_database)
    async with own_database.begin() as connection:
        for statement in (
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION die()",
        ):
            await connection.execute(text(statement))
    runs = []

    async def work(session: Session) -> None:
        runs.append(1)
        session.add(Task(owner_id=owner_id, title="maybe"))

    session = Session(own_database)
    with pytest.raises(UnknownOutcome):
        await session.transact(work)

    assert len(runs) == 1
    assert await session.fetch(TITLES, {"owner": owner_id}) == []
    await session.close()


async def test_a_constraint_that_is_broken_at_commit_is_a_domain_error(own_database: AsyncEngine) -> None:
    async with own_database.begin() as connection:
        await connection.execute(
            text("ALTER TABLE tasks ALTER CONSTRAINT fk_tasks_owner_id_users DEFERRABLE INITIALLY DEFERRED")
        )

    async def work(session: Session) -> None:
        session.add(Task(owner_id=uuid4(), title="nobody's"))

    with pytest.raises(DomainError, match="no such user"):
        await Session(own_database).transact(work)


async def test_a_cancelled_transaction_leaves_nothing_and_gives_its_connection_back(
    own_engine: AsyncEngine, account: Account
) -> None:
    async def work(session: Session) -> None:
        session.add(Task(owner_id=account.id, title="lost"))
        await session.flush()
        await session.execute(text("SELECT pg_sleep(5)"))

    session = Session(own_engine)
    writing = asyncio.create_task(session.transact(work))
    await asleep(own_engine)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await session.close()

    assert checked_out(own_engine) == 0
    assert await session.fetch(TITLES, {"owner": account.id}) == []
    await session.close()


async def test_a_session_that_is_cancelled_while_it_is_idle_in_a_transaction_can_be_closed(
    own_engine: AsyncEngine,
) -> None:
    async def work(session: Session) -> None:
        await session.execute(text("SELECT 1"))
        idle.set()
        await asyncio.sleep(30)

    session, idle = Session(own_engine), asyncio.Event()
    writing = asyncio.create_task(session.transact(work))
    await idle.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await session.close()

    assert checked_out(own_engine) == 0


async def test_a_session_that_was_left_in_a_transaction_can_be_closed(own_engine: AsyncEngine) -> None:
    session = Session(own_engine)
    await session.execute(text("SELECT 1"))

    await session.close()

    assert checked_out(own_engine) == 0


# -- records ------------------------------------------------------------------------------------------


async def test_records_keep_the_meaning_of_every_column_type(
    session: Session, write: Write, account: Account, raw: Raw
) -> None:
    due = datetime(2026, 12, 1, 8, 0, 0, 123_456, tzinfo=UTC)
    task = await write(
        lambda s: tasks.create(
            s,
            account.viewer,
            title="T",
            status=TaskStatus.IN_PROGRESS,
            priority=TaskPriority.URGENT,
            tags=["a", "b"],
            due_at=due,
        )
    )
    names = frozenset(column.key for column in Task.__table__.columns)

    [row] = await session.fetch(by_ids(Task, names), {"ids": [task.id]})

    assert row.__entity__ == "Task"
    assert (row.id, row.owner_id, row.title, row.description) == (task.id, account.id, "T", "")
    assert isinstance(row.id, UUID)
    assert (row.tags, type(row.tags)) == (["a", "b"], list)
    assert (row.due_at, row.due_at.utcoffset().total_seconds()) == (due, 0)
    assert (row.completed_at, row.deleted_at, row.version) == (None, None, 1)
    assert (row.status, row.priority) == ("in_progress", "urgent")
    assert "t" in row.search


async def test_records_keep_json_numbers_bytes_and_transaction_ids(
    session: Session, account: Account, write: Write
) -> None:
    await write(lambda s: tasks.create(s, account.viewer, title="T"))
    statement: Statement[Any] = Statement(
        select(
            Change.fields,
            Change.xact,
            Change.seq,
            Change.action,
            Change.at,
            literal_column("1.5::float8", Float).label("number"),
            literal_column("ARRAY[1.5, NULL]::float8[]", ARRAY(Float)).label("numbers"),
            literal_column("""'[1, {"a": null}]'::jsonb""", JSONB).label("json"),
        ).where(Change.owner_id == bindparam("owner", type_=Uuid()), Change.entity == literal_column("'Task'"))
    )

    [row] = await session.fetch(statement, {"owner": account.id})

    assert row.fields["title"] == [None, "T"]
    assert isinstance(row.xact, int)
    assert isinstance(row.seq, int)
    assert (row.action, row.number, row.numbers, row.json) == ("created", 1.5, [1.5, None], [1, {"a": None}])
    assert isinstance(row.at, datetime)


async def test_values_are_sent_with_the_type_of_their_column(session: Session) -> None:
    moment, id = datetime(2026, 1, 1, tzinfo=UTC), uuid4()
    statement: Statement[Any] = Statement(
        select(
            bindparam("moment", type_=DateTime(timezone=True)).label("moment"),
            bindparam("id", type_=Uuid()).label("id"),
            bindparam("ids", type_=ARRAY(Uuid())).label("ids"),
            bindparam("words", type_=ARRAY(Text)).label("words"),
            bindparam("missing", type_=Text).label("missing"),
        )
    )

    [row] = await session.fetch(
        statement, {"moment": moment, "id": id, "ids": [id], "words": ["a", "'"], "missing": None, "unused": 1}
    )

    assert (row.moment, row.id, list(row.ids), row.words, row.missing) == (moment, id, [id], ["a", "'"], None)


def test_a_statement_refuses_a_value_that_was_written_into_it() -> None:
    with pytest.raises(ValueError, match="literal"):
        Statement(select(User.id).where(User.name == "Ada"))


async def test_a_statement_names_a_value_that_is_missing(session: Session) -> None:
    with pytest.raises(KeyError, match="n"):
        await session.fetch(ECHO, {})


async def test_a_version_that_changed_behind_the_orm_is_no_lost_update(
    session: Session, account: Account, write: Write
) -> None:
    from sqlalchemy.orm.exc import StaleDataError

    task = await write(lambda s: tasks.create(s, account.viewer, title="one"))

    async def work(session: Session) -> None:
        loaded = await session.get_one(Task, task.id)  # without a lock
        await write(lambda s: tasks.update(s, account.viewer, task.id, given={"title": "two"}))
        loaded.title = "three"

    with pytest.raises(StaleDataError):
        await session.transact(work)
