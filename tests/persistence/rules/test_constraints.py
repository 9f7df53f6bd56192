"""The same rules in the database, past the Python code; and what its refusals say to people."""

import asyncio
import random
import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import CheckConstraint, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, users
from persistence.models import Base, Task, Token, User
from persistence.models.ids import new_id
from persistence.rules import constraints
from persistence.rules.errors import Conflict, DomainError, Invalid, NotFound
from persistence.rules.text import fold
from persistence.session import Session
from tests.conftest import QUICK_HASH, Account
from tests.persistence.conftest import Raw, Write, broken_constraint

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


def insert(table: str, values: dict[str, Any]) -> str:
    columns = ", ".join(values)
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f':{name}' for name in values)})"


def user_values(**changed: Any) -> dict[str, Any]:
    email = f"{uuid.uuid4().hex}@example.org"
    return {"id": new_id(), "email": email, "name": "Ada", "password_hash": QUICK_HASH, **changed}


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"email": "Ada@example.org"}, "ck_users_email_folded"),
        ({"email": "ada"}, "ck_users_email_form"),
        ({"email": "@example.org"}, "ck_users_email_form"),
        ({"email": "a@b@c"}, "ck_users_email_form"),
        ({"email": "a b@c"}, "ck_users_email_form"),
        ({"email": "a" * 309 + "@example.org"}, "22001"),
        ({"name": ""}, "ck_users_name_length"),
        ({"name": " Ada"}, "ck_users_name_length"),
        ({"name": "x" * 201}, "22001"),
        ({"time_zone": ""}, "ck_users_time_zone_present"),
        ({"time_zone": "localtime"}, "ck_users_time_zone_present"),
        ({"time_zone": "europe/berlin"}, "ck_users_time_zone_present"),
        ({"role": "owner"}, "ck_users_role"),
    ],
)
async def test_the_database_refuses_a_wrong_user(raw: Raw, changed: dict[str, Any], broken: str) -> None:
    values = user_values(**changed)

    assert await broken_constraint(raw(insert("users", values), **values)) == broken


async def test_the_database_refuses_a_second_account_of_an_address_and_a_second_row_of_an_id(
    raw: Raw, account: Account
) -> None:
    same_email, same_id = user_values(email=account.email), user_values(id=account.id)

    assert await broken_constraint(raw(insert("users", same_email), **same_email)) == "uq_users_email"
    assert await broken_constraint(raw(insert("users", same_id), **same_id)) == "pk_users"


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"title": ""}, "ck_tasks_title_length"),
        ({"title": " x"}, "ck_tasks_title_length"),
        ({"title": "x "}, "ck_tasks_title_length"),
        ({"title": " "}, "ck_tasks_title_length"),
        ({"title": "one\ntwo"}, "ck_tasks_title_length"),
        ({"title": "\u2800"}, "ck_tasks_title_length"),
        ({"title": "x" * 501}, "22001"),
        ({"title": None}, "23502"),
        ({"description": "x" * 10_001}, "ck_tasks_description_length"),
        ({"status": "later"}, "ck_tasks_status"),
        ({"status": "TODO"}, "ck_tasks_status"),
        ({"priority": "critical"}, "ck_tasks_priority"),
        ({"tags": [f"t{n}" for n in range(21)]}, "ck_tasks_tags"),
        ({"tags": [""]}, "ck_tasks_tags"),
        ({"tags": ["x" * 51]}, "22001"),
        ({"tags": ["a", "a"]}, "ck_tasks_tags"),
        ({"tags": ["Home"]}, "ck_tasks_tags"),
        ({"tags": [" home"]}, "ck_tasks_tags"),
        ({"tags": ["a", None]}, "ck_tasks_tags"),
        ({"status": "done"}, "ck_tasks_completed_when_done"),
        ({"completed_at": NOW}, "ck_tasks_completed_when_done"),
        ({"owner_id": uuid.UUID(int=1)}, "fk_tasks_owner_id_users"),
        ({"version": None}, "23502"),
    ],
)
async def test_the_database_refuses_a_wrong_task(
    raw: Raw, account: Account, changed: dict[str, Any], broken: str
) -> None:
    values = {"id": new_id(), "owner_id": account.id, "title": "fine", **changed}

    assert await broken_constraint(raw(insert("tasks", values), **values)) == broken


async def test_the_database_takes_tags_exactly_when_they_keep_the_rules(raw: Raw) -> None:
    """What the function says of many arrays, valid ones and others, against the rules in Python."""
    random_ = random.Random(1)
    letters = ["a", "b", "é", "漢", " ", "A", ",", '"', "{", "\\", "\n", "x" * 49, "\u200b"]

    def tag() -> str | None:
        text = "".join(random_.choice(letters[: random_.choice([4, 12])]) for _ in range(random_.randint(0, 3)))
        return text if random_.random() < 0.95 else None

    arrays = [[tag() for _ in range(random_.choice([0, 1, 2, 3, 4, 20, 21]))] for _ in range(150)]
    arrays += [[f"{letter}{n}" for n in range(count)] for letter in "ab" for count in (19, 20, 21)]
    taken = [(await raw("SELECT tags_are_valid(:tags) AS valid", tags=tags))[0].valid for tags in arrays]

    def keeps_the_rules(tags: list[str | None]) -> bool:
        texts = [tag for tag in tags if tag is not None]
        each = all(1 <= len(tag) <= 50 and fold(tag) == tag for tag in texts)
        return len(tags) <= 20 and len(set(texts)) == len(tags) and each

    assert taken == [keeps_the_rules(tags) for tags in arrays]
    assert {True, False} == set(taken)


async def test_the_database_refuses_an_update_that_breaks_a_rule(raw: Raw, write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="fine"))
    wrong = {
        "title = ''": "ck_tasks_title_length",
        "status = 'done'": "ck_tasks_completed_when_done",
        "tags = '{A}'": "ck_tasks_tags",
        "owner_id = gen_random_uuid()": "fk_tasks_owner_id_users",
    }

    found = {
        change: await broken_constraint(raw(f"UPDATE tasks SET {change} WHERE id = :id", id=task.id))
        for change in wrong
    }

    assert found == wrong


@pytest.mark.parametrize(
    "changed",
    [
        {"title": "x" * 500, "description": "y" * 10_000},
        {"title": "x"},
        {"title": "❤\ufe0f"},
        {"tags": [f"t{n}" for n in range(19)] + ["x" * 50]},
        {"status": "done", "completed_at": NOW},
        {"tags": []},
    ],
)
async def test_the_database_takes_what_is_just_within_the_rules(
    raw: Raw, account: Account, changed: dict[str, Any]
) -> None:
    values = {"id": new_id(), "owner_id": account.id, "title": "fine", **changed}

    await raw(insert("tasks", values), **values)


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"name": ""}, "ck_tokens_name_length"),
        ({"name": "x "}, "ck_tokens_name_length"),
        ({"kind": "robot"}, "ck_tokens_kind"),
        ({"scopes": []}, "ck_tokens_scopes"),
        ({"scopes": ["read", "root"]}, "ck_tokens_scopes"),
        ({"secret_hash": b"short"}, "ck_tokens_secret_hash_length"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "ck_tokens_expires_after_creation"),
        ({"user_id": uuid.UUID(int=1)}, "fk_tokens_user_id_users"),
        ({"prefix": "x" * 13}, "22001"),
    ],
)
async def test_the_database_refuses_a_wrong_token(
    raw: Raw, account: Account, changed: dict[str, Any], broken: str
) -> None:
    values = {
        "id": new_id(),
        "user_id": account.id,
        "name": "fine",
        "kind": "personal",
        "scopes": ["read"],
        "prefix": "tsk_12345678",
        "secret_hash": uuid.uuid4().bytes * 2,
        **changed,
    }

    assert await broken_constraint(raw(insert("tokens", values), **values)) == broken


async def test_the_database_refuses_an_unknown_action_in_the_log(raw: Raw, account: Account) -> None:
    values = {"id": new_id(), "entity": "Task", "entity_id": new_id(), "owner_id": account.id, "action": "seen"}

    assert await broken_constraint(raw(insert("changes", values), **values)) == "ck_changes_action"


async def test_deleting_a_user_in_the_database_deletes_what_the_user_owns(
    raw: Raw, write: Write, account: Account
) -> None:
    await write(lambda s: tasks.create(s, account.viewer, title="owned"))

    await raw("DELETE FROM users WHERE id = :id", id=account.id)

    assert await raw("SELECT 1 FROM tasks WHERE owner_id = :id", id=account.id) == []
    assert await raw("SELECT 1 FROM tokens WHERE user_id = :id", id=account.id) == []


# -- what a refusal says ------------------------------------------------------------------------------


async def refused(write: Write, *rows: Base) -> DomainError:
    async def work(session: Session) -> None:
        session.add_all(rows)

    with pytest.raises(DomainError) as caught:
        await write(work)
    return caught.value


def new_user(**changed: Any) -> User:
    return User(**user_values(**changed))


def new_token(account: Account, **changed: Any) -> Token:
    values = {"name": "x", "kind": "personal", "scopes": ["read"], "prefix": "p", "secret_hash": uuid.uuid4().bytes * 2}
    return Token(**{"user_id": account.id, **values, **changed})


async def test_every_rule_of_the_database_that_a_client_can_break_is_told_as_a_problem_of_its_field(
    write: Write, account: Account
) -> None:
    cases: dict[str, Base] = {
        "ck_users_email_folded": new_user(email="ADA@example.org"),
        "ck_users_email_form": new_user(email="ada"),
        "ck_users_name_length": new_user(name=""),
        "ck_users_time_zone_present": new_user(time_zone=""),
        "ck_tokens_name_length": new_token(account, name=""),
        "ck_tokens_scopes": new_token(account, scopes=["root"]),
        "ck_tokens_expires_after_creation": new_token(account, expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
        "ck_tasks_title_length": Task(owner_id=account.id, title=" x"),
        "ck_tasks_description_length": Task(owner_id=account.id, title="x", description="y" * 10_001),
        "ck_tasks_tags": Task(owner_id=account.id, title="x", tags=["A"]),
        "ck_tasks_completed_when_done": Task(owner_id=account.id, title="x", completed_at=NOW),
    }

    for name, row in cases.items():
        error = await refused(write, row)

        assert isinstance(error, Invalid)
        assert error.problems[0].path == (constraints.RULES[name][1],)
        assert error.problems[0].message == constraints.RULES[name][0]
    tables = {name.split("_")[1] for name in cases}
    assert set(cases) == {name for name in constraints.RULES if name.split("_")[1] in tables}, "others test their own"


def test_every_check_has_words_for_people_unless_only_a_bug_can_break_it() -> None:
    checks = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    # An enumeration is checked before SQL is written, and a hash is made by the application.
    only_by_a_bug = {
        "ck_users_role",
        "ck_tokens_kind",
        "ck_tasks_status",
        "ck_tasks_priority",
        "ck_changes_action",
        "ck_tokens_secret_hash_length",
    }

    assert set(constraints.RULES) == checks - only_by_a_bug


async def test_an_owner_who_does_not_exist_is_not_found(write: Write, account: Account) -> None:
    task = await refused(write, Task(owner_id=uuid.uuid4(), title="x"))
    token = await refused(write, new_token(account, user_id=uuid.uuid4()))

    assert isinstance(task, NotFound)
    assert isinstance(token, NotFound)
    assert (task.path, token.path) == (("owner_id",), ("user_id",))


async def test_ids_and_addresses_that_are_taken_are_conflicts(write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))

    errors = [
        await refused(write, new_user(email=account.email)),
        await refused(write, new_user(id=account.id)),
        await refused(write, new_token(account, id=account.viewer.token_id)),
        await refused(write, Task(id=task.id, owner_id=account.id, title="x")),
    ]

    assert all(isinstance(error, Conflict) for error in errors)
    assert [(error.code, error.path) for error in errors] == [
        ("EMAIL_TAKEN", ("email",)),
        ("ID_TAKEN", ("id",)),
        ("ID_TAKEN", ("id",)),
        ("ID_TAKEN", ("id",)),
    ]


# -- races --------------------------------------------------------------------------------------------


async def race(engine: AsyncEngine, *works: Any) -> list[Any]:
    """Run transactions so that each has looked before any has written."""
    together = asyncio.Barrier(len(works))

    def start(work: Any) -> Any:
        async def wait(session: Session) -> Any:
            await session.connection()
            await together.wait()
            return await work(session)

        return Session(engine).transact(wait)

    return await asyncio.gather(*map(start, works), return_exceptions=True)


async def test_of_two_who_sign_up_with_one_address_at_once_one_gets_a_conflict(engine: AsyncEngine) -> None:
    email = f"{uuid.uuid4().hex}@example.org"

    def work(session: Session) -> Any:
        return users.create(session, email=email, name="Ada", password_hash=QUICK_HASH)

    results = await race(engine, work, work)

    [error] = [result for result in results if not isinstance(result, User)]
    assert isinstance(error, Conflict)
    assert error.code == "EMAIL_TAKEN"


async def test_of_two_who_create_one_id_at_once_one_gets_a_conflict(engine: AsyncEngine, account: Account) -> None:
    id = new_id()

    def work(session: Session) -> Any:
        return tasks.create(session, account.viewer, id=id, title="x")

    results = await race(engine, work, work, work)

    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Conflict", "Task"]


async def test_of_two_who_take_one_address_at_once_one_gets_a_conflict(
    engine: AsyncEngine, account: Account, new_account: Any
) -> None:
    other, email = await new_account(), f"{uuid.uuid4().hex}@example.org"

    results = await race(
        engine,
        lambda s: users.update(s, account.viewer, account.id, {"email": email}),
        lambda s: users.update(s, other.viewer, other.id, {"email": email}),
    )

    assert sorted(type(result).__name__ for result in results) == ["Conflict", "User"]


async def test_of_two_who_edit_one_version_at_once_one_gets_a_conflict(
    engine: AsyncEngine, write: Write, account: Account
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))

    def rename(title: str) -> Any:
        return lambda s: tasks.update(s, account.viewer, task.id, 1, given={"title": title})

    results = await race(engine, rename("a"), rename("b"))

    [conflict] = [result for result in results if isinstance(result, Conflict)]
    [winner] = [result for result in results if isinstance(result, Task)]
    assert (conflict.code, conflict.current.version, conflict.current.title) == ("STALE_VERSION", 2, winner.title)


async def test_edits_without_a_version_at_once_all_happen(engine: AsyncEngine, write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))

    def tag(name: str) -> Any:
        return lambda s: tasks.update(s, account.viewer, task.id, given={}, add_tags=[name])

    await race(engine, *(tag(f"t{n}") for n in range(8)))

    final = await write(lambda s: tasks.for_update(s, account.viewer, task.id))
    assert (sorted(final.tags), final.version) == ([f"t{n}" for n in range(8)], 9)


async def test_a_task_cannot_be_made_for_a_user_who_is_being_deleted(
    engine: AsyncEngine, admin: Account, account: Account, raw: Raw
) -> None:
    results = await race(
        engine,
        lambda s: users.delete(s, admin.viewer, account.id),
        lambda s: tasks.create(s, account.viewer, title="late"),
    )

    assert results[0] == account.id
    assert isinstance(results[1], (Task, NotFound))
    assert await raw("SELECT 1 FROM tasks WHERE owner_id = :id", id=account.id) == []
    kept = await raw("SELECT fields FROM changes WHERE owner_id = :id AND fields IS NOT NULL", id=account.id)
    assert kept == []


# -- lists find an index ------------------------------------------------------------------------------


async def test_the_indexes_that_lists_need_exist(raw: Raw) -> None:
    rows = await raw(
        "SELECT indexname AS name, regexp_replace(indexdef, '^.* USING ', '') AS definition FROM pg_indexes "
        "WHERE schemaname = 'public' AND indexname LIKE 'ix_%'"
    )

    found = {row.definition for row in rows if "_tasks_" in row.name}

    assert found == {
        "btree (created_at, id)",
        "btree (owner_id, created_at, id)",
        "btree (owner_id, title_key, id)",
        "btree (owner_id, due_at, id)",
        "btree (owner_id, status, created_at, id)",
        "btree (owner_id, priority, created_at, id)",
        "gin (tags)",
        "gin (search)",
        "btree (id) WHERE (text_mark IS NULL)",
    }


async def test_a_token_is_found_by_an_index_on_its_hash(raw: Raw) -> None:
    assert await raw("SELECT 1 FROM pg_indexes WHERE indexname = 'uq_tokens_secret_hash'")


async def test_a_rule_that_no_client_can_break_is_raised_as_the_driver_said_it(write: Write) -> None:
    async def work(session: Session) -> None:
        await session.execute(text("INSERT INTO rate_budgets (key_hash, points) VALUES (NULL, 1)"))

    with pytest.raises(IntegrityError) as caught:
        await write(work)

    chain: list[BaseException] = []
    cause: BaseException | None = caught.value
    while cause is not None:
        assert cause not in chain, "an exception is its own cause"
        chain.append(cause)
        cause = cause.__cause__
    assert isinstance(chain[-1], asyncpg.NotNullViolationError)
