"""Models: names, mixins and ids, and the rules in Python; the database's side is in test_constraints."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, DateTime, Enum, ForeignKeyConstraint, String, Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, tokens, users
from persistence.models import Base, Role, Scope, Task, TaskPriority, TaskStatus, Token, User
from persistence.models.base import DERIVED
from persistence.models.ids import new_id, parse_id
from persistence.rules.errors import Invalid
from persistence.rules.text import fold
from persistence.rules.validation import Checked, storable
from persistence.session import Session
from tests.conftest import Account
from tests.persistence.conftest import Raw, Write

anyio = pytest.mark.anyio


# -- ids ----------------------------------------------------------------------------------------------


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    id = new_id()
    after = time.time_ns() // 1_000_000

    assert (id.version, id.variant) == (7, uuid.RFC_4122)
    assert before <= id.int >> 80 <= after


def test_later_ids_sort_after_earlier_ones() -> None:
    ids = []
    for _ in range(3):
        ids.append(new_id())
        time.sleep(0.002)

    assert ids == sorted(ids)


def test_ids_of_one_millisecond_differ_in_all_of_their_random_bits() -> None:
    ids = [new_id().int for _ in range(2_000)]
    random_bits = (0xFFF << 64) | 0x3FFF_FFFF_FFFF_FFFF

    assert len(set(ids)) == len(ids)
    seen_one = seen_zero = 0
    for id in ids:
        seen_one |= id & random_bits
        seen_zero |= ~id & random_bits
    assert seen_one == seen_zero == random_bits


@given(st.uuids())
def test_an_id_is_read_in_its_canonical_form_of_either_case(id: UUID) -> None:
    assert parse_id(str(id)) == parse_id(str(id).upper()) == id


@pytest.mark.parametrize(
    "text", ["", "1", "{c0ffee00-0000-7000-8000-00000000000}", "c0ffee00000070008000000000000000", "x" * 36, "é" * 36]
)
def test_what_is_no_id_names_nothing(text: str) -> None:
    assert parse_id(text) is None


# -- names and types ----------------------------------------------------------------------------------


@anyio
async def test_constraints_and_indexes_are_named_by_one_convention(raw: Raw) -> None:
    names = [
        *await raw(
            'SELECT conrelid::regclass::text AS "table", conname AS name, contype::text AS kind FROM pg_constraint '
            "WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f', 'c')"
        ),
        *await raw(
            "SELECT tablename AS \"table\", indexname AS name, 'i' AS kind FROM pg_indexes WHERE schemaname = 'public' "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        ),
    ]
    prefixes = {"p": "pk", "u": "uq", "f": "fk", "c": "ck", "i": "ix"}

    wrong = [
        row.name
        for row in names
        if row.table != "alembic_version" and not row.name.startswith(f"{prefixes[row.kind]}_{row.table}")
    ]

    assert wrong == []
    assert {row.kind for row in names} == set(prefixes)


@anyio
async def test_every_constraint_of_the_models_is_in_the_database(raw: Raw) -> None:
    rows = await raw("SELECT conname AS name FROM pg_constraint WHERE connamespace = 'public'::regnamespace")
    found = {row.name for row in rows}

    expected = {
        constraint.name
        for table in Base.metadata.tables.values()
        for constraint in (*table.constraints, *(c for column in table.columns for c in column.constraints))
        if isinstance(constraint, (CheckConstraint, ForeignKeyConstraint))
    }

    assert expected - found == set()


def test_enumerations_are_text_with_a_check_and_never_native() -> None:
    enums = [
        (column, column.type)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, Enum)
    ]

    assert {column.name for column, _ in enums} == {"role", "kind", "status", "priority", "action"}
    assert not any(kind.native_enum for _, kind in enums)
    for column, kind in enums:
        [check] = [c for c in column.constraints if isinstance(c, CheckConstraint)]
        assert check.name == f"ck_{column.table.name}_{column.name}"
        assert str(check.sqltext) == f"{column.name} = ANY ('{{{','.join(kind.enums)}}}')"


@anyio
async def test_enumerations_are_varchar_in_the_database(raw: Raw) -> None:
    rows = await raw(
        "SELECT data_type FROM information_schema.columns WHERE table_schema = 'public' "
        "AND column_name IN ('role', 'kind', 'status', 'priority', 'action')"
    )

    assert {row.data_type for row in rows} == {"character varying"}
    assert await raw("SELECT 1 FROM pg_type WHERE typtype = 'e' AND typnamespace = 'public'::regnamespace") == []


def test_every_time_has_a_time_zone() -> None:
    naive = [
        str(column)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, DateTime) and not column.type.timezone
    ]

    assert naive == []


def test_every_text_has_a_bound_or_a_check() -> None:
    unbounded = {
        str(column)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, String)
        and not isinstance(column.type, Enum)
        and column.type.length is None
        and DERIVED not in column.info  # bounded by what they are made of
        and not any(f"char_length({column.name}) <= " in str(check.sqltext) for check in checks_of(table))
    }

    assert unbounded == {"users.password_hash"}


def checks_of(table: Table) -> list[CheckConstraint]:
    return [constraint for constraint in table.constraints if isinstance(constraint, CheckConstraint)]


# -- mixins -------------------------------------------------------------------------------------------


@anyio
async def test_times_and_version_are_set_at_the_first_write_and_moved_by_the_next(
    write: Write, account: Account
) -> None:
    made = await write(lambda s: tasks.create(s, account.viewer, title="one"))
    changed = await write(lambda s: tasks.update(s, account.viewer, made.id, given={"title": "two"}))

    assert made.created_at == made.updated_at == changed.created_at < changed.updated_at
    assert made.created_at.utcoffset() == timedelta(0)
    assert (made.version, changed.version) == (1, 2)


@anyio
async def test_the_times_of_an_edited_token_are_readable(write: Write, account: Account) -> None:
    token = await write(lambda s: tokens.revoke(s, account.viewer, account.viewer.token_id))

    assert token.revoked_at is not None
    assert token.updated_at > token.created_at


@anyio
async def test_is_deleted_says_the_same_in_python_and_in_sql(
    write: Write, engine: AsyncEngine, account: Account
) -> None:
    kept = await write(lambda s: tasks.create(s, account.viewer, title="kept"))
    gone = await write(lambda s: tasks.create(s, account.viewer, title="gone"))
    gone = await write(lambda s: tasks.delete(s, account.viewer, gone.id))
    own = select(Task.id).where(Task.owner_id == account.id)
    session = Session(engine)

    deleted = (await session.scalars(own.where(Task.is_deleted))).all()
    not_deleted = (await session.scalars(own.where(~Task.is_deleted))).all()
    active = (await session.scalars(own.where(Task.active()))).all()
    flags = dict((await session.execute(select(Task.id, Task.is_deleted).where(Task.owner_id == account.id))).all())
    await session.close()

    assert (kept.is_deleted, gone.is_deleted) == (False, True)
    assert (list(deleted), list(not_deleted), list(active)) == ([gone.id], [kept.id], [kept.id])
    assert flags == {kept.id: False, gone.id: True}


@pytest.mark.parametrize(
    ("seconds", "expired"), [(-1, True), (0, True), (60, False), (None, False)], ids=["past", "now", "future", "never"]
)
def test_a_token_is_expired_from_its_time_on(seconds: float | None, expired: bool) -> None:
    now = datetime.now(UTC)

    token = Token(expires_at=None if seconds is None else now + timedelta(seconds=seconds))

    assert token.is_expired is expired


def test_completing_keeps_the_first_time_and_reopening_clears_it() -> None:
    first, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    task = Task(status=TaskStatus.TODO)

    times: list[datetime | None] = []
    for status in (TaskStatus.DONE, TaskStatus.DONE, TaskStatus.TODO, TaskStatus.DONE, TaskStatus.CANCELLED):
        task.move_to(status, later if times else first)
        times.append(task.completed_at)

    assert times == [first, first, None, later, None]


# -- the rules in Python ------------------------------------------------------------------------------


def problems(caught: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, tuple[str | int, ...]]]:
    return [(problem.code, problem.path) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"title": ""}, [("TOO_SHORT", ("title",))]),
        ({"title": " \t\n "}, [("TOO_SHORT", ("title",))]),
        ({"title": "x" * 501}, [("TOO_LONG", ("title",))]),
        ({"title": "a\x00b"}, [("INVALID_CHARACTER", ("title",))]),
        ({"title": "a\ud800b"}, [("INVALID_CHARACTER", ("title",))]),
        ({"description": "x" * 10_001}, [("TOO_LONG", ("description",))]),
        ({"description": "\x00"}, [("INVALID_CHARACTER", ("description",))]),
        ({"tags": [""]}, [("TOO_SHORT", ("tags", 0))]),
        ({"tags": ["ok", "x" * 51]}, [("TOO_LONG", ("tags", 1))]),
        ({"tags": ["a\x00"]}, [("INVALID_CHARACTER", ("tags", 0))]),
        ({"tags": [f"tag {n}" for n in range(21)]}, [("TOO_MANY", ("tags",))]),
        (
            {"title": "", "description": "x" * 10_001, "tags": ["x" * 51]},
            [("TOO_SHORT", ("title",)), ("TOO_LONG", ("description",)), ("TOO_LONG", ("tags", 0))],
        ),
    ],
)
@anyio
async def test_all_that_is_wrong_with_a_task_is_told_at_once_and_nothing_is_written(
    write: Write, raw: Raw, account: Account, values: dict[str, Any], expected: list[Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        await write(lambda s: tasks.create(s, account.viewer, **{"title": "fine", **values}))

    assert problems(caught) == expected
    assert await raw("SELECT 1 FROM tasks WHERE owner_id = :id", id=account.id) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"title": "x"}, ("x", "", [])),
        ({"title": "x" * 500}, ("x" * 500, "", [])),
        ({"title": "😀" * 500}, ("😀" * 500, "", [])),
        ({"title": "  padded\n"}, ("padded", "", [])),
        ({"title": "x", "description": "y" * 10_000}, ("x", "y" * 10_000, [])),
        ({"title": "x", "description": " kept\n"}, ("x", " kept\n", [])),
        ({"title": "x", "description": "\u200b - a\r\n - b\x07\n"}, ("x", " - a\n - b\n", [])),
        ({"title": "x", "tags": [" Home ", "HOME", "x" * 50, "ẞ"]}, ("x", "", ["home", "x" * 50, "ss"])),
        ({"title": "x", "tags": [f"t{n}" for n in range(20)]}, ("x", "", [f"t{n}" for n in range(20)])),
    ],
)
@anyio
async def test_what_is_just_within_the_rules_is_stored(
    write: Write, account: Account, values: dict[str, Any], expected: tuple[str, str, list[str]]
) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, **values))

    assert (task.title, task.description, task.tags) == expected


@anyio
async def test_tags_are_replaced_then_added_then_removed(write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x", tags=["a", "b"]))

    added = await write(
        lambda s: tasks.update(s, account.viewer, task.id, given={}, add_tags=["C", "a"], remove_tags=["B"])
    )
    assert added.tags == ["a", "c"]
    replaced = await write(
        lambda s: tasks.update(s, account.viewer, task.id, given={"tags": ["x"]}, add_tags=["y"], remove_tags=["X"])
    )
    assert replaced.tags == ["y"]


@anyio
async def test_problems_of_added_and_removed_tags_have_their_own_paths(write: Write, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x", tags=[f"t{n}" for n in range(20)]))

    with pytest.raises(Invalid) as caught:
        await write(
            lambda s: tasks.update(s, account.viewer, task.id, given={}, add_tags=["", "new"], remove_tags=["x" * 51])
        )

    assert problems(caught) == [
        ("TOO_LONG", ("removeTags", 0)),
        ("TOO_SHORT", ("addTags", 0)),
        ("TOO_MANY", ("addTags",)),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"email": "ada"}, [("INVALID_EMAIL", ("email",))]),
        ({"email": "@example.org"}, [("INVALID_EMAIL", ("email",))]),
        ({"email": "ada@"}, [("INVALID_EMAIL", ("email",))]),
        ({"email": "a@b@c"}, [("INVALID_EMAIL", ("email",))]),
        ({"email": "a b@example.org"}, [("INVALID_EMAIL", ("email",))]),
        ({"email": "a" * 309 + "@example.org"}, [("TOO_LONG", ("email",))]),
        ({"email": "İ" * 200 + "@example.org"}, [("TOO_LONG", ("email",))]),
        ({"email": ""}, [("TOO_SHORT", ("email",))]),
        ({"name": " "}, [("TOO_SHORT", ("name",))]),
        ({"name": "x" * 201}, [("TOO_LONG", ("name",))]),
        ({"time_zone": "Mars/Olympus"}, [("INVALID_TIME_ZONE", ("timeZone",))]),
        ({"time_zone": "../etc/passwd"}, [("INVALID_TIME_ZONE", ("timeZone",))]),
        (
            {"email": "ada", "name": "", "time_zone": ""},
            [("INVALID_EMAIL", ("email",)), ("TOO_SHORT", ("name",)), ("INVALID_TIME_ZONE", ("timeZone",))],
        ),
    ],
)
@anyio
async def test_all_that_is_wrong_with_a_user_is_told_at_once(
    write: Write, account: Account, values: dict[str, Any], expected: list[Any]
) -> None:
    with pytest.raises(Invalid) as caught:
        await write(lambda s: users.update(s, account.viewer, account.id, values))

    assert problems(caught) == expected


def test_an_address_is_folded_and_composed() -> None:
    assert Checked().email("  Ada@Example.ORG ") == "ada@example.org"
    assert Checked().email("Ame\u0301lie@example.org") == "am\u00e9lie@example.org"


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("x" * 9, ["TOO_SHORT"]),
        ("x" * 1_001, ["TOO_LONG"]),
        ("x" * 10 + "\ud800", ["INVALID_CHARACTER"]),
        ("x" * 10, []),
        ("x" * 1_000, []),
        (" " * 10, ["TOO_SHORT"]),
        (" " + "x" * 8 + "\u200b", ["TOO_SHORT"]),
        (" " + "x" * 10, []),
    ],
)
def test_a_password_has_a_length_and_is_never_repeated(password: str, codes: list[str]) -> None:
    checked = Checked()

    assert checked.password(password) == password
    assert [problem.code for problem in checked.problems] == codes
    assert not any(password in problem.message for problem in checked.problems)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": ""}, [("TOO_SHORT", ("name",))]),
        ({"scopes": []}, [("TOO_FEW", ("scopes",))]),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, [("NOT_IN_FUTURE", ("expiresAt",))]),
        (
            {"name": "x" * 201, "scopes": [], "expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
            [("TOO_LONG", ("name",)), ("NOT_IN_FUTURE", ("expiresAt",)), ("TOO_FEW", ("scopes",))],
        ),
    ],
)
@anyio
async def test_all_that_is_wrong_with_a_token_is_told_at_once(
    write: Write, account: Account, values: dict[str, Any], expected: list[Any]
) -> None:
    fine = {"id": None, "name": "laptop", "scopes": [Scope.READ], "expires_at": None, "secret": tokens.new_secret()}

    with pytest.raises(Invalid) as caught:
        await write(lambda s: tokens.create(s, account.viewer, **{**fine, **values}))

    assert problems(caught) == expected


@given(st.text())
def test_folding_a_tag_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text() | st.text(st.characters(codec="ascii")))
def test_the_short_ways_of_ascii_text_are_no_others(text: str) -> None:
    assert storable(text) == ("\x00" not in text and text.encode(errors="replace").decode() == text)


def test_the_values_of_enumerations_are_stable() -> None:
    """They are stored: a value may be added by a migration and is never renamed."""
    assert [[member.value for member in kind] for kind in (Role, Scope, TaskStatus, TaskPriority)] == [
        ["member", "admin"],
        ["read", "write", "admin"],
        ["todo", "in_progress", "done", "cancelled"],
        ["low", "medium", "high", "urgent"],
    ]


def test_rows_keep_their_secrets_out_of_their_representation() -> None:
    assert "hash" not in repr(User(id=new_id(), password_hash="hash"))
