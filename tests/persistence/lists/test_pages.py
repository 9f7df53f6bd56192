"""Pages: walking them gives the list, in either direction, while others write; and search takes any input."""

import random
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import tasks, tokens, users
from persistence.lists import pages, statements
from persistence.lists.filters import Shape
from persistence.lists.listing import Order, Query, Trash, Window
from persistence.lists.pages import Page
from persistence.lists.statements import LARGE, SIZES, rows_read
from persistence.models import Task, TaskPriority, TaskStatus
from persistence.session import Session
from persistence.words.cutting import document
from persistence.words.ordering import sort_key
from persistence.words.searching import tsquery
from tests.conftest import QUICK_HASH, Account
from tests.persistence.conftest import Write

pytestmark = pytest.mark.anyio

BASE = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = [None, BASE, BASE + timedelta(days=1), BASE + timedelta(days=2)]
COLUMNS = frozenset({"id", "title"})
STATUSES, PRIORITIES = list(TaskStatus), list(TaskPriority)


def some_task(rng: random.Random, owner_id: UUID) -> Task:
    """A task whose values are often equal to another's and often missing."""
    status = rng.choice(STATUSES)
    return Task(
        owner_id=owner_id,
        title=rng.choice(["a", "A", "b", "ä", "Z", "report", "Report one", "report report"]),
        description=rng.choice(["", "report", "a report on a report"]),
        status=status,
        priority=rng.choice(PRIORITIES),
        tags=rng.sample(["home", "work"], rng.randrange(3)),
        due_at=rng.choice(MOMENTS),
        completed_at=rng.choice(MOMENTS[1:]) if status is TaskStatus.DONE else None,
        deleted_at=rng.choice([None, None, None, BASE]),
    )


async def new_owner(session: Session) -> UUID:
    email = f"{uuid.uuid4().hex}@example.org"
    return (await users.create(session, email=email, name="Ada", password_hash=QUICK_HASH)).id


@pytest.fixture(scope="module")
async def owners(engine: AsyncEngine, anyio_backend: str) -> dict[UUID, list[Task]]:
    """The tasks of four users: 40, 25, 1 and none."""
    rng = random.Random(3)

    async def work(session: Session) -> dict[UUID, list[Task]]:
        made = {}
        for count in (40, 25, 1, 0):
            owner_id = await new_owner(session)
            made[owner_id] = [some_task(rng, owner_id) for _ in range(count)]
            session.add_all(made[owner_id])
        return made

    return await Session(engine).transact(work)


# -- the same in Python -------------------------------------------------------------------------------

KEYS: Mapping[str, Any] = {
    "created_at": lambda task: task.created_at,
    "updated_at": lambda task: task.updated_at,
    "due_at": lambda task: task.due_at,
    "completed_at": lambda task: task.completed_at,
    "priority": lambda task: PRIORITIES.index(task.priority),
    "status": lambda task: STATUSES.index(task.status),
    "title": lambda task: sort_key(task.title),
    "id": lambda task: task.id,
}


def in_order(rows: list[Task], query: Query) -> list[UUID]:
    """The ids as the order of a query has them: sorted by the last key first, which a stable sort allows."""
    rows = list(rows)
    for order in reversed(query.sorting):
        key = KEYS[order.field]
        missing = [row for row in rows if key(row) is None]
        present = sorted((row for row in rows if key(row) is not None), key=key, reverse=order.descending)
        rows = missing + present if order.nulls_first else present + missing
    return [row.id for row in rows]


FILTERS: dict[str, tuple[Shape, dict[str, Any], Any]] = {
    "all": (("and",), {}, lambda task: True),
    "due": (("null", "due_at", False), {}, lambda task: task.due_at is not None),
    "open": (
        ("compare", "status", "in"),
        {"f0": ["todo", "in_progress"]},
        lambda task: task.status in (TaskStatus.TODO, TaskStatus.IN_PROGRESS),
    ),
    "none": (("or",), {}, lambda task: False),
}


@st.composite
def queries(draw: st.DrawFn) -> tuple[Query, Any]:
    """A list of one owner's tasks (the owner is bound later) and what its rows must fulfil."""
    fields = draw(st.lists(st.sampled_from(sorted(set(KEYS) - {"id"})), unique=True, max_size=3))
    order = tuple(Order(field, draw(st.booleans()), draw(st.booleans())) for field in fields)
    shape, values, predicate = FILTERS[draw(st.sampled_from(sorted(FILTERS)))]
    trash = draw(st.sampled_from(Trash))
    query = Query(tasks.LISTING, shape, order, trash=trash, values=values)
    return (
        query,
        lambda task: (
            predicate(task) and (trash is Trash.INCLUDE or (task.deleted_at is None) is (trash is Trash.EXCLUDE))
        ),
    )


def of(query: Query, owner: UUID) -> Query:
    return Query(
        query.listing, query.shape, query.order, query.searching, query.trash, True, {**query.values, "owner": owner}
    )


def cursor(query: Query, row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, pages.key_name(n)) for n in range(len(query.sorting)))


async def walk(session: Session, query: Query, size: int, *, backward: bool) -> list[list[UUID]]:
    """The pages of a list in the order of walking, each in list order."""
    found: list[list[UUID]] = []
    place = None
    for _ in range(200):
        page = await pages.page(session, query, Window(size, backward, place), COLUMNS, keys=True)
        if page.rows:
            found.append([row.id for row in page.rows])
            place = cursor(query, page.rows[0 if backward else -1])
        if not page.more:
            return found
    raise AssertionError("the walk does not end")


# -- walking ------------------------------------------------------------------------------------------


@given(case=queries(), size=st.integers(1, 50), backward=st.booleans(), owner=st.integers(0, 3))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_walking_the_pages_gives_the_list(
    session: Session, owners: dict[UUID, list[Task]], case: tuple[Query, Any], size: int, backward: bool, owner: int
) -> None:
    owner_id, rows = list(owners.items())[owner]
    query, predicate = of(case[0], owner_id), case[1]

    found = await walk(session, query, size, backward=backward)

    ordered = found[::-1] if backward else found
    assert [id for page in ordered for id in page] == in_order([row for row in rows if predicate(row)], query)
    assert all(len(page) == size for page in found[:-1])


@given(case=queries(), size=st.integers(1, 10), backward=st.booleans(), start=st.integers(0, 39))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_page_knows_whether_the_list_goes_on_at_either_side(
    session: Session, owners: dict[UUID, list[Task]], case: tuple[Query, Any], size: int, backward: bool, start: int
) -> None:
    owner_id, rows = next(iter(owners.items()))
    query = of(case[0], owner_id)
    whole = (await pages.page(session, query, Window(100), COLUMNS, keys=True)).rows
    if not whole:
        return
    start %= len(whole)
    window = Window(size, backward, cursor(query, whole[start]))

    page = await pages.page(session, query, window, COLUMNS, keys=True)
    behind = await pages.exists_behind(session, query, window)
    nested = await pages.exist_behind(session, case[0], window, [owner_id])

    ids = [row.id for row in whole]
    expected = ids[max(0, start - size) : start] if backward else ids[start + 1 : start + 1 + size]
    assert [row.id for row in page.rows] == expected
    assert page.more == (start - size > 0 if backward else start + 1 + size < len(ids))
    assert (behind, nested) == (True, {owner_id: True})  # at least the cursor's own row
    assert len(rows) >= len(whole)


async def test_a_cursor_whose_row_is_gone_still_has_its_place(write: Write, session: Session, account: Account) -> None:
    made = [await write(lambda s: tasks.create(s, account.viewer, title="x")) for _ in range(3)]
    query = of(Query(tasks.LISTING, order=(Order("created_at"),)), account.id)
    first = (await pages.page(session, query, Window(1), COLUMNS, keys=True)).rows[0]
    window = Window(5, False, cursor(query, first))
    await write(lambda s: tasks.purge(s, account.viewer, made[0].id))

    page = await pages.page(session, query, window, COLUMNS, keys=True)

    assert [row.id for row in page.rows] == [made[1].id, made[2].id]
    assert not await pages.exists_behind(session, query, window)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    "order",
    [
        (Order("due_at", nulls_first=True),),
        (Order("due_at", descending=True),),
        (Order("priority", descending=True), Order("due_at")),
        (Order("created_at", descending=True, nulls_first=True),),
        (Order("title"), Order("completed_at", nulls_first=True), Order("status", descending=True)),
    ],
)
async def test_what_stays_is_neither_skipped_nor_repeated_while_others_write(
    engine: AsyncEngine, session: Session, write: Write, order: tuple[Order, ...], backward: bool
) -> None:
    rng = random.Random(str(order))
    owner_id = await write(new_owner)

    async def work(session: Session) -> list[UUID]:
        made = [some_task(rng, owner_id) for _ in range(30)]
        session.add_all(made)
        await session.flush()
        return [task.id for task in made]

    ids = await write(work)
    doomed = ids[::3]
    stay = set(ids) - set(doomed)
    query = Query(tasks.LISTING, order=order, trash=Trash.INCLUDE, limited=True, values={"owner": owner_id})
    seen: list[UUID] = []
    place = None
    while True:
        page = await pages.page(session, query, Window(4, backward, place), COLUMNS, keys=True)
        rows = page.rows[::-1] if backward else page.rows
        seen += [row.id for row in rows]
        if not page.more:
            break
        place = cursor(query, rows[-1])

        async def disturb(session: Session) -> None:
            session.add_all([some_task(rng, owner_id) for _ in range(2)])
            if doomed:
                await session.delete(await session.get_one(Task, doomed.pop(rng.randrange(len(doomed)))))

        await Session(engine).transact(disturb)

    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


async def test_rows_that_are_equal_in_every_key_are_told_apart_by_their_id(session: Session, write: Write) -> None:
    owner_id = await write(new_owner)

    async def work(session: Session) -> None:
        session.add_all([Task(owner_id=owner_id, title="same") for _ in range(9)])

    await write(work)
    for descending in (False, True):
        order = (Order("created_at", descending), Order("due_at", descending), Order("title", descending))
        query = Query(tasks.LISTING, order=order, limited=True, values={"owner": owner_id})

        found = [id for page in await walk(session, query, 2, backward=False) for id in page]

        assert found == sorted(found, reverse=descending)
        assert len(found) == 9


async def test_a_page_of_nothing_says_whether_there_is_something(session: Session, owners: Any) -> None:
    many, _, _, none = owners
    for owner_id, more in ((many, True), (none, False)):
        page = await pages.page(session, of(Query(tasks.LISTING), owner_id), Window(0), COLUMNS, keys=True)

        assert page == Page([], more)


async def test_an_order_that_names_only_some_keys_ends_with_the_id() -> None:
    assert [order.field for order in Query(tasks.LISTING).sorting] == ["created_at", "id"]
    assert [order.field for order in Query(tasks.LISTING, searching=True).sorting] == ["rank", "id"]
    assert [order.field for order in Query(tasks.LISTING, order=(Order("title"),), searching=True).sorting] == [
        "title",
        "id",
    ]


# -- below many parents -------------------------------------------------------------------------------


@given(case=queries(), size=st.integers(0, 45), backward=st.booleans(), keys=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_pages_below_many_parents_are_the_pages_of_each(
    session: Session, owners: dict[UUID, list[Task]], case: tuple[Query, Any], size: int, backward: bool, keys: bool
) -> None:
    query, window, stranger = case[0], Window(size, backward), uuid.uuid4()
    parents = [*reversed(owners), stranger]
    before = session.statements

    together = await pages.pages(session, query, window, COLUMNS, parents, keys=keys)

    assert session.statements == before + 1
    assert together.pop(stranger) == Page([], False)
    for owner_id in owners:
        alone = await pages.page(session, of(query, owner_id), window, COLUMNS, keys=keys)
        assert [row.id for row in together[owner_id].rows] == [row.id for row in alone.rows]
        assert together[owner_id].more == alone.more
        without = await pages.page(session, of(query, owner_id), window, COLUMNS, keys=keys, more=False)
        assert [row.id for row in without.rows] == [row.id for row in alone.rows]


async def test_the_page_after_a_cursor_below_many_parents_is_the_page_of_each(session: Session, owners: Any) -> None:
    query = Query(tasks.LISTING, order=(Order("due_at"), Order("title")), trash=Trash.INCLUDE)
    owner_id = next(iter(owners))
    [row] = (await pages.page(session, of(query, owner_id), Window(1), COLUMNS, keys=True)).rows
    window = Window(3, False, cursor(query, row))

    together = await pages.pages(session, query, window, COLUMNS, list(owners), keys=True)
    behind = await pages.exist_behind(session, query, window, list(owners))

    assert max(len(page.rows) for page in together.values()) == 3
    for id in owners:
        alone = await pages.page(session, of(query, id), window, COLUMNS, keys=True)
        assert [row.id for row in together[id].rows] == [row.id for row in alone.rows]
        assert behind[id] == await pages.exists_behind(session, of(query, id), window)


@given(case=queries())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_list_is_counted_alone_and_below_many_parents(
    session: Session, owners: dict[UUID, list[Task]], case: tuple[Query, Any]
) -> None:
    query, predicate = case
    expected = {owner_id: sum(map(predicate, rows)) for owner_id, rows in owners.items()}

    assert await pages.counts(session, query, list(owners)) == expected
    assert {owner_id: await pages.count(session, of(query, owner_id)) for owner_id in owners} == expected


async def test_every_sort_of_every_list_walks_in_both_directions(
    session: Session, new_account: Any, owners: dict[UUID, list[Task]]
) -> None:
    for _ in range(3):
        await new_account()  # with a token
    for listing in (users.LISTING, tokens.LISTING, tasks.LISTING):
        for name in listing.sorts:
            for order in (Order(name), Order(name, True, True), Order(name, True), Order(name, False, True)):
                query = Query(listing, order=(order,))
                for backward in (False, True):
                    page = await pages.page(session, query, Window(2, backward), frozenset({"id"}), keys=True)
                    last, kinds = page.rows[0 if backward else -1], pages.sort_kinds(query)
                    window = Window(2, backward, cursor(query, last))
                    following = await pages.page(session, query, window, frozenset({"id"}), keys=True)
                    seen = {row.id for row in [*page.rows, *following.rows]}
                    assert len(seen) == 2 + len(following.rows) > 2, query
                    for (kind, nullable), value in zip(kinds, cursor(query, last), strict=True):
                        assert nullable if value is None else isinstance(value, kind)


# -- search -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def library(engine: AsyncEngine, anyio_backend: str) -> UUID:
    """A user with tasks to search."""

    async def work(session: Session) -> UUID:
        owner_id = await new_owner(session)
        for title, description in (
            ("Write the quarterly report", ""),
            ("Reporter's notes", ""),
            ("Water the plants", "mentioned in the report, twice: report"),
            ("Book the train to Lisbon", "before the year ends"),
            ("Größe messen", "C++ and naïve café"),
            ("it's", "don't say O'Reilly"),
            ("日本語 タスク", "ticket-1234 mail ada@example.org https://example.org/path?x=1"),
        ):
            session.add(Task(owner_id=owner_id, title=title, description=description))
        return owner_id

    return await Session(engine).transact(work)


def searching(owner_id: UUID, words: str, **more: Any) -> Query:
    return Query(
        tasks.LISTING, searching=True, limited=True, values={"owner": owner_id, "search": tsquery(words)}, **more
    )


async def found(session: Session, owner_id: UUID, words: str) -> list[str]:
    page = await pages.page(session, searching(owner_id, words), Window(100), COLUMNS, keys=True)
    return [row.title for row in page.rows]


REPORTS = {"Write the quarterly report", "Reporter's notes", "Water the plants"}


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        ("report", REPORTS),
        ("REP", REPORTS),
        ("repo quart", {"Write the quarterly report"}),
        ("report -water", REPORTS - {"Water the plants"}),
        ("report -wat", REPORTS),
        ("lisbon or plants", {"Book the train to Lisbon", "Water the plants"}),
        ('"quarterly report"', {"Write the quarterly report"}),
        ('"report quarterly"', set()),
        ("-report", {"Reporter's notes", "Book the train to Lisbon", "Größe messen", "it's", "日本語 タスク"}),
        ("größe", {"Größe messen"}),
        ("GRÖSS", {"Größe messen"}),
        ("O'Reilly", {"it's"}),
        ("日本", {"日本語 タスク"}),
        ("ada@example.org", {"日本語 タスク"}),
        ("ticket-12", {"日本語 タスク"}),
        ("nothing of this kind", set()),
    ],
)
async def test_search_takes_words_beginnings_phrases_or_and_minus(
    session: Session, library: UUID, words: str, titles: set[str]
) -> None:
    assert set(await found(session, library, words)) == titles


async def test_what_fits_better_comes_first(session: Session, library: UUID) -> None:
    assert (await found(session, library, "report"))[-1] == "Water the plants"


ODD = [
    "'",
    "''",
    "'''",
    '"',
    "\\",
    "\\'",
    "'\\",
    "a'b:*",
    ":*",
    "!",
    "!!",
    "&|!()<->",
    "a & | b",
    "<2>",
    "-",
    "- -",
    "--x",
    "or",
    "or or",
    '"unclosed',
    '""',
    "%",
    "_",
    "$$",
    "$1",
    "$$'x'$$",
    "\\1",
    "\\\\1:*",
    "a\tb\nc",
    "\u00a0",
    "\u200b",
    "😀",
    "e\u0301",
    "\uffff",
    "x" * 5_000,
    "a " * 2_000,
    "':*A",
    "the:A",
    "ada@example.org'--",
]


@pytest.mark.parametrize("words", ODD, ids=lambda words: repr(words)[:20])
async def test_odd_input_finds_something_or_nothing_and_never_fails(
    session: Session, library: UUID, words: str
) -> None:
    rows = await found(session, library, words)

    assert await pages.count(session, searching(library, words)) == len(rows)


@given(
    words=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
    | st.text("a'\"\\:*!&|()<>- $1", max_size=12)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_can_be_searched_for(session: Session, library: UUID, words: str) -> None:
    rows = await found(session, library, words)

    assert await pages.count(session, searching(library, words)) == len(rows)


@given(words=st.lists(st.text("ab'\\ü:*売上", min_size=1, max_size=4), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_task_is_found_by_the_words_of_its_own_title(
    session: Session, engine: AsyncEngine, words: list[str]
) -> None:
    """Whatever characters they are made of: quoting and prefixes change no word."""
    title = " ".join(words)
    async with engine.connect() as connection:
        found = await connection.scalar(
            text("SELECT CAST(:words AS tsvector) @@ CAST(:asked AS tsquery)"),
            {"words": document(title), "asked": tsquery(title)},
        )

    assert found == bool(tsquery(title))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("backward", [False, True])
async def test_walking_in_the_order_of_rank_gives_the_list(
    session: Session, owners: dict[UUID, list[Task]], size: int, backward: bool
) -> None:
    owner_id = next(iter(owners))
    query = searching(owner_id, "rep", trash=Trash.INCLUDE)
    whole = (await pages.page(session, query, Window(100), COLUMNS, keys=True)).rows

    walked = await walk(session, query, size, backward=backward)

    assert [id for page in (walked[::-1] if backward else walked) for id in page] == [row.id for row in whole]
    ranks = [row.key0 for row in whole]
    assert ranks == sorted(ranks, reverse=True)
    assert 1 < len(set(ranks)) < len(ranks), "ranks must differ and repeat for this test to be one"


async def test_a_search_below_many_parents_is_the_search_of_each(session: Session, owners: Any) -> None:
    query = Query(tasks.LISTING, searching=True, values={"search": tsquery("report")})

    together = await pages.pages(session, query, Window(5), COLUMNS, list(owners), keys=True)

    assert max(len(page.rows) for page in together.values()) == 5
    for owner_id in owners:
        alone = await pages.page(session, searching(owner_id, "report"), Window(5), COLUMNS, keys=True)
        assert [row.id for row in together[owner_id].rows] == [row.id for row in alone.rows]


# -- plans --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def crowd(engine: AsyncEngine, anyio_backend: str) -> UUID:
    """One of 20 users with 400 tasks each, so that an index is worth its while."""

    async def work(session: Session) -> UUID:
        owner_id = await new_owner(session)
        others = [await new_owner(session) for _ in range(19)]
        await session.execute(
            text(
                """
                INSERT INTO tasks (id, owner_id, title, status, priority, tags, due_at, created_at)
                SELECT gen_random_uuid(), owner, 'word' || n, (ARRAY['todo', 'in_progress', 'cancelled'])[1 + n % 3],
                       (ARRAY['low', 'medium', 'high', 'urgent'])[1 + n % 4], ARRAY['tag' || n % 200],
                       now() + n * interval '1 hour', now() - n * interval '1 minute'
                FROM unnest(CAST(:owners AS uuid[])) AS owner, generate_series(1, 400) AS n
                """
            ),
            {"owners": [owner_id, *others]},
        )
        return owner_id

    owner_id = await Session(engine).transact(work)
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE tasks"))
    return owner_id


LISTS: dict[str, tuple[str, Query]] = {
    "newest first": ("ix_tasks_owner_id_created_at_id", Query(tasks.LISTING, trash=Trash.INCLUDE)),
    "without the trash": ("ix_tasks_owner_id_created_at_id", Query(tasks.LISTING)),
    "oldest first": ("ix_tasks_owner_id_created_at_id", Query(tasks.LISTING, order=(Order("created_at"),))),
    "next due": ("ix_tasks_owner_id_due_at_id", Query(tasks.LISTING, order=(Order("due_at"),))),
    "last due": ("ix_tasks_owner_id_due_at_id", Query(tasks.LISTING, order=(Order("due_at", True, True),))),
    "of a status": (
        "ix_tasks_owner_id_status_created_at_id",
        Query(tasks.LISTING, ("compare", "status", "eq"), values={"f0": "done"}),
    ),
    "of a priority": (
        "ix_tasks_owner_id_priority_created_at_id",
        Query(tasks.LISTING, ("compare", "priority", "eq"), values={"f0": "urgent"}),
    ),
}


FIRST = Window(20)


async def plan(engine: AsyncEngine, query: Query, window: Window = FIRST, *, nested: bool = False) -> str:
    """The plan of a page's own statement."""
    nulls = tuple(value is None for value in window.cursor) if window.cursor else None
    statement = pages._page_statement(query, COLUMNS, True, rows_read(window.limit + 1), window.backward, nulls, nested)
    values = {f"c{n}": value for n, value in enumerate(window.cursor or ()) if value is not None}
    async with engine.connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
        rows = await raw.fetch(f"EXPLAIN {statement.sql}", *statement.arguments({**query.values, **values}))
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_walks_along_its_index_without_sorting(engine: AsyncEngine, crowd: UUID, name: str) -> None:
    index, query = LISTS[name]

    found = await plan(engine, of(query, crowd))

    assert index in found
    assert "Sort" not in found


async def test_the_page_after_a_cursor_walks_along_the_index(
    engine: AsyncEngine, session: Session, crowd: UUID
) -> None:
    query = of(Query(tasks.LISTING, trash=Trash.INCLUDE), crowd)
    page = await pages.page(session, query, Window(20), COLUMNS, keys=True)

    for backward in (False, True):
        found = await plan(engine, query, Window(20, backward, cursor(query, page.rows[-1])))

        assert "ix_tasks_owner_id_created_at_id" in found
        assert "Index Cond: ((owner_id = " in found
        assert "ROW(" in found
        assert "Sort" not in found


async def test_the_newest_of_each_of_many_users_walk_along_the_index(engine: AsyncEngine, crowd: UUID) -> None:
    query = Query(tasks.LISTING, trash=Trash.INCLUDE, values={"parents": [crowd]})

    found = await plan(engine, query, Window(10), nested=True)

    assert "ix_tasks_owner_id_created_at_id" in found
    assert "Seq Scan" not in found


async def test_everybodys_newest_tasks_walk_along_the_index(engine: AsyncEngine, crowd: UUID) -> None:
    found = await plan(engine, Query(tasks.LISTING))

    assert "ix_tasks_created_at_id" in found
    assert "Sort" not in found


@pytest.mark.parametrize(
    ("index", "query"),
    [
        ("ix_tasks_tags", Query(tasks.LISTING, ("compare", "tags", "has_any"), values={"f0": ["tag7"]})),
        ("ix_tasks_tags", Query(tasks.LISTING, ("compare", "tags", "has_all"), values={"f0": ["tag7"]})),
        ("ix_tasks_search", Query(tasks.LISTING, searching=True, values={"search": tsquery("word39")})),
    ],
    ids=["any tag", "all tags", "search"],
)
async def test_tags_and_words_are_found_by_their_index(
    engine: AsyncEngine, crowd: UUID, index: str, query: Query
) -> None:
    assert index in await plan(engine, query)


async def test_the_statement_of_a_shape_is_built_once(session: Session, account: Account) -> None:
    def statement(query: Query) -> Any:
        return pages._page_statement(query, COLUMNS, True, 21, False, None, False)

    shape = ("compare", "title", "eq")

    assert statement(Query(tasks.LISTING, shape, values={"f0": "a"})) is statement(
        Query(tasks.LISTING, shape, values={"f0": "b"})
    )


async def test_pages_of_all_sizes_share_few_statements(session: Session, account: Account) -> None:
    kept: Any = pages._page_statement.kept  # type: ignore[attr-defined]
    query = of(Query(tasks.LISTING, ("compare", "version", "ne"), values={"f0": 4711}), account.id)
    before = len(kept)

    for limit in range(101):
        for more in (False, True):
            await pages.page(session, query, Window(limit), COLUMNS, keys=False, more=more)

    assert len(kept) - before <= len(SIZES) + 1


@pytest.mark.parametrize("wanted", range(103))
def test_a_statement_reads_as_many_rows_as_are_wanted_and_few_more(wanted: int) -> None:
    assert wanted <= rows_read(wanted) <= 2 * wanted


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("more", [False, True])
async def test_a_page_of_any_size_has_that_size(
    session: Session, crowd: UUID, nested: bool, backward: bool, more: bool
) -> None:
    query = Query(tasks.LISTING, order=(Order("title"), Order("created_at")), trash=Trash.INCLUDE)
    everything = await pages.page(session, of(query, crowd), Window(400), COLUMNS, keys=False)
    ids = [row.id for row in everything.rows]
    assert len(ids) == 400

    for limit in (0, 3, 7, 29, 32, 60):
        window = Window(limit, backward)
        if nested:
            found = (await pages.pages(session, query, window, COLUMNS, [crowd], keys=False, more=more))[crowd]
        else:
            found = await pages.page(session, of(query, crowd), window, COLUMNS, keys=False, more=more)

        wanted = ids[len(ids) - limit :] if backward else ids[:limit]
        assert [row.id for row in found.rows] == wanted
        assert found.more or not more


async def test_what_is_kept_of_a_list_holds_no_values(session: Session, account: Account) -> None:
    secret = "kept by nobody" * 1_000
    query = of(Query(tasks.LISTING, ("compare", "title", "eq"), values={"f0": secret}), account.id)
    window = Window(7, cursor=(datetime(2026, 1, 1, tzinfo=UTC), account.id))
    await pages.page(session, query, window, COLUMNS, keys=False)
    await pages.count(session, query)
    await pages.exists_behind(session, query, window)

    functions: list[Any] = [pages._page_statement, pages._count_statement, pages._behind_statement]
    for function in functions:
        kept = function.kept
        assert len(kept)
        assert all(not part.values for key in kept for part in key if isinstance(part, Query))


async def test_large_filters_are_not_kept(session: Session, account: Account) -> None:
    kept: Any = pages._count_statement.kept  # type: ignore[attr-defined]
    shape = ("and", *[("compare", "title", "ne")] * LARGE)
    query = of(Query(tasks.LISTING, shape, values={f"f{n}": "x" for n in range(LARGE)}), account.id)
    before = len(kept)

    assert await pages.count(session, query) == 0

    assert len(kept) == before


def test_the_number_of_kept_statements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "STATEMENTS", 3)

    @statements.built_once
    def build(query: Query, number: int) -> list[int]:
        return [number]

    first = build(Query(tasks.LISTING), 0)
    for number in range(1, 5):
        assert build(Query(tasks.LISTING, values={"f0": number}), 0) is first  # what is used stays
        build(Query(tasks.LISTING), number)

    assert len(build.kept) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (datetime, "2026-01-01T00:00:00"),
        (datetime, "soon"),
        (datetime, 7),
        (UUID, "c0ffee"),
        (UUID, 7),
        (int, "7"),
        (int, True),
        (float, 7),
        (str, 7),
    ],
)
def test_a_value_of_another_type_is_no_cursor(kind: type, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        pages.decode_key(kind, value)
