"""Keys for retries: the first answer again, nothing twice, whatever happens at once."""

import asyncio
import functools
import uuid
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, tokens, users
from persistence.models import Base, Scope, Task, TaskPriority, TaskStatus, User
from persistence.models.base import entities
from persistence.rules.errors import DomainError, Invalid, KeyReused, NotFound
from persistence.session import Session
from persistence.writes import idempotency, snapshots
from persistence.writes.idempotency import Key
from tests.conftest import Account
from tests.persistence.conftest import Raw, Write, until_blocked
from tests.rows import row_of

anyio = pytest.mark.anyio


def new_key(account: Account, text: str = "", asked: bytes = b"asked") -> Key:
    return idempotency.key_of(account.id, text or uuid.uuid4().hex, asked)


async def once(session: Session, key: Key, account: Account, runs: list[int]) -> str:
    """What a mutation does: the title of its task, made at the first time."""
    earlier = await idempotency.claim(session, key)
    if earlier is not None:
        return str(earlier["title"])
    runs.append(1)
    task = await tasks.create(session, account.viewer, title=f"made {len(runs)}")
    await idempotency.keep(session, key, {"title": task.title})
    return task.title


async def made(raw: Raw, account: Account) -> int:
    return len(await raw("SELECT id FROM tasks WHERE owner_id = :id", id=account.id))


@anyio
async def test_a_key_that_comes_back_gets_the_first_answer_and_writes_nothing(
    write: Write, raw: Raw, account: Account
) -> None:
    key, runs = new_key(account), list[int]()

    answers = [await write(lambda s: once(s, key, account, runs)) for _ in range(3)]

    assert answers == ["made 1"] * 3
    assert await made(raw, account) == 1


@anyio
async def test_the_same_key_at_once_writes_once(engine: AsyncEngine, raw: Raw, account: Account) -> None:
    """The others wait for the first and get its answer."""
    key, runs, together = new_key(account), list[int](), asyncio.Barrier(6)

    async def work(session: Session) -> str:
        await session.connection()
        await together.wait()
        return await once(session, key, account, runs)

    answers = await asyncio.gather(*(Session(engine).transact(work) for _ in range(6)))

    assert answers == ["made 1"] * 6
    assert await made(raw, account) == 1


@anyio
async def test_when_the_first_fails_the_one_that_waits_goes_on(write: Write, raw: Raw, account: Account) -> None:
    key, claimed = new_key(account), asyncio.Event()

    async def fails(session: Session) -> None:
        assert await idempotency.claim(session, key) is None
        await tasks.create(session, account.viewer, title="lost")
        claimed.set()
        await until_blocked(session)
        raise NotFound("task")

    async def waits() -> str:
        await claimed.wait()
        return await write(lambda s: once(s, key, account, []))

    failed, answer = await asyncio.gather(write(fails), waits(), return_exceptions=True)

    assert isinstance(failed, DomainError)
    assert answer == "made 1"
    assert await made(raw, account) == 1


@anyio
async def test_a_key_with_another_input_is_refused_and_changes_nothing(
    write: Write, raw: Raw, account: Account
) -> None:
    await write(lambda s: once(s, new_key(account, "one and only"), account, []))
    other = new_key(account, "one and only", b"asked for something else")

    with pytest.raises(KeyReused):
        await write(lambda s: once(s, other, account, []))

    assert await made(raw, account) == 1
    assert await write(lambda s: once(s, new_key(account, "one and only"), account, [])) == "made 1"


@anyio
async def test_a_key_is_its_users_own(write: Write, account: Account, new_account: Any) -> None:
    other = await new_account()
    await write(lambda s: once(s, new_key(account, "shared by chance"), account, []))

    assert await write(lambda s: idempotency.claim(s, new_key(other, "shared by chance"))) is None


async def age(raw: Raw, account: Account, hours: float) -> None:
    await raw(
        "UPDATE idempotency_keys SET created_at = now() - :hours * interval '1 hour' WHERE scope_id = :id",
        hours=hours,
        id=account.id,
    )


@anyio
async def test_a_key_is_forgotten_after_24_hours_and_not_before(write: Write, raw: Raw, account: Account) -> None:
    key = new_key(account)
    await write(lambda s: once(s, key, account, []))
    await age(raw, account, 23.9)
    kept = await write(lambda s: once(s, key, account, []))
    await age(raw, account, 24.1)

    again = await write(lambda s: once(s, new_key(account, "another one"), account, [7]))
    expired = await write(lambda s: once(s, key, account, [7]))

    assert (kept, again, expired) == ("made 1", "made 2", "made 2")
    assert await write(lambda s: once(s, key, account, [])) == "made 2"


@anyio
async def test_an_old_key_may_come_back_with_another_input(write: Write, raw: Raw, account: Account) -> None:
    await write(lambda s: once(s, new_key(account, "an old key"), account, []))
    await age(raw, account, 25)
    other = new_key(account, "an old key", b"asked for something else")

    assert await write(lambda s: once(s, other, account, [7])) == "made 2"


@anyio
async def test_an_old_key_that_comes_back_twice_at_once_writes_once(
    engine: AsyncEngine, write: Write, raw: Raw, account: Account
) -> None:
    key, runs, together = new_key(account), [7], asyncio.Barrier(4)
    await write(lambda s: once(s, key, account, []))
    await age(raw, account, 25)

    async def work(session: Session) -> str:
        await session.connection()
        await together.wait()
        return await once(session, key, account, runs)

    assert await asyncio.gather(*(Session(engine).transact(work) for _ in range(4))) == ["made 2"] * 4
    assert await made(raw, account) == 2


@anyio
async def test_old_keys_are_cleared_away_and_young_ones_stay(write: Write, raw: Raw, account: Account) -> None:
    await write(lambda s: once(s, new_key(account), account, []))
    await age(raw, account, 25)
    young = new_key(account)
    await write(lambda s: once(s, young, account, []))

    await write(idempotency.forget_old)

    rows = await raw("SELECT key_hash FROM idempotency_keys WHERE scope_id = :id", id=account.id)
    assert [row.key_hash for row in rows] == [young.key_hash]


@pytest.mark.parametrize("text", ["", "short", "x" * 256, "with a nul\x00", "half a pair \ud800"])
def test_a_key_that_is_none_is_told(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        idempotency.key_of(uuid.uuid4(), text, b"asked")

    assert [(problem.code, problem.path) for problem in caught.value.problems] == [("INVALID_KEY", ("idempotencyKey",))]


def test_neither_the_key_nor_the_input_can_be_read_from_what_is_stored() -> None:
    key, other = (idempotency.key_of(UUID(int=1), text, b"password") for text in ("the key itself", "another key"))

    assert b"key itself" not in key.key_hash + key.input_hash
    assert key.input_hash != other.input_hash


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.text(min_size=8, max_size=20), st.text(max_size=9))
def test_a_sealed_secret_opens_with_its_key_only(secret: str, key: str, purpose: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    purpose = purpose.encode(errors="ignore").decode()
    hidden = idempotency.sealed(secret, key, purpose)

    assert idempotency.unsealed(hidden, key, purpose) == secret
    if len(secret) > 8:
        other = idempotency.sealed(secret, key + "x", purpose)
        assert len({hidden, other, idempotency.sealed(secret, key, purpose + "x")}) == 3


# -- what is kept of rows -----------------------------------------------------------------------------


def same(row: Base, revived: Base) -> None:
    for attribute in type(row).__mapper__.column_attrs:
        if attribute.key not in row.__private__:
            value, again = getattr(row, attribute.key), getattr(revived, attribute.key)
            assert value == again, attribute.key
            assert isinstance(value, type(again)), attribute.key  # the driver's UUID is a subclass


@anyio
async def test_every_entity_comes_back_as_it_was(write: Write, account: Account) -> None:
    task = await write(
        lambda s: tasks.create(
            s,
            account.viewer,
            title="T",
            status=TaskStatus.DONE,
            priority=TaskPriority.HIGH,
            tags=["a"],
            due_at=datetime(2026, 1, 1, microsecond=5, tzinfo=UTC),
        )
    )
    gone = await write(lambda s: tasks.delete(s, account.viewer, task.id))
    user = await write(lambda s: users.for_update(s, account.viewer, account.id))
    secret = tokens.new_secret()
    token = await write(
        lambda s: tokens.create(
            s, account.viewer, id=None, name="x", scopes=[Scope.READ], expires_at=None, secret=secret
        )
    )
    revoked = await write(lambda s: tokens.revoke(s, account.viewer, token.id))

    for row in (task, gone, user, token, revoked):
        kept = snapshots.snapshot(row, "the key itself", "purpose")
        same(row, snapshots.revive(kept, "the key itself", "purpose"))
        assert not any(name in kept for name in type(row).__private__)


@anyio
@pytest.mark.parametrize("model", entities().values(), ids=entities())
async def test_a_row_of_any_table_comes_back_as_it_was(write: Write, account: Account, model: Any) -> None:
    async def work(session: Session) -> Any:
        if model is User:
            return await session.get(User, account.id)
        row = model(**row_of(model, account.id))
        session.add(row)
        return row

    row = await write(work)
    same(row, snapshots.revive(snapshots.snapshot(row, "the key itself", "p"), "the key itself", "p"))


@anyio
async def test_a_snapshot_survives_the_database(write: Write, account: Account) -> None:
    key, text = new_key(account, "12345678"), "12345678"

    async def first(session: Session) -> Task:
        await idempotency.claim(session, key)
        task = await tasks.create(session, account.viewer, title='😀 " \\')
        answer = {"task": task, "id": task.id, "secret": "tsk_secret"}
        kept = {name: snapshots.snapshot(value, text, "p") for name, value in answer.items()}
        assert "tsk_secret" not in str(kept)
        await idempotency.keep(session, key, kept)
        return task

    task = await write(first)
    answer = await write(lambda s: idempotency.claim(s, key))

    assert answer is not None
    revived = {name: snapshots.revive(value, text, "p") for name, value in answer.items()}
    same(task, revived["task"])
    assert (revived["id"], revived["secret"]) == (task.id, "tsk_secret")


@anyio
async def test_a_snapshot_of_an_edited_row_can_be_taken_after_its_flush(write: Write, account: Account) -> None:
    async def work(session: Session) -> Any:
        token = await tokens.revoke(session, account.viewer, account.viewer.token_id)
        await session.flush()
        return snapshots.snapshot(token, "the key itself", "purpose")

    assert (await write(work))["revoked_at"] is not None


# -- what is forgotten --------------------------------------------------------------------------------


async def kept_answers(raw: Raw, needle: str) -> int:
    return len(
        await raw("SELECT 1 AS one FROM idempotency_keys WHERE strpos(answer::text, :needle) > 0", needle=needle)
    )


async def answered(session: Session, account: Account, task_id: UUID) -> None:
    key = new_key(account)
    await idempotency.claim(session, key)
    task = await tasks.update(session, account.viewer, task_id, given={"description": uuid.uuid4().hex})
    await session.flush()
    await idempotency.keep(session, key, {"task": snapshots.snapshot(task, "the key itself", "p")})


@anyio
async def test_a_purge_empties_the_kept_answers_that_show_the_task(
    write: Write, raw: Raw, account: Account, admin: Account
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="very private"))
    for who in (account, admin):
        await write(functools.partial(answered, account=who, task_id=task.id))
    assert await kept_answers(raw, str(task.id)) == 2

    await write(lambda s: tasks.purge(s, account.viewer, task.id))

    assert await kept_answers(raw, str(task.id)) == 0


@anyio
async def test_deleting_a_user_takes_the_content_out_of_everybodys_kept_answers(
    write: Write, raw: Raw, account: Account, admin: Account, new_account: Any
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="very private"))
    for who in (account, admin):
        await write(functools.partial(answered, account=who, task_id=task.id))

    await write(lambda s: users.delete(s, account.viewer, account.id))

    assert await kept_answers(raw, str(account.id)) == 0


@anyio
async def test_the_key_of_a_purged_answer_still_prevents_a_second_time(
    write: Write, raw: Raw, account: Account
) -> None:
    key = new_key(account)

    async def work(session: Session) -> Task | None:
        if await idempotency.claim(session, key) is not None:
            return None
        task = await tasks.create(session, account.viewer, title="x")
        await idempotency.keep(session, key, {"task": snapshots.snapshot(task, "the key itself", "p")})
        return task

    task = await write(work)
    assert task is not None
    await write(lambda s: tasks.purge(s, account.viewer, task.id))

    assert await write(work) is None
    assert await made(raw, account) == 0
