"""What it costs to find kept answers and to delete them, however many others keep."""

import asyncio
import functools
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from background.housekeeping import forget_old
from graph.request.context import Services
from persistence import migrations, tasks, throttle, tokens, users
from persistence.connections.engine import create_engine
from persistence.models import Role, Scope, TokenKind
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from persistence.writes import batches, idempotency, snapshots
from persistence.writes.idempotency import Key
from tests.conftest import QUICK_HASH
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio

MANY = 30_000


async def an_account(session: Session, role: Role = Role.MEMBER) -> Viewer:
    user = await users.create(
        session, email=f"{uuid.uuid4().hex}@example.org", name="Ada", password_hash=QUICK_HASH, role=role
    )
    token = await tokens.issue(
        session,
        user.id,
        kind=TokenKind.PERSONAL,
        name="t",
        scopes=list(Scope),
        secret=tokens.new_secret(),
        expires_at=None,
    )
    return Viewer(user.id, role, frozenset(Scope), token.id)


async def written(engine: AsyncEngine, work: Any) -> Any:
    session = Session(engine)
    try:
        return await session.transact(work)
    finally:
        await session.close()


async def kept(session: Session, viewer: Viewer, row: Any) -> Key:
    key = idempotency.key_of(viewer.id, uuid.uuid4().hex, b"asked")
    await idempotency.claim(session, key)
    await idempotency.keep(session, key, {row.__entity__.lower(): snapshots.snapshot(row, "the key itself", "p")})
    return key


async def answers_of_others(engine: AsyncEngine, admin: Viewer) -> None:
    """Many kept answers: half of an admin and half of anybody, each of an entity and a user of its own."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                """
                INSERT INTO idempotency_keys (scope_id, key_hash, input_hash, answer, entity_id, owner_id, created_at)
                SELECT CASE WHEN n % 2 = 0 THEN :admin ELSE owner END, sha256(n::text::bytea), sha256('x'),
                       jsonb_build_object('task', jsonb_build_object('__entity__', 'Task', 'id', entity, 'title', n,
                                                                     'owner_id', owner)),
                       entity, owner, now() - n * interval '1 second'
                FROM (SELECT n, gen_random_uuid() AS entity, gen_random_uuid() AS owner
                      FROM generate_series(1, :many) AS n) AS made
                """
            ),
            {"admin": admin.id, "many": MANY},
        )
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE"))


BUFFERS = text(
    "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
)
"""What the transaction has read so far of tables and indexes."""


async def test_ending_a_thing_reads_no_more_however_much_others_keep(own_database: AsyncEngine) -> None:
    admin = await written(own_database, functools.partial(an_account, role=Role.ADMIN))
    viewer = await written(own_database, an_account)
    await answers_of_others(own_database, admin)
    read = {}

    async def counted(session: Session, name: str, work: Any) -> None:
        before = await session.scalar(BUFFERS)
        await work(session)
        await session.flush()
        read[name] = int(await session.scalar(BUFFERS) or 0) - int(before or 0)

    for _ in range(7):  # also with the plans that PostgreSQL makes for any value, after five runs
        task = await written(own_database, lambda s: tasks.create(s, viewer, title="very private"))
        for keeper in (admin, viewer):
            await written(own_database, functools.partial(kept, viewer=keeper, row=task))
        purge = functools.partial(tasks.purge, viewer=viewer, id=task.id)
        await written(own_database, functools.partial(counted, name="purge", work=purge))
        assert read["purge"] <= 100
    other = await written(own_database, an_account)
    task = await written(own_database, lambda s: tasks.create(s, other, title="very private"))
    await written(own_database, functools.partial(kept, viewer=admin, row=task))
    end = functools.partial(users.delete, viewer=other, id=other.id)
    await written(own_database, functools.partial(counted, name="end", work=end))
    assert read["end"] <= 150

    async with own_database.connect() as connection:
        left = "SELECT count(*) FROM idempotency_keys WHERE strpos(answer::text, 'very private') > 0"
        assert (await connection.execute(text(left))).scalar() == 0
        assert (await connection.execute(text("SELECT count(answer) FROM idempotency_keys"))).scalar() == MANY


async def test_answers_that_were_kept_before_they_could_be_found_are_found(
    new_database: Callable[[], str], settings: Settings
) -> None:
    url = await asyncio.to_thread(new_database)
    await asyncio.to_thread(migrations.upgrade, url, "0003")
    task, token, user, owner = (str(uuid.uuid4()) for _ in range(4))
    of_user = {"__entity__": "User", "id": owner}
    answers = [
        {"task": {"__entity__": "Task", "id": task, "owner_id": owner}},
        {"token": {"__entity__": "Token", "id": token, "user_id": owner}, "user": of_user, "secret": {"sealed": "00"}},
        {"user": {"__entity__": "User", "id": user}},
        {"id": {"id": task}},
        None,
    ]
    engine = create_engine(replace(settings, database_url=url))
    async with engine.begin() as connection:
        for answer in answers:
            await connection.execute(
                text(
                    "INSERT INTO idempotency_keys (scope_id, key_hash, input_hash, answer) "
                    "VALUES (gen_random_uuid(), sha256('k'), sha256('x'), CAST(:answer AS jsonb))"
                ),
                {"answer": None if answer is None else json.dumps(answer)},
            )
    await asyncio.to_thread(migrations.upgrade, url)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT entity_id::text, owner_id::text FROM idempotency_keys"))
        shown = {tuple(row) for row in found}
    await engine.dispose()

    assert shown == {(task, owner), (token, owner), (user, user), (None, None)}


# -- what is too old ----------------------------------------------------------------------------------


async def old_answers(raw: Raw, scope_id: UUID, count: int) -> None:
    await raw(
        """INSERT INTO idempotency_keys (scope_id, key_hash, input_hash, created_at)
        SELECT :scope, sha256(n::text::bytea), sha256('x'), now() - interval '25 hours' - n * interval '1 second'
        FROM generate_series(1, :count) AS n""",
        scope=scope_id,
        count=count,
    )


async def left_of(raw: Raw, scope_id: UUID) -> int:
    return len(await raw("SELECT key_hash FROM idempotency_keys WHERE scope_id = :scope", scope=scope_id))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(batches, "SIZE", 10)
    return 10


async def test_what_has_piled_up_is_deleted_in_small_transactions(
    write: Write, raw: Raw, services: Services, small: int
) -> None:
    await forget_old(services.engine, services.settings)
    scope = uuid.uuid4()
    await old_answers(raw, scope, 35)
    left, after = [], await write(idempotency.forget_old)
    while after is not None:
        left.append(await left_of(raw, scope))
        after = await write(functools.partial(idempotency.forget_old, after=after))

    assert left == [25, 15, 5]
    assert await left_of(raw, scope) == 0


async def test_housekeeping_deletes_all_that_has_piled_up(raw: Raw, services: Services, small: int) -> None:
    scope, subjects = uuid.uuid4(), [throttle.subject("account", uuid.uuid4().hex) for _ in range(25)]
    await old_answers(raw, scope, 35)
    for subject in subjects:
        await raw(
            "INSERT INTO sign_in_attempts (subject, failures, last_at) VALUES (:s, 1, now() - interval '2 days')",
            s=subject,
        )
    await forget_old(services.engine, services.settings)

    assert await left_of(raw, scope) == 0
    assert await raw("SELECT subject FROM sign_in_attempts WHERE subject = ANY(:all)", all=subjects) == []


async def test_a_part_of_the_housekeeping_that_fails_keeps_nothing_else_from_being_done(
    raw: Raw, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(session: Session, after: Any = None) -> None:
        raise OSError("no")

    subject = throttle.subject("account", uuid.uuid4().hex)
    insert = "INSERT INTO sign_in_attempts (subject, failures, last_at) VALUES (:s, 1, now() - interval '2 days')"
    await raw(insert, s=subject)
    monkeypatch.setattr(idempotency, "forget_old", fails)
    await forget_old(services.engine, services.settings)

    assert await raw("SELECT subject FROM sign_in_attempts WHERE subject = :s", s=subject) == []


async def test_an_old_answer_that_is_locked_holds_up_no_others(
    engine: AsyncEngine, write: Write, raw: Raw, services: Services, small: int
) -> None:
    scope = uuid.uuid4()
    await old_answers(raw, scope, 35)
    async with engine.begin() as connection:
        lock = "SELECT key_hash FROM idempotency_keys WHERE scope_id = :scope ORDER BY created_at LIMIT 3 FOR UPDATE"
        await connection.execute(text(lock), {"scope": scope})
        await forget_old(services.engine, services.settings)
        assert await left_of(raw, scope) == 3
    await forget_old(services.engine, services.settings)

    assert await left_of(raw, scope) == 0


async def test_servers_that_keep_house_at_once_share_the_work(
    engine: AsyncEngine, raw: Raw, services: Services, small: int
) -> None:
    scope = uuid.uuid4()
    await old_answers(raw, scope, 95)
    await asyncio.gather(*(forget_old(services.engine, services.settings) for _ in range(3)))
    await forget_old(services.engine, services.settings)

    assert await left_of(raw, scope) == 0
