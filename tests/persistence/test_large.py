"""What is asked costs what the asker has: on tables where others have very much, and whatever they asked before.

Tests look at the buffers that PostgreSQL read (EXPLAIN), never at a clock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks import large
from benchmarks.data import named_id
from persistence import migrations, tasks
from persistence.connections.engine import create_engine
from persistence.lists import pages
from persistence.lists.listing import Order, Query, Window
from persistence.lists.plans import FEW, RANKED, is_one_walk
from persistence.lists.statements import rows_read
from persistence.rows.reading import Statement
from persistence.session import Session
from persistence.settings import Settings
from persistence.words.searching import tsquery

pytestmark = pytest.mark.anyio

SHAPE = large.Shape.of(0.02)
LARGE, SMALL = UUID(named_id(large.LARGE)), UUID(named_id(large.SMALL))
OTHERS = [UUID(named_id(f"user {n}")) for n in range(3)]
MOST = 300
"""Buffers that a list of who has few tasks may take."""


@pytest.fixture(scope="module")
def large_url(new_database: Callable[[], str]) -> str:
    """A database of the shape that grows."""
    url = new_database()
    migrations.upgrade(url)
    asyncio.run(large.report(url, SHAPE))
    return url


@pytest.fixture
async def large_engine(large_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(Settings(database_url=large_url))
    yield engine
    await engine.dispose()


@pytest.fixture
async def connection(large_engine: AsyncEngine) -> AsyncIterator[Any]:
    """A connection as the server has it."""
    async with large_engine.connect() as connected:
        yield (await connected.get_raw_connection()).driver_connection


async def test_the_large_database_has_the_shape_it_says(connection: Any) -> None:
    counts = await connection.fetch("SELECT owner_id, count(*) FROM tasks GROUP BY 1 ORDER BY 2")

    smallest, largest = counts[0], counts[-1]
    assert (str(smallest[0]), smallest[1]) == (named_id(large.SMALL), large.SMALL_TASKS)
    assert (str(largest[0]), largest[1]) == (named_id(large.LARGE), SHAPE.large)
    assert len(counts) == SHAPE.users == await connection.fetchval("SELECT count(*) FROM users")
    assert sum(count for _, count in counts) == SHAPE.tasks
    assert await connection.fetchval("SELECT count(*) FROM changes") == SHAPE.changes
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == SHAPE.keys


async def test_a_large_database_is_not_made_over_another(connection: Any) -> None:
    with pytest.raises(ValueError, match="tasks already"):
        await large.fill(connection, SHAPE)


# -- what is asked --------------------------------------------------------------------------------------


def owned(shape: Any = ("and",), order: tuple[Order, ...] = (), search: str | None = None, **values: Any) -> Query:
    """A list of one owner, who is bound later."""
    if search is not None:
        values["search"] = tsquery(search)
    return Query(tasks.LISTING, shape, order, searching=search is not None, limited=True, values=values)


def of(query: Query, owner: UUID) -> Query:
    return replace(query, values={**query.values, "owner": owner})


NEWEST = (Order("created_at", descending=True, nulls_first=True),)
LISTS: dict[str, Query] = {
    "all": owned(),
    "oldest first": owned(order=(Order("created_at"),)),
    "by due time": owned(order=(Order("due_at"),)),
    "by title": owned(order=(Order("title"),)),
    "by time of update": owned(order=(Order("updated_at", True, True),)),
    "of a status": owned(("compare", "status", "eq"), f0="done"),
    "of no status": owned(("compare", "status", "ne"), f0="done"),
    "of many ids": owned(("compare", "id", "in"), f0=[UUID(named_id(f"task {n}")) for n in range(100)]),
    "before some time": owned(("compare", "title", "lt"), f0="m"),
    "with a common tag": owned(("compare", "tags", "has_any"), f0=["common"]),
    "with common tags": owned(("compare", "tags", "has_all"), f0=["common", "tenth"]),
    "with any tag": owned(("compare", "tags", "has_all"), f0=[]),
    "with a rare tag": owned(("compare", "tags", "has_any"), f0=["rare"]),
    "without a tag": owned(("compare", "tags", "has_none"), f0=["common"]),
    "of an owner by name": owned(("related", "owner", ("compare", "name", "contains")), f0="user"),
    "without a word": owned(search="-report"),
    "without a word that all have": owned(search="-task"),
    "with or without a word": owned(search="rare or -task"),
    "with a common word": owned(search="report"),
    "with a word that all have": owned(search="task"),
    "with a rare word": owned(search="rare"),
    "with no such word": owned(search="unheard"),
    "with a beginning of one letter": owned(search="t"),
    "with beginnings of one letter": owned(search="t -r a"),
    "with a beginning of one digit": owned(search="1"),
    "with a word, newest first": owned(order=NEWEST, search="report"),
    "without a word, newest first": owned(order=NEWEST, search="-report"),
    "with a word, by title": owned(order=(Order("title"),), search="task"),
    "with a word and a tag": owned(("compare", "tags", "has_any"), search="task", f0=["common"]),
}
COLUMNS = frozenset({"id", "title", "created_at", "owner.name"})


FIRST = Window(50)


def page_statement(query: Query, window: Window = FIRST) -> Statement[Any]:
    nulls = None if window.cursor is None else tuple(value is None for value in window.cursor)
    return pages._page_statement(query, COLUMNS, True, rows_read(window.limit + 1), window.backward, nulls, False)


STATEMENTS: dict[str, Callable[[Query], Statement[Any]]] = {
    "page": page_statement,
    "last page": lambda query: page_statement(query, Window(50, backward=True)),
    "count": lambda query: pages._count_statement(query, False),
}


def literal(value: Any) -> str:
    if isinstance(value, list):
        kind = "uuid[]" if value and isinstance(value[0], UUID) else "text[]"
        return f"ARRAY[{', '.join(map(literal, value))}]::{kind}"
    return "'{}'".format(str(value).replace("'", "''"))


class Prepared:
    """A prepared statement, as a connection of the server has it."""

    def __init__(self, connection: Any, statement: Statement[Any]) -> None:
        self.connection, self.statement = connection, statement

    async def __aenter__(self) -> "Prepared":
        await self.connection.execute(f"PREPARE tried AS {self.statement.sql}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.execute("DEALLOCATE tried")

    def _call(self, values: Mapping[str, Any]) -> str:
        arguments = ", ".join(map(literal, self.statement.arguments(values)))
        return f"EXECUTE tried({arguments})" if arguments else "EXECUTE tried"

    async def warm_up(self, query: Query) -> None:
        """Run it for others, until PostgreSQL has decided whether one plan is for all."""
        for owner in (*OTHERS, LARGE) * 3:
            await self.connection.fetch(self._call(of(query, owner).values))

    async def buffers(self, values: Mapping[str, Any]) -> int:
        """How many buffers it reads."""
        plan = await self.plan(values)
        return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])

    async def plan(self, values: Mapping[str, Any]) -> Any:
        """The plan with which it ran."""
        [found] = await self.connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {self._call(values)}")
        return found["Plan"]

    async def plans(self) -> tuple[int, int]:
        """How often it ran with the one plan for all, and with one for its values."""
        return tuple(
            await self.connection.fetchrow(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'tried'"
            )
        )


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("kind", STATEMENTS)
async def test_a_list_of_few_tasks_reads_little_whatever_others_have_and_asked(
    connection: Any, name: str, kind: str
) -> None:
    query = LISTS[name]
    async with Prepared(connection, STATEMENTS[kind](query)) as prepared:
        await prepared.warm_up(query)

        assert await prepared.buffers(of(query, SMALL).values) <= MOST


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_that_is_no_walk_is_planned_each_time(connection: Any, name: str) -> None:
    query = LISTS[name]
    async with Prepared(connection, page_statement(query)) as prepared:
        await prepared.warm_up(query)

        for_all, for_values = await prepared.plans()
        assert (for_all > 0, for_values == 5) == (is_one_walk(query, nested=False),) * 2
        assert (for_all == 0, for_values == 12) == (not is_one_walk(query, nested=False),) * 2


async def test_both_kinds_of_plans_are_tried_above() -> None:
    walks = {name for name, query in LISTS.items() if is_one_walk(query, nested=False)}

    assert walks == {"all", "oldest first", "by due time", "by title", "of a status"}


@pytest.mark.parametrize("name", ["all", "oldest first", "by due time", "by title", "of a status"])
async def test_the_first_page_of_many_tasks_is_a_walk(connection: Any, name: str) -> None:
    query = LISTS[name]
    async with Prepared(connection, page_statement(query)) as prepared:
        for owner in OTHERS * 3:
            await prepared.buffers(of(query, owner).values)

        assert await prepared.buffers(of(query, LARGE).values) <= MOST


async def test_a_common_tag_of_many_tasks_is_a_walk(connection: Any) -> None:
    query = LISTS["with a common tag"]
    await connection.execute("VACUUM tasks")  # again: one that was made while others looked on may have left a part out
    async with Prepared(connection, page_statement(query)) as prepared:
        for owner in OTHERS * 3:
            await prepared.buffers(of(query, owner).values)

        # Less than there are tasks with it: 2,400. That the owner has more than a few is counted before.
        assert await prepared.buffers(of(query, LARGE).values) <= 1_000


@pytest.mark.parametrize("name", [name for name, query in LISTS.items() if query.is_ranked])
async def test_a_search_of_many_tasks_is_bounded(connection: Any, name: str) -> None:
    query = LISTS[name]
    async with Prepared(connection, page_statement(query)) as prepared:
        await prepared.warm_up(query)

        # One for each row that is looked at or ranked, and what leads to them.
        # The rows are counted up to a few before, which visits them where nothing has vacuumed yet.
        assert await prepared.buffers(of(query, LARGE).values) <= 2 * FEW + 3 * RANKED


async def test_words_that_others_write_just_now_cost_a_search_nothing(connection: Any) -> None:
    query = owned(search="fresh")
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO tasks (id, owner_id, title) SELECT gen_random_uuid(), $1, 'fresh words ' || n || md5(n::text)"
            " FROM generate_series(1, 3000) n",
            LARGE,
        )
        async with Prepared(connection, page_statement(query)) as prepared:
            await prepared.warm_up(query)

            assert await prepared.buffers(of(query, SMALL).values) <= MOST
        await connection.execute("DELETE FROM tasks WHERE title LIKE 'fresh words%'")


async def test_the_list_of_a_single_parent_is_planned_for_this_one(
    large_engine: AsyncEngine, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Statement[Any]] = []
    fetch = Session.fetch

    async def noting(session: Session, statement: Statement[Any], values: Mapping[str, Any]) -> Any:
        asked.append(statement)
        return await fetch(session, statement, values)

    monkeypatch.setattr(Session, "fetch", noting)
    query, session = replace(LISTS["without a word"], limited=False), Session(large_engine)

    below = await pages.pages(session, query, FIRST, COLUMNS, [SMALL], keys=True)
    counted = await pages.counts(session, query, [SMALL])

    assert len(below[SMALL].rows) == counted[SMALL] > 0
    assert asked == [page_statement(LISTS["without a word"]), pages._count_statement(LISTS["without a word"], False)]


BELOW: dict[str, Callable[[Query], Statement[Any]]] = {
    "page": lambda query: pages._page_statement(query, COLUMNS, True, rows_read(51), False, None, True),
    "count": lambda query: pages._count_statement(query, True),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("kind", BELOW)
async def test_lists_below_many_do_not_look_through_what_others_have(connection: Any, name: str, kind: str) -> None:
    """The indexes of words and tags are everybody's, and would be read for each parent."""
    query = replace(LISTS[name], limited=False)
    async with Prepared(connection, BELOW[kind](query)) as prepared:
        for n in range(12):
            await connection.fetch(prepared._call({**query.values, "parents": [OTHERS[n % 3], LARGE]}))

        plan = await prepared.plan({**query.values, "parents": [SMALL, OTHERS[0]]})

    read = {node.get("Index Name") for node in nodes(plan) if node["Actual Loops"]}
    assert None in read
    assert not read & {"ix_tasks_search", "ix_tasks_tags"}


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


# -- what is found --------------------------------------------------------------------------------------

PLAIN: dict[str, tuple[Query, str]] = {
    "tag": (owned(("compare", "tags", "has_any"), f0=["tenth"]), "tags @> '{tenth}'"),
    "rare tag": (owned(("compare", "tags", "has_any"), f0=["rare"]), "tags @> '{rare}'"),
    "common word": (owned(order=NEWEST, search="report"), "title LIKE '%report%'"),
    "rare word": (owned(order=NEWEST, search="rare"), "title LIKE '%rare%'"),
    "oldest first": (owned(order=(Order("created_at"),), search="tenth"), "title LIKE '%tenth%'"),
}


@pytest.mark.parametrize("owner", [LARGE, SMALL, OTHERS[0]], ids=["large", "small", "other"])
@pytest.mark.parametrize("name", PLAIN)
async def test_pages_and_counts_are_the_same_however_the_rows_are_found(
    large_engine: AsyncEngine, connection: Any, name: str, owner: UUID
) -> None:
    query, condition = PLAIN[name]
    query = of(query, owner)
    order = "DESC" if query.sorting[0].descending else "ASC"
    expected = await connection.fetch(
        f"SELECT id FROM tasks WHERE owner_id = $1 AND deleted_at IS NULL AND {condition}"
        f" ORDER BY created_at {order}, id {order}",
        owner,
    )
    session, found, cursor = Session(large_engine), list[UUID](), None
    while True:
        page = await pages.page(session, query, Window(400, cursor=cursor), frozenset({"id"}), keys=True)
        found += [row.id for row in page.rows]
        if not page.more:
            break
        cursor = (page.rows[-1].key0, page.rows[-1].key1)
        assert await pages.exists_behind(session, query, Window(400, cursor=cursor))

    assert found == [row["id"] for row in expected]
    assert await pages.count(session, query) == len(expected)
    backward = await pages.page(session, query, Window(5, backward=True), frozenset({"id"}), keys=False)
    assert [row.id for row in backward.rows] == found[-5:]


@pytest.mark.parametrize("name", LISTS)
async def test_what_is_below_many_is_what_is_below_each(large_engine: AsyncEngine, name: str) -> None:
    alone, session, parents = LISTS[name], Session(large_engine), [SMALL, LARGE, OTHERS[0]]
    query, columns = replace(alone, limited=False), frozenset({"id"})
    first = await pages.page(session, of(alone, SMALL), Window(5), columns, keys=True)
    cursors = [tuple(getattr(row, f"key{n}") for n in range(len(query.sorting))) for row in first.rows[-1:]]
    windows = [Window(50), Window(50, backward=True), *(Window(50, cursor=cursor) for cursor in cursors)]
    for window in windows:
        together = await pages.pages(session, query, window, columns, parents, keys=False)
        behind = await pages.exist_behind(session, query, window, parents) if window.cursor else {}
        for parent in parents:
            page = await pages.page(session, of(alone, parent), window, columns, keys=False)
            found = together[parent]
            assert ([row.id for row in found.rows], found.more) == ([row.id for row in page.rows], page.more)
            if behind:
                assert behind[parent] == await pages.exists_behind(session, of(alone, parent), window)
    counts = await pages.counts(session, query, parents)

    assert counts == {parent: await pages.count(session, of(alone, parent)) for parent in parents}


@pytest.mark.parametrize("word", ["task", "report"])
async def test_a_search_by_rank_is_of_the_newest_that_match(
    large_engine: AsyncEngine, connection: Any, word: str
) -> None:
    query, session = of(owned(search=word), LARGE), Session(large_engine)
    newest = await connection.fetch(
        "SELECT id FROM tasks WHERE owner_id = $1 AND deleted_at IS NULL AND title LIKE $2"
        f" ORDER BY created_at DESC, id DESC LIMIT {RANKED}",
        LARGE,
        f"%{word}%",
    )

    page = await pages.page(session, query, Window(2 * RANKED), frozenset({"id"}), keys=False)

    assert {row.id for row in page.rows} == {row["id"] for row in newest}
    assert await pages.count(session, query) == len(newest) == RANKED


async def test_what_no_index_can_answer_is_looked_for_among_the_newest(
    large_engine: AsyncEngine, connection: Any
) -> None:
    session = Session(large_engine)
    [among] = await connection.fetch(
        "SELECT count(*) FROM (SELECT * FROM tasks WHERE owner_id = $1 ORDER BY created_at DESC, id DESC"
        f" LIMIT {FEW}) newest WHERE deleted_at IS NULL AND title NOT LIKE '%report%'",
        LARGE,
    )

    assert await pages.count(session, of(owned(order=NEWEST, search="-report"), LARGE)) == among[0]
    assert await pages.count(session, of(owned(search="-task"), LARGE)) == 0
