"""The change log: a row for every write, in the writer's transaction, in an order that loses nothing."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, throttle, tokens, users
from persistence.connections.engine import create_engine
from persistence.models import Action, Change, Role, Scope, Task, TaskPriority, TaskStatus, TokenKind
from persistence.models.ids import new_id
from persistence.rules.errors import NotFound
from persistence.session import Session
from persistence.settings import Settings
from persistence.writes import idempotency
from tests.conftest import QUICK_HASH, Account
from tests.persistence.conftest import Raw, Write, until_blocked

pytestmark = pytest.mark.anyio


async def log(engine: AsyncEngine, owner_id: UUID, after: int = -1) -> list[Change]:
    """The changes of a user's data in their order, without those up to `after` (a seq)."""
    session = Session(engine)
    query = select(Change).where(Change.owner_id == owner_id, Change.seq > after).order_by(Change.xact, Change.seq)
    changes = list(await session.scalars(query))
    await session.close()
    return changes


async def last(engine: AsyncEngine, owner_id: UUID) -> int:
    return max((change.seq for change in await log(engine, owner_id)), default=-1)


def told(changes: list[Change]) -> list[tuple[str, str, int | None]]:
    return [(change.entity, change.action.value, change.version) for change in changes]


# -- what is written ----------------------------------------------------------------------------------


async def test_signing_up_logs_the_user_and_the_token(engine: AsyncEngine, account: Account) -> None:
    changes = await log(engine, account.id)

    assert told(changes) == [("User", "created", 1), ("Token", "created", None)]
    assert [change.entity_id for change in changes] == [account.id, account.viewer.token_id]
    assert changes[0].fields == {
        "email": [None, account.email],
        "name": [None, "Ada"],
        "time_zone": [None, "UTC"],
        "role": [None, "member"],
    }
    assert len({change.xact for change in changes}) == 1


async def test_every_write_of_a_task_logs_exactly_its_row(
    engine: AsyncEngine, write: Write, account: Account, admin: Account
) -> None:
    mark, viewer, id = await last(engine, account.id), account.viewer, new_id()
    due = datetime(2026, 12, 1, 9, tzinfo=UTC)

    for work in (
        lambda s: tasks.create(s, viewer, id=id, title="one", tags=["a"], due_at=due, priority=TaskPriority.HIGH),
        lambda s: tasks.update(s, viewer, id, given={"title": "two", "due_at": None}, add_tags=["b"]),
        lambda s: tasks.complete(s, viewer, id),
        lambda s: tasks.reopen(s, viewer, id),
        lambda s: tasks.delete(s, viewer, id),
        lambda s: tasks.restore(s, viewer, id),
    ):
        await write(work, account.id)
    await write(lambda s: tasks.update(s, admin.viewer, id, given={"status": TaskStatus.IN_PROGRESS}), admin.id)

    changes = await log(engine, account.id, mark)
    assert told(changes) == [
        ("Task", "created", 1),
        ("Task", "updated", 2),
        ("Task", "updated", 3),
        ("Task", "updated", 4),
        ("Task", "deleted", 5),
        ("Task", "restored", 6),
        ("Task", "updated", 7),
    ]
    assert [change.actor_id for change in changes] == [account.id] * 6 + [admin.id]
    assert all(change.entity_id == id for change in changes)
    fields: list[Any] = [change.fields for change in changes]
    assert fields[0] == {
        "owner_id": [None, str(account.id)],
        "title": [None, "one"],
        "status": [None, "todo"],
        "priority": [None, "high"],
        "tags": [None, ["a"]],
        "due_at": [None, "2026-12-01T09:00:00Z"],
    }
    assert fields[1] == {
        "title": ["one", "two"],
        "tags": [["a"], ["a", "b"]],
        "due_at": ["2026-12-01T09:00:00Z", None],
    }
    assert set(fields[2]) == {"status", "completed_at"}
    assert fields[2]["status"] == ["todo", "done"]
    assert fields[3]["completed_at"] == [fields[2]["completed_at"][1], None]
    assert [set(fields[4]), set(fields[5])] == [{"deleted_at"}, {"deleted_at"}]
    assert fields[6] == {"status": ["todo", "in_progress"]}


async def test_the_log_says_what_the_row_is(engine: AsyncEngine, write: Write, account: Account) -> None:
    """Applying the changes one after another gives the row."""
    made = await write(lambda s: tasks.create(s, account.viewer, title="one", tags=["x"]))
    mark = await last(engine, account.id) - 1
    await write(lambda s: tasks.update(s, account.viewer, made.id, given={"title": "two", "tags": []}))
    row = await write(lambda s: tasks.complete(s, account.viewer, made.id))

    state: dict[str, Any] = {}
    for change in await log(engine, account.id, mark):
        for name, (before, after) in (change.fields or {}).items():
            assert state.get(name) == before
            state[name] = after

    assert row.completed_at is not None
    assert state == {
        "owner_id": str(account.id),
        "title": "two",
        "tags": [],
        "status": "done",
        "priority": "medium",
        "completed_at": row.completed_at.isoformat().replace("+00:00", "Z"),
    }


async def test_edits_that_change_nothing_log_nothing_and_keep_the_version(
    engine: AsyncEngine, write: Write, account: Account
) -> None:
    viewer = account.viewer
    due = datetime(2026, 12, 1, tzinfo=UTC)
    made = await write(lambda s: tasks.create(s, viewer, title="one", tags=["a"], due_at=due))
    mark = await last(engine, account.id)
    same = {
        "title": " one ",
        "description": "",
        "status": TaskStatus.TODO,
        "priority": TaskPriority.MEDIUM,
        "tags": ["A", "a"],
        "due_at": datetime.fromisoformat("2026-12-01T02:00:00+02:00"),
    }

    for work in (
        lambda s: tasks.update(s, viewer, made.id, given=same),
        lambda s: tasks.update(s, viewer, made.id, given={}, add_tags=["a"], remove_tags=["b"]),
        lambda s: tasks.reopen(s, viewer, made.id),
        lambda s: tasks.restore(s, viewer, made.id),
        lambda s: users.update(s, viewer, account.id, {"name": "Ada", "time_zone": "UTC"}),
    ):
        await write(work)

    assert await log(engine, account.id, mark) == []
    after = await write(lambda s: tasks.for_update(s, viewer, made.id))
    assert (after.version, after.updated_at) == (1, made.updated_at)


async def test_completing_and_deleting_again_log_nothing(engine: AsyncEngine, write: Write, account: Account) -> None:
    made = await write(lambda s: tasks.create(s, account.viewer, title="one", status=TaskStatus.DONE))
    done = await write(lambda s: tasks.complete(s, account.viewer, made.id))
    gone = await write(lambda s: tasks.delete(s, account.viewer, made.id))
    mark = await last(engine, account.id)

    again = await write(lambda s: tasks.delete(s, account.viewer, made.id))

    assert (done.version, gone.version, again.version) == (1, 2, 2)
    assert (done.completed_at, again.deleted_at) == (made.completed_at, gone.deleted_at)
    assert await log(engine, account.id, mark) == []


async def test_every_write_of_a_user_logs_exactly_its_row(
    engine: AsyncEngine, write: Write, account: Account, admin: Account
) -> None:
    mark = await last(engine, account.id)

    await write(lambda s: users.update(s, account.viewer, account.id, {"name": "Lovelace"}), account.id)
    await write(lambda s: users.update(s, admin.viewer, account.id, {"role": Role.ADMIN}), admin.id)

    changes = await log(engine, account.id, mark)
    assert told(changes) == [("User", "updated", 2), ("User", "updated", 3)]
    assert [change.fields for change in changes] == [{"name": ["Ada", "Lovelace"]}, {"role": ["member", "admin"]}]
    assert [change.actor_id for change in changes] == [account.id, admin.id]


async def test_a_new_password_is_logged_without_any_value(engine: AsyncEngine, write: Write, account: Account) -> None:
    mark = await last(engine, account.id)

    await write(lambda s: users.update(s, account.viewer, account.id, {"password_hash": QUICK_HASH + "x"}))

    [change] = await log(engine, account.id, mark)
    assert (told([change]), change.fields) == ([("User", "updated", 2)], {})


async def test_every_write_of_a_token_logs_exactly_its_row(engine: AsyncEngine, write: Write, account: Account) -> None:
    mark, viewer = await last(engine, account.id), account.viewer
    secret = tokens.new_secret()

    token = await write(
        lambda s: tokens.create(s, viewer, id=None, name="laptop", scopes=[Scope.READ], expires_at=None, secret=secret)
    )
    await write(lambda s: tokens.used(s, [token.id]))
    await write(lambda s: tokens.revoke(s, viewer, token.id))
    await write(lambda s: tokens.revoke(s, viewer, token.id))

    changes = await log(engine, account.id, mark)
    assert told(changes) == [("Token", "created", None), ("Token", "updated", None)]
    assert changes[0].fields == {
        "user_id": [None, str(account.id)],
        "name": [None, "laptop"],
        "kind": [None, "personal"],
        "scopes": [None, ["read"]],
        "prefix": [None, secret[:12]],
    }
    assert set(changes[1].fields or {}) == {"revoked_at"}


async def test_ending_the_other_sessions_logs_each_of_them(engine: AsyncEngine, write: Write, account: Account) -> None:
    async def sessions(session: Session) -> list[UUID]:
        made = [
            await tokens.issue(
                session,
                account.id,
                kind=TokenKind.SESSION,
                name="Session",
                scopes=[Scope.READ],
                secret=tokens.new_secret(),
                expires_at=None,
            )
            for _ in range(3)
        ]
        return [token.id for token in made]

    ids = await write(sessions)
    mark = await last(engine, account.id)

    await write(lambda s: tokens.revoke_sessions(s, account.id, but=ids[0]))

    changes = await log(engine, account.id, mark)
    assert {change.entity_id for change in changes} == set(ids[1:])
    assert told(changes) == [("Token", "updated", None)] * 2


async def test_bookkeeping_is_not_logged(write: Write, raw: Raw, account: Account) -> None:
    before = await raw("SELECT count(*) AS n FROM changes WHERE owner_id = :id", id=account.id)

    key = idempotency.key_of(account.id, "a key of mine", b"asked")
    await write(lambda s: idempotency.claim(s, key))
    await write(lambda s: throttle.settle(s, [(throttle.ACCOUNT, account.id.bytes)], right=False))

    assert await raw("SELECT count(*) AS n FROM changes WHERE owner_id = :id", id=account.id) == before


async def test_no_secret_ever_enters_the_log(engine: AsyncEngine, write: Write, account: Account, raw: Raw) -> None:
    await write(lambda s: users.update(s, account.viewer, account.id, {"name": "x", "password_hash": QUICK_HASH + "y"}))
    rows = await raw("SELECT coalesce(fields::text, '') AS fields FROM changes WHERE owner_id = :id", id=account.id)

    written = "".join(row.fields for row in rows)

    for secret in ("argon2", "hash", account.secret, tokens.hashed(account.secret).hex()):
        assert secret not in written


async def test_a_row_without_an_id_of_its_own_is_logged_with_the_one_it_gets(
    engine: AsyncEngine, write: Write, account: Account
) -> None:
    mark = await last(engine, account.id)

    async def work(session: Session) -> Task:
        task = Task(owner_id=account.id, title="bare")
        session.add(task)
        return task

    task = await write(work)

    [change] = await log(engine, account.id, mark)
    assert (change.entity_id, change.version) == (task.id, 1)
    assert (change.fields or {})["status"] == [None, "todo"]


async def test_the_rows_of_a_transaction_that_fails_are_gone_with_it(
    engine: AsyncEngine, session: Session, account: Account
) -> None:
    mark = await last(engine, account.id)

    async def work(session: Session) -> None:
        await tasks.create(session, account.viewer, title="lost")
        raise NotFound("task")

    with pytest.raises(NotFound):
        await session.transact(work)

    assert await log(engine, account.id, mark) == []


async def test_several_flushes_of_a_transaction_log_each_state(
    engine: AsyncEngine, write: Write, account: Account
) -> None:
    mark = await last(engine, account.id)

    async def work(session: Session) -> None:
        task = await tasks.create(session, account.viewer, title="one")
        task.title = "two"
        await session.flush()
        task.title = "three"

    await write(work)

    changes = await log(engine, account.id, mark)
    assert told(changes) == [("Task", "created", 1), ("Task", "updated", 2), ("Task", "updated", 3)]
    assert [change.seq for change in changes] == sorted(change.seq for change in changes)


# -- what is forgotten --------------------------------------------------------------------------------


async def test_a_purge_leaves_that_it_was_and_not_what_it_was(
    engine: AsyncEngine, write: Write, account: Account, raw: Raw
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="very private"))
    mark = await last(engine, account.id) - 1
    await write(lambda s: tasks.update(s, account.viewer, task.id, given={"description": "very private"}))

    assert await write(lambda s: tasks.purge(s, account.viewer, task.id), account.id) == task.id

    changes = await log(engine, account.id, mark)
    assert told(changes) == [("Task", "created", 1), ("Task", "updated", 2), ("Task", "purged", 2)]
    assert [change.fields for change in changes] == [None, None, None]
    assert await raw("SELECT 1 FROM tasks WHERE id = :id", id=task.id) == []


async def test_a_purge_leaves_the_history_of_other_things_with_the_same_id(
    engine: AsyncEngine, write: Write, account: Account, new_account: Any, raw: Raw
) -> None:
    """Ids were unique only within a table once, and the log of that time remains."""
    other = await new_account()
    task = await write(lambda s: tasks.create(s, other.viewer, title="x"))
    await raw(
        "INSERT INTO changes (id, entity, entity_id, owner_id, action, fields)"
        " SELECT gen_random_uuid(), entity, :task, owner_id, action, fields FROM changes WHERE entity_id = :account",
        task=task.id,
        account=account.id,
    )

    await write(lambda s: tasks.purge(s, other.viewer, task.id))

    changes = await log(engine, account.id)
    assert task.id in {change.entity_id for change in changes}
    assert all(change.fields for change in changes)


async def test_deleting_a_user_leaves_tombstones_of_all_that_the_user_owned(
    engine: AsyncEngine, write: Write, account: Account, admin: Account, raw: Raw
) -> None:
    first = await write(lambda s: tasks.create(s, account.viewer, title="first"))
    second = await write(lambda s: tasks.create(s, account.viewer, title="second"))
    await write(lambda s: tasks.complete(s, account.viewer, first.id))
    await write(lambda s: tasks.delete(s, account.viewer, second.id))
    mark = await last(engine, account.id)

    assert await write(lambda s: users.delete(s, admin.viewer, account.id), admin.id) == account.id

    changes = await log(engine, account.id)
    assert all(change.fields is None for change in changes)
    ends = {(c.entity, c.entity_id, c.action, c.version, c.actor_id) for c in changes if c.seq > mark}
    assert ends == {
        ("Token", account.viewer.token_id, Action.PURGED, None, admin.id),
        ("Task", first.id, Action.PURGED, 2, admin.id),
        ("Task", second.id, Action.PURGED, 2, admin.id),
        ("User", account.id, Action.PURGED, 1, admin.id),
    }
    for table, column in (("users", "id"), ("tasks", "owner_id"), ("tokens", "user_id")):
        assert await raw(f"SELECT 1 FROM {table} WHERE {column} = :id", id=account.id) == []


async def test_an_edit_that_ends_while_its_owner_is_deleted_leaves_no_content(
    engine: AsyncEngine, write: Write, account: Account, admin: Account
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="private"))
    edited = asyncio.Event()

    async def edit(session: Session) -> None:
        await tasks.update(session, account.viewer, task.id, given={"title": "more private"})
        await session.flush()
        edited.set()
        await until_blocked(session)  # by the deletion, which has come to the row that this transaction holds

    async def delete() -> None:
        await edited.wait()
        await write(lambda s: users.delete(s, admin.viewer, account.id), admin.id)

    await asyncio.gather(write(edit), delete())

    changes = await log(engine, account.id)
    assert [change.fields for change in changes] == [None] * len(changes)
    assert [c.version for c in changes if c.action is Action.PURGED and c.entity == "Task"] == [2]


# -- the order ----------------------------------------------------------------------------------------

NEW_CHANGES = text(
    """
    SELECT xact::text::bigint AS xact, seq, entity_id FROM changes
    WHERE (xact, seq) > (CAST(CAST(:xact AS text) AS xid8), :seq) AND xact < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY xact, seq
    """
)


async def test_a_reader_behind_the_watermark_misses_nothing_and_repeats_nothing(
    settings: Settings, account: Account
) -> None:
    """Writers commit in another order than they began; the reader remembers only the last row it saw."""
    engine = create_engine(settings)
    written: list[UUID] = []
    out_of_order = random.Random(7)
    done = asyncio.Event()

    async def writer() -> None:
        for _ in range(12):

            async def work(session: Session) -> list[UUID]:
                made = [await tasks.create(session, account.viewer, title="x") for _ in range(2)]
                await asyncio.sleep(out_of_order.uniform(0, 0.02))
                made.append(await tasks.create(session, account.viewer, title="y"))
                return [task.id for task in made]

            written.extend(await Session(engine).transact(work))

    seen: list[UUID] = []
    places: list[tuple[int, int]] = []

    async def reader() -> None:
        place = (0, 0)
        async with engine.connect() as connection:
            start = (
                await connection.execute(text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))
            ).scalar_one()
            place = (int(start) - 1, 2**62)
            await connection.rollback()
            while True:
                finished = done.is_set()
                rows = (await connection.execute(NEW_CHANGES, {"xact": str(place[0]), "seq": place[1]})).all()
                await connection.rollback()
                for row in rows:
                    place = (row.xact, row.seq)
                    places.append(place)
                    seen.append(row.entity_id)
                if finished and set(written) <= set(seen):
                    return
                await asyncio.sleep(0.002)

    async def write_all() -> None:
        await asyncio.sleep(0.01)
        await asyncio.gather(*(writer() for _ in range(6)))
        done.set()

    async with asyncio.timeout(20):
        await asyncio.gather(reader(), write_all())
    await engine.dispose()

    mine = [id for id in seen if id in set(written)]
    assert len(mine) == len(written) == len(set(written)) == 6 * 12 * 3
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    sequences = [seq for _, seq in places]
    assert sequences != sorted(sequences), "the test is one only where transactions overlap"
