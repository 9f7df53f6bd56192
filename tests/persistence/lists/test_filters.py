"""Filters agree with the same predicate in Python, for random shapes over random rows."""

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import InstrumentedAttribute

from persistence import tasks, users
from persistence.lists import filters, pages
from persistence.lists.filters import Shape
from persistence.lists.listing import Query, Trash, Window
from persistence.models import Role, Task, TaskPriority, TaskStatus, User
from persistence.rows.reading import Statement
from persistence.session import Session
from tests.conftest import QUICK_HASH
from tests.persistence.conftest import Write

pytestmark = pytest.mark.anyio

WORDS = ["", "a", "b", "ab", "Ab", "zz", "ä", "Z", "a%b", "a_b", "it's", "\\", "😀", "\uffff", "日本"]
TAGS = ["home", "work", "now", "ä", "x" * 50]
BASE = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = [BASE + timedelta(hours=n) for n in range(4)] + [BASE + timedelta(microseconds=1)]


@pytest.fixture(scope="module")
async def rows(engine: AsyncEngine, anyio_backend: str) -> list[Task]:
    """Sixty tasks of two owners, with values that are often equal and often missing; each knows its owner."""
    rng = random.Random(2)

    async def work(session: Session) -> list[Task]:
        made = []
        for name, role, zone in (("ab", Role.MEMBER, "UTC"), ("ä", Role.ADMIN, "Europe/Berlin")):
            user = await users.create(
                session,
                email=f"{uuid.uuid4().hex}@example.org",
                name=name,
                role=role,
                time_zone=zone,
                password_hash=QUICK_HASH,
            )
            for _ in range(30):
                status = rng.choice(list(TaskStatus))
                task = Task(
                    owner_id=user.id,
                    title=rng.choice(WORDS[1:]),
                    description=rng.choice(WORDS),
                    status=status,
                    priority=rng.choice(list(TaskPriority)),
                    tags=rng.sample(TAGS, rng.randrange(4)),
                    due_at=rng.choice([None, *TIMES]),
                    completed_at=rng.choice(TIMES) if status is TaskStatus.DONE else None,
                    deleted_at=rng.choice([None, None, *TIMES]),
                    version=rng.randrange(1, 4),
                )
                task.__dict__["owner"] = user
                made.append(task)
        session.add_all(made)
        return made

    return await Session(engine).transact(work)


# -- the same in Python -------------------------------------------------------------------------------

COMPARE: dict[str, Any] = {
    "eq": lambda value, other: value == other,
    "ne": lambda value, other: value != other,
    "in": lambda value, other: value in other,
    "not_in": lambda value, other: value not in other,
    "lt": lambda value, other: value is not None and value < other,
    "lte": lambda value, other: value is not None and value <= other,
    "gt": lambda value, other: value is not None and value > other,
    "gte": lambda value, other: value is not None and value >= other,
    "contains": lambda value, other: other in value,
    "starts_with": lambda value, other: value.startswith(other),
    "has_all": lambda value, other: set(other) <= set(value),
    "has_any": lambda value, other: bool(set(other) & set(value)),
    "has_none": lambda value, other: not set(other) & set(value),
}


def holds(row: Any, shape: Shape, values: Iterator[Any]) -> bool:
    match shape:
        case ("and" | "or" as word, *parts):
            held = [holds(row, part, values) for part in parts]  # all of them: each takes its values
            return all(held) if word == "and" else any(held)
        case ("not", part):
            return not holds(row, part, values)
        case ("null", field, is_null):
            return (getattr(row, field) is None) is is_null
        case ("related", relation, part):
            return holds(row.__dict__[relation], part, values)
        case ("compare", field, comparator):
            return bool(COMPARE[comparator](getattr(row, field), next(values)))
    raise AssertionError(shape)


# -- random filters -----------------------------------------------------------------------------------

EQUALITY = ("eq", "ne", "in", "not_in")
ORDERED = (*EQUALITY, "lt", "lte", "gt", "gte")
TEXT = (*ORDERED, "contains", "starts_with")
SETS = ("has_all", "has_any", "has_none")

EARLIEST = datetime(1, 1, 2, tzinfo=UTC).replace(tzinfo=None)

words = st.sampled_from([*WORDS, "x" * 600, "ab" + "x" * 600]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=3
)
times = st.sampled_from(TIMES) | st.datetimes(timezones=st.just(UTC), min_value=EARLIEST)
KINDS: dict[str, tuple[tuple[str, ...], st.SearchStrategy[Any]]] = {
    "title": (TEXT, words),
    "description": (TEXT, words),
    "status": (EQUALITY, st.sampled_from([status.value for status in TaskStatus])),
    "priority": (EQUALITY, st.sampled_from([priority.value for priority in TaskPriority])),
    "tags": (SETS, st.sampled_from([*TAGS, "other", "x" * 51])),
    "due_at": (ORDERED, times),
    "completed_at": (ORDERED, times),
    "deleted_at": (ORDERED, times),
    "created_at": (ORDERED, times),
    "version": (ORDERED, st.integers(-(2**31), 2**31 - 1) | st.integers(0, 4)),
    "id": (EQUALITY, st.uuids()),
}
OWNER_KINDS: dict[str, tuple[tuple[str, ...], st.SearchStrategy[Any]]] = {
    "email": (TEXT, words),
    "name": (TEXT, words),
    "time_zone": (TEXT, st.sampled_from(["UTC", "Europe/Berlin", "europe", "Z", "a"])),
    "role": (EQUALITY, st.sampled_from([role.value for role in Role])),
    "id": (EQUALITY, st.uuids()),
}


@st.composite
def comparisons(draw: st.DrawFn, kinds: dict[str, Any]) -> tuple[Shape, list[Any]]:
    field = draw(st.sampled_from(sorted(kinds)))
    comparators, value = kinds[field]
    if field in ("due_at", "completed_at", "deleted_at") and draw(st.integers(0, 3)) == 0:
        return ("null", field, draw(st.booleans())), []
    comparator = draw(st.sampled_from(comparators))
    several = comparator in ("in", "not_in", *SETS)
    return ("compare", field, comparator), [draw(st.lists(value, max_size=3) if several else value)]


def combined(parts: list[tuple[Shape, list[Any]]], word: str) -> tuple[Shape, list[Any]]:
    return (word, *(shape for shape, _ in parts)), [value for _, values in parts for value in values]


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(combined, st.lists(inner, max_size=3), st.sampled_from(["and", "or"]))
            | inner.map(lambda part: (("not", part[0]), part[1]))
        ),
        max_leaves=8,
    )


related = nested(comparisons(OWNER_KINDS)).map(lambda part: (("related", "owner", part[0]), part[1]))
FILTERS = nested(comparisons(KINDS) | related)


async def passing(session: Session, rows: list[Task], shape: Shape, given_values: list[Any]) -> set[UUID]:
    shape = ("and", ("compare", "id", "in"), shape)
    query = Query(
        tasks.LISTING,
        shape,
        trash=Trash.INCLUDE,
        values=filters.named_values([[row.id for row in rows], *given_values]),
    )
    page = await pages.page(session, query, Window(100), frozenset({"id"}), keys=False)
    return {row.id for row in page.rows}


@given(filter=FILTERS)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_filter_finds_what_the_same_predicate_finds_in_python(
    session: Session, rows: list[Task], filter: tuple[Shape, list[Any]]
) -> None:
    shape, given_values = filter

    found = await passing(session, rows, shape, given_values)

    assert found == {row.id for row in rows if holds(row, shape, iter(given_values))}


@given(filter=FILTERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_filter_and_its_negation_divide_the_rows(
    session: Session, rows: list[Task], filter: tuple[Shape, list[Any]]
) -> None:
    shape, given_values = filter

    found = await passing(session, rows, shape, given_values)
    others = await passing(session, rows, ("not", shape), given_values)

    assert found | others == {row.id for row in rows}
    assert not found & others


async def test_every_comparator_agrees_with_python_for_every_value_and_row(session: Session, rows: list[Task]) -> None:
    """What random filters could miss by chance: each comparator of each field, plain and negated."""
    samples: dict[str, list[Any]] = {
        "title": ["ab", "a", "", "x" * 600],
        "status": ["done"],
        "tags": [["home"], ["home", "work"], [], ["x" * 51]],
        "due_at": [TIMES[1]],
        "completed_at": [TIMES[1]],
        "version": [2],
    }
    for field, some in samples.items():
        for comparator in KINDS[field][0]:
            for value in some:
                operand = [value] if comparator in ("in", "not_in") else value
                for shape in (("compare", field, comparator), ("not", ("compare", field, comparator))):
                    found = await passing(session, rows, shape, [operand])

                    expected = {row.id for row in rows if holds(row, shape, iter([operand]))}
                    assert found == expected, (shape, operand)


@pytest.mark.parametrize(
    ("shape", "everything"),
    [
        (("and",), True),
        (("or",), False),
        (("not", ("and",)), False),
        (("not", ("or",)), True),
        (("or", ("or",), ("and",)), True),
        (("related", "owner", ("and",)), True),
        (("related", "owner", ("or",)), False),
        (("not", ("related", "owner", ("or",))), True),
    ],
)
async def test_an_empty_and_holds_for_everything_and_an_empty_or_for_nothing(
    session: Session, rows: list[Task], shape: Shape, everything: bool
) -> None:
    assert len(await passing(session, rows, shape, [])) == (60 if everything else 0)


async def test_a_value_that_is_longer_than_its_column_is_not_cut(session: Session, rows: list[Task]) -> None:
    """VARCHAR(n) as the type of a value would cut it, and find what only begins like it."""
    tag = ("compare", "tags", "has_any")

    assert await passing(session, rows, tag, [["x" * 50]])
    assert not await passing(session, rows, tag, [["x" * 51]])


async def test_a_long_text_is_not_taken_for_one_that_begins_like_it(session: Session, write: Write) -> None:
    async def work(session: Session) -> UUID:
        user = await users.create(
            session, email=f"{uuid.uuid4().hex}@example.org", name="x" * 200, password_hash=QUICK_HASH
        )
        session.add(Task(owner_id=user.id, title="x" * 500))
        return user.id

    owner = await write(work)

    for comparator, value, expected in (
        ("eq", "x" * 500, 1),
        ("eq", "x" * 501, 0),
        ("in", ["x" * 501], 0),
        ("not_in", ["x" * 501], 1),
        ("starts_with", "x" * 501, 0),
        ("lt", "x" * 501, 1),
    ):
        query = Query(
            tasks.LISTING, ("compare", "title", comparator), limited=True, values={"owner": owner, "f0": value}
        )
        assert await pages.count(session, query) == expected, comparator


async def test_text_is_compared_by_code_points_whatever_the_database_thinks(session: Session) -> None:
    """The order of a locale puts a before B; code points do not."""
    for filterable, name in ((users.LISTING.filterable, "time_zone"), (users.LISTING.filterable, "email")):
        sql = Statement(select(User.id).where(filters.predicate(filterable, ("compare", name, "lt")))).sql
        attribute: InstrumentedAttribute[Any] = filterable.columns[name]

        assert attribute.type.collation == "C" or 'COLLATE "C"' in sql


def test_what_is_no_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="not a filter"):
        filters.predicate(tasks.LISTING.filterable, ("xor", ("and",)))


async def test_a_filter_of_many_values_is_one_bound_array(session: Session, rows: list[Task]) -> None:
    many = [uuid.uuid4() for _ in range(1_000)]

    assert await passing(session, rows, ("compare", "id", "in"), [[*many, rows[0].id]]) == {rows[0].id}
    assert len(await passing(session, rows, ("compare", "id", "not_in"), [many])) == 60
