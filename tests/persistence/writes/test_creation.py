"""The short way to create a row, held against the long way through the ORM."""

import asyncio
import functools
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, users
from persistence.connections.engine import create_engine
from persistence.connections.failures import UnknownOutcome, is_unreachable
from persistence.models import Change, IdempotencyKey, Role, Task, TaskStatus
from persistence.rows.reading import Statement
from persistence.session import Session
from persistence.settings import Settings
from persistence.writes import creation, idempotency, snapshots
from tests.conftest import Account
from tests.persistence.conftest import Gate, Raw, terminate, url_of

pytestmark = pytest.mark.anyio

FIELDS: dict[str, Any] = {
    "title": "Write",
    "description": "more",
    "status": TaskStatus.DONE,
    "tags": ["home", "ink"],
    "due_at": datetime(2026, 12, 1, tzinfo=UTC),
}
COLUMNS = frozenset(column.name for column in Task.__table__.columns if column.name not in Task.__private__)
OF_ITS_OWN = {"id", "entity_id", "xact", "seq", "at", "created_at", "updated_at", "key_hash", "completed_at"}


def key_of(account: Account) -> idempotency.Key:
    return idempotency.key_of(account.id, uuid.uuid4().hex, b"asked")


async def short_way(session: Session, account: Account, key: idempotency.Key | None, **given: Any) -> Any:
    session.actor_id = account.id
    own = {name: given.pop(name, None) for name in ("id", "owner_id")}
    row = tasks.new(account.viewer, tasks.checked(FIELDS | given), **own)
    return await creation.create(session, Task, row, "task", key, COLUMNS)


async def long_way(session: Session, account: Account, key: idempotency.Key, **given: Any) -> Any:
    session.actor_id = account.id

    async def work(session: Session) -> Task:
        await idempotency.claim(session, key)
        task = await tasks.create(session, account.viewer, **FIELDS | given)
        await idempotency.keep(session, key, {"task": snapshots.snapshot(task, "unused", "unused")})
        return task

    return await session.transact(work)


async def written(session: Session, task: Any, key: idempotency.Key) -> list[dict[str, Any]]:
    """What a way has written, without what is of its own each time."""

    async def look(session: Session) -> list[dict[str, Any]]:
        table = Task.__table__
        [row] = (await session.execute(select(table).where(table.c.id == task.id))).mappings()
        rows = [
            *(await session.scalars(select(Change).where(Change.entity_id == task.id))),
            await session.scalar(select(IdempotencyKey).where(IdempotencyKey.key_hash == key.key_hash)),
        ]
        return [dict(row), *({c.name: getattr(row, c.name) for c in row.__table__.columns} for row in rows)]

    return await session.transact(look)


def common(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without ids and times: the answer and the log have them inside as well."""
    for row in rows:
        for inner in ("fields", "answer"):
            content = row.get(inner) or {}
            for part in [content, *(value for value in content.values() if isinstance(value, dict))]:
                for name in OF_ITS_OWN & set(part):
                    del part[name]
                if "due_at" in part and isinstance(part["due_at"], str):
                    part["due_at"] = datetime.fromisoformat(part["due_at"])
        for name in OF_ITS_OWN & set(row):
            del row[name]
    return rows


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"status": TaskStatus.TODO, "description": "", "tags": [], "due_at": None},
        {"due_at": datetime(2026, 12, 1, 9, 30, 0, 120_000, timezone(timedelta(hours=1))), "title": "Größe"},
    ],
)
async def test_both_ways_write_the_same(session: Session, account: Account, given: dict[str, Any]) -> None:
    short_key, long_key = key_of(account), idempotency.key_of(account.id, uuid.uuid4().hex, b"asked")
    short = await short_way(session, account, short_key, **given)
    long = await long_way(session, account, long_key, **given)

    by_short, by_long = await written(session, short, short_key), await written(session, long, long_key)
    for rows in (by_short, by_long):
        rows[-1].pop("input_hash")
    assert len(by_short) == 3  # the row, one entry of the log, the kept answer
    assert common(by_short) == common(by_long)


async def test_columns_that_are_not_given_get_their_defaults(session: Session, account: Account) -> None:
    session.actor_id = account.id
    row = tasks.new(account.viewer, tasks.checked({"title": "Write"}))
    created = await creation.create(session, Task, row, "task", None, COLUMNS)

    assert created is not None
    assert (created.status, created.priority, created.description, created.tags) == ("todo", "medium", "", [])
    assert (created.version, created.due_at, created.completed_at, created.deleted_at) == (1, None, None, None)


async def test_a_value_of_no_column_is_a_mistake(session: Session, account: Account) -> None:
    with pytest.raises(AssertionError, match="surprise"):
        await creation.create(session, Task, {"surprise": 1}, "task", None, COLUMNS)


async def test_the_row_comes_back_as_it_is_stored(session: Session, account: Account) -> None:
    created = await short_way(session, account, None)

    [stored] = await session.transact(lambda s: _all(s, select(Task).where(Task.id == created.id)))
    assert {name: getattr(created, name) for name in COLUMNS} == {name: getattr(stored, name) for name in COLUMNS}


async def _all(session: Session, query: Any) -> list[Any]:
    return list(await session.scalars(query))


@pytest.mark.parametrize("obstacle", ["the id is taken", "the owner is gone", "the key was used"])
async def test_an_obstacle_writes_nothing_and_asks_for_the_long_way(
    session: Session, admin: Account, obstacle: str
) -> None:
    key, first = key_of(admin), await short_way(session, admin, None)
    taken: dict[str, Callable[[], Awaitable[Any]]] = {
        "the id is taken": lambda: short_way(session, admin, key, id=first.id),
        "the owner is gone": lambda: short_way(session, admin, key, owner_id=uuid.uuid4()),
        "the key was used": lambda: short_way(session, admin, key, title="again"),
    }
    if obstacle == "the key was used":
        await short_way(session, admin, key)
    before = await _count(session, admin)

    assert await taken[obstacle]() is None
    assert await _count(session, admin) == before


async def _count(session: Session, account: Account) -> tuple[int, ...]:
    queries = (
        select(Task.id).where(Task.owner_id == account.id),
        select(Change.id).where(Change.actor_id == account.id),
        select(IdempotencyKey.key_hash).where(IdempotencyKey.scope_id == account.id),
    )
    return tuple([len(await session.transact(functools.partial(_all, query=query))) for query in queries])


PID: Statement[Any] = Statement(select(func.pg_backend_pid().label("pid")))


async def with_a_broken_connection(engine: AsyncEngine) -> Session:
    """A session whose next statement meets a connection that the server has ended."""
    session = Session(engine)
    [row] = await session.fetch(PID, {})
    await terminate(url_of(engine), row.pid)
    return session


async def test_a_connection_that_broke_before_is_replaced(own_engine: AsyncEngine, account: Account, raw: Raw) -> None:
    made = await short_way(await with_a_broken_connection(own_engine), account, None)

    rows = await raw("SELECT id FROM tasks WHERE owner_id = :id", id=account.id)
    assert [row.id for row in rows] == [made.id]


async def test_a_connection_that_broke_shows_nobody_the_row_that_had_the_id_before(
    own_engine: AsyncEngine, session: Session, account: Account, new_account: Any
) -> None:
    other, private = await new_account(), await short_way(session, account, None)

    assert await short_way(await with_a_broken_connection(own_engine), other, None, id=private.id) is None


async def test_a_connection_that_breaks_after_the_write_still_gives_the_row(
    gate: tuple[Gate, AsyncEngine], account: Account, raw: Raw
) -> None:
    broken, engine = gate
    session = Session(engine)
    assert await short_way(session, account, None, title="before") is not None
    broken.marker = b"break after this"

    made = await short_way(session, account, None, title="break after this")

    assert (made.title, broken.broken) == ("break after this", 1)
    rows = await raw("SELECT title FROM tasks WHERE owner_id = :id ORDER BY title", id=account.id)
    assert [row.title for row in rows] == ["before", "break after this"]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
async def test_where_the_database_stays_away_nobody_says_that_nothing_was_written(
    gate: tuple[Gate, AsyncEngine], account: Account, raw: Raw, keyed: bool, before: bool, rows: int
) -> None:
    broken, engine = gate
    await short_way(Session(engine), account, None, title="before")
    broken.marker, broken.before, broken.stays_away = b"break at this", before, True
    keys = [key_of(account) if keyed else None for _ in range(rows)]
    calls = [
        functools.partial(short_way, account=account, key=key, title=f"break at this {n}") for n, key in enumerate(keys)
    ]
    results = await asyncio.gather(*(call(Session(engine)) for call in calls), return_exceptions=True)

    assert [type(result) for result in results] == [UnknownOutcome] * rows
    assert broken.broken >= 1
    found = await raw("SELECT title FROM tasks WHERE owner_id = :id AND title LIKE 'break%'", id=account.id)
    assert len(found) == (0 if before else rows)


async def test_where_the_database_was_away_before_it_is_certain_that_nothing_was_written(account: Account) -> None:
    engine = create_engine(Settings(database_url="postgresql://ada@127.0.0.1:1/tasks"))

    with pytest.raises(OSError) as caught:
        await short_way(Session(engine), account, None)

    assert is_unreachable(caught.value)


@pytest.mark.parametrize("before", [False, True])
async def test_rows_whose_connection_breaks_are_each_written_once(
    gate: tuple[Gate, AsyncEngine], account: Account, raw: Raw, before: bool
) -> None:
    broken, engine = gate
    await short_way(Session(engine), account, None, title="before")
    broken.marker, broken.before = b"break at this 0", before
    calls = [
        functools.partial(short_way, account=account, key=key_of(account), title=f"break at this {n}") for n in range(5)
    ]
    calls += [functools.partial(short_way, account=account, key=None, title=f"and this {n}") for n in range(5)]

    async def mend() -> None:
        async with asyncio.timeout(10):
            while not broken.broken:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0)
        broken.marker = None

    *made, _ = await asyncio.gather(*(call(Session(engine)) for call in calls), mend())

    assert broken.broken == 1
    rows = await raw("SELECT id, title FROM tasks WHERE owner_id = :id AND title <> 'before'", id=account.id)
    assert sorted(row.title for row in rows) == sorted(
        [f"break at this {n}" for n in range(5)] + [f"and this {n}" for n in range(5)]
    )
    assert {row.id for row in rows} == {task.id for task in made}


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_run_that_the_server_is_still_at_is_waited_for(
    gate: tuple[Gate, AsyncEngine], account: Account, raw: Raw, keyed: bool
) -> None:
    """The connection is gone, and the statement not yet at its end: a second one must not write the row as well."""
    broken, engine = gate
    lock = int(uuid.uuid4()) % 2**31
    await raw(
        "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.title LIKE 'slow%' AND pg_try_advisory_xact_lock(" + str(lock) + ") THEN PERFORM pg_sleep(1); END IF; "
        "RETURN NEW; END $$"
    )
    await raw("CREATE TRIGGER hold_up AFTER INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION hold_up()")
    try:
        writing = asyncio.create_task(
            short_way(Session(engine), account, key_of(account) if keyed else None, title="slow")
        )
        async with asyncio.timeout(10):
            while not await raw(  # noqa: ASYNC110  # no event tells
                "SELECT 1 AS one FROM pg_locks WHERE locktype = 'advisory' AND objid = :n", n=lock
            ):
                await asyncio.sleep(0.01)
        broken.cut()
        made = await writing
    finally:
        await raw("DROP TRIGGER hold_up ON tasks")
        await raw("DROP FUNCTION hold_up()")

    rows = await raw("SELECT id FROM tasks WHERE owner_id = :id", id=account.id)
    assert [row.id for row in rows] == [made.id]


# -- rows that share a statement ----------------------------------------------------------------------


async def together(engine: AsyncEngine, *calls: Callable[[Session], Awaitable[Any]]) -> list[Any]:
    """What the creations of several requests come to that arrive at once."""
    return await asyncio.gather(*(call(Session(engine)) for call in calls))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement wrote."""
    sizes: list[int] = []
    shared = creation.write

    async def spying(kind: Any, readers: Any, rows: list[Any]) -> list[Any]:
        sizes.append(len(rows))
        return await shared(kind, readers, rows)

    monkeypatch.setattr(creation, "write", spying)
    return sizes


async def test_rows_that_share_a_statement_are_written_as_alone(
    own_engine: AsyncEngine, session: Session, account: Account, new_account: Any, statements: list[int]
) -> None:
    others = [await new_account() for _ in range(3)]
    keys = {owner.id: key_of(owner) for owner in [account, *others]}
    calls = [
        functools.partial(short_way, account=owner, key=keys[owner.id], title=f"of {n}")
        for n, owner in enumerate([account, *others])
    ]
    created = await together(own_engine, *calls)
    long_key = key_of(account)
    long = await long_way(session, account, long_key)

    assert statements == [4]
    expected = common(await written(session, long, long_key))
    for n, (owner, task) in enumerate(zip([account, *others], created, strict=True)):
        rows = common(await written(session, task, keys[owner.id]))
        assert task.title == rows[0]["title"] == rows[2]["answer"]["task"]["title"] == f"of {n}"
        for mine, its in zip(rows, expected, strict=True):
            own = {"title", "fields", "answer", "owner_id", "actor_id", "scope_id", "input_hash"}
            own |= {"search", "title_key", "text_mark"}
            assert {k: v for k, v in mine.items() if k not in own} == {k: v for k, v in its.items() if k not in own}
        assert rows[1]["fields"].keys() == expected[1]["fields"].keys()
        assert {row.get("owner_id", owner.id) for row in rows} == {owner.id}
        assert rows[1]["actor_id"] == rows[2]["scope_id"] == owner.id


async def test_obstacles_of_some_are_no_obstacles_for_others(
    own_engine: AsyncEngine, session: Session, admin: Account, account: Account, statements: list[int]
) -> None:
    used, twice, same = key_of(admin), key_of(admin), uuid.uuid4()
    first = await short_way(session, admin, used)
    before = await _count(session, admin)
    ways = [
        functools.partial(short_way, account=admin, key=None, id=first.id, title="its id is taken"),
        functools.partial(short_way, account=admin, key=None, owner_id=uuid.uuid4(), title="its owner is gone"),
        functools.partial(short_way, account=admin, key=key_of(admin), title="fine"),
        functools.partial(short_way, account=admin, key=used, title="its key was used"),
        functools.partial(short_way, account=admin, key=twice, title="once"),
        functools.partial(short_way, account=admin, key=twice, title="twice"),
        functools.partial(short_way, account=admin, key=None, id=same, title="first of this id"),
        functools.partial(short_way, account=admin, key=None, id=same, title="second of this id"),
        functools.partial(short_way, account=account, key=None, title="somebody else's"),
    ]
    created = await together(own_engine, *ways)

    titles = [task and task.title for task in created]
    assert titles == [None, None, "fine", None, "once", None, "first of this id", None, "somebody else's"]
    after = await _count(session, admin)
    assert [a - b for a, b in zip(after, before, strict=True)] == [3, 3, 2]


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("by", ["a task", "a user", "a token", "a task that was purged"])
async def test_an_id_that_is_taken_is_no_obstacle_for_others(
    own_engine: AsyncEngine, session: Session, account: Account, statements: list[int], by: str, keyed: bool
) -> None:
    first, purged = [await short_way(session, account, None) for _ in range(2)]
    await session.transact(lambda s: tasks.purge(s, account.viewer, purged.id))
    holders = {
        "a task": first.id,
        "a user": account.id,
        "a token": account.viewer.token_id,
        "a task that was purged": purged.id,
    }
    before = await _count(session, account)
    key = functools.partial(key_of, account) if keyed else lambda: None
    taken = functools.partial(short_way, account=account, key=key(), id=holders[by])
    fine = functools.partial(short_way, account=account, key=key(), title="fine")
    statements.clear()
    created = await together(own_engine, taken, fine)

    assert [task and task.title for task in created] == [None, "fine"]
    after = await _count(session, account)
    assert [a - b for a, b in zip(after, before, strict=True)] == [1, 1, int(keyed)]
    assert statements == [2]


async def test_nobody_waits_for_an_owner_that_is_being_deleted(
    own_engine: AsyncEngine, session: Session, account: Account, new_account: Any, statements: list[int]
) -> None:
    leaving, deleted, answered = await new_account(), asyncio.Event(), asyncio.Event()

    async def delete(session: Session) -> None:
        await users.delete(session, leaving.viewer, leaving.id)
        await session.flush()
        deleted.set()
        await answered.wait()

    deleting = asyncio.create_task(session.transact(delete))
    await deleted.wait()
    [own, none] = await together(
        own_engine,
        functools.partial(short_way, account=account, key=None, title="mine"),
        functools.partial(short_way, account=leaving, key=None, title="too late"),
    )
    answered.set()
    await deleting

    assert (own.title, none) == ("mine", None)
    assert statements == [2]


async def test_a_row_that_breaks_a_rule_of_the_database_takes_nobody_along(
    own_engine: AsyncEngine, account: Account, statements: list[int]
) -> None:
    async def broken(session: Session) -> Any:
        row = tasks.new(account.viewer, {**FIELDS, "title": " not trimmed "})
        return await creation.create(session, Task, row, "task", None, COLUMNS)

    created = await together(own_engine, functools.partial(short_way, account=account, key=None), broken)

    assert [task and task.title for task in created] == ["Write", None]
    assert statements == [2]


# Without what is refused.
CHARACTERS = st.characters(
    exclude_categories=["Cs", "Cc", "Zl", "Zp"],
    exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
)
TEXT = st.text(CHARACTERS, max_size=40)


@trying(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "title": TEXT.map(lambda text: f"t{text}t"),
                "description": TEXT,
                "status": st.sampled_from(TaskStatus),
                "tags": st.lists(TEXT.map(lambda text: f"t{text}t"), max_size=4),
                "due_at": st.none() | st.datetimes(timezones=st.just(UTC)),
            }
        ),
        min_size=2,
        max_size=5,
    )
)
async def test_whatever_is_in_a_row_it_is_stored_as_alone(
    engine: AsyncEngine, session: Session, account: Account, rows: list[dict[str, Any]]
) -> None:
    alone = [await short_way(session, account, None, **row) for row in rows]
    shared = await together(engine, *(functools.partial(short_way, account=account, key=None, **row) for row in rows))

    own = {"id", "created_at", "updated_at", "completed_at"}
    for one, other in zip(alone, shared, strict=True):
        assert {name: getattr(one, name) for name in COLUMNS - own} == {
            name: getattr(other, name) for name in COLUMNS - own
        }


# -- for others ---------------------------------------------------------------------------------------


LOST = [
    "UPDATE users SET role = 'member' WHERE id = :id",
    "UPDATE tokens SET revoked_at = now() WHERE user_id = :id",
    "UPDATE tokens SET created_at = '2020-01-01', expires_at = '2020-01-02' WHERE user_id = :id",
]


async def for_another(session: Session, admin: Account, owner: Account) -> Any:
    session.actor_id = admin.id
    row = tasks.new(admin.viewer, tasks.checked(FIELDS), owner_id=owner.id)
    return await creation.create(session, Task, row, "task", key_of(admin), COLUMNS, admin.viewer.token_id)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_admin_writes_for_others_in_one_statement(
    own_engine: AsyncEngine, admin: Account, account: Account, statements: list[int], count: int
) -> None:
    work = functools.partial(for_another, admin=admin, owner=account)
    created = await together(own_engine, *[work] * count)

    assert [task.owner_id for task in created] == [account.id] * count
    assert statements == [count]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("lost", LOST)
async def test_who_is_no_admin_any_more_writes_nothing_for_others_and_takes_nobody_along(
    own_engine: AsyncEngine, raw: Raw, admin: Account, new_account: Any, account: Account, count: int, lost: str
) -> None:
    boss = await new_account(Role.ADMIN)
    await raw(lost, id=admin.id)
    refused = functools.partial(for_another, admin=admin, owner=account)
    written = functools.partial(for_another, admin=boss, owner=account)
    created = await together(own_engine, *[refused] * count, *[written] * (count - 1))

    assert [task is not None for task in created] == [False] * count + [True] * (count - 1)
    for table, who in (("changes", "actor_id"), ("idempotency_keys", "scope_id")):
        assert await raw(f"SELECT * FROM {table} WHERE {who} = :id AND {who} <> owner_id", id=admin.id) == []
