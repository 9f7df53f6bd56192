"""Words and sort keys are stored with every write, and found where something else has written."""
# ruff: noqa: RUF001  # letters that look like others are what it is about; our names

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from background.housekeeping import cut_texts, housekeeping
from persistence import migrations, seed, tasks, users
from persistence.connections.engine import create_engine
from persistence.lists import pages
from persistence.lists.listing import Order, Query, Window
from persistence.models import Role, Scope, Task, User
from persistence.models.derived import derive
from persistence.models.ids import new_id
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from persistence.words import RULE, folding
from persistence.words.searching import tsquery
from persistence.writes import cutting
from tests.conftest import QUICK_HASH, Account
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio


async def derived_of(raw: Raw, model: Any, id: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the database holds of a row's derived columns, and what the rule makes of its texts."""
    [row] = await raw(f"SELECT * FROM {model.__tablename__} WHERE id = :id", id=id)
    expected = derive(model, row._mapping)
    [words] = await raw("SELECT CAST(:search AS tsvector)::text AS search", search=expected.get("search", ""))
    stored = {name: row._mapping[name] for name in expected}
    return stored, {**expected, "search": words.search} if "search" in expected else expected


async def cut_all(write: Write, where: str = cutting.UNCUT) -> int:
    return await cutting.cut_all(write, where)


async def test_every_edit_of_a_text_cuts_it(write: Write, raw: Raw, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="Größe 10", description="naïve"))
    edits: list[dict[str, Any]] = [
        {},
        {"title": "Plain"},
        {"description": "今月の売上"},
        {"title": "Ünder", "description": ""},
        {"tags": ["a"]},
    ]
    for edit in edits:
        await write(partial(tasks.update, viewer=account.viewer, id=task.id, given=edit))

        stored, expected = await derived_of(raw, Task, task.id)
        assert stored == expected


async def test_every_edit_of_a_name_gives_it_a_key(write: Write, raw: Raw, account: Account) -> None:
    for name in ("Ada 10", "Ädä 2", "Bob"):
        await write(partial(users.update, viewer=account.viewer, id=account.id, given={"name": name}))

        stored, expected = await derived_of(raw, User, account.id)
        assert stored == expected


async def test_demo_data_is_cut(own_database: AsyncEngine) -> None:
    await seed.seed(own_database)

    async with own_database.connect() as connection:
        for table in ("tasks", "users"):
            assert (await connection.execute(text(f"SELECT id FROM {table} WHERE text_mark IS NULL"))).all() == []


async def test_derived_columns_are_neither_logged_nor_shown(write: Write, raw: Raw, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="Größe"))
    await write(lambda s: tasks.update(s, account.viewer, task.id, given={"title": "Länge"}))

    rows = await raw("SELECT fields FROM changes WHERE entity_id = :id", id=task.id)
    assert not any({"search", "title_key", "title_folded", "text_mark"} & row.fields.keys() for row in rows)
    assert {"search", "title_key", "title_folded", "description_folded", "text_mark"} <= Task.__private__
    assert {"name_key", "name_folded", "email_folded", "text_mark", "password_hash"} == User.__private__


INSERT = "INSERT INTO tasks (id, owner_id, title, description) VALUES (:id, :owner, :title, 'O’Reilly')"


async def test_a_row_that_something_else_wrote_is_found_roughly_and_cut_later(
    write: Write, raw: Raw, session: Session, account: Account
) -> None:
    id = new_id()
    await raw(INSERT, id=id, owner=account.id, title="Write 今月の売上")

    assert await found(session, account, "write") == {id}
    assert await found(session, account, "売上") == set()
    await cut_all(write)
    assert await found(session, account, "売上") == {id}
    stored, expected = await derived_of(raw, Task, id)
    assert stored == expected


async def test_the_housekeeping_cuts_what_something_else_wrote(raw: Raw, engine: AsyncEngine, account: Account) -> None:
    await raw(INSERT, id=new_id(), owner=account.id, title="売上")
    loops = [loop for loop in housekeeping(engine, Settings()) if getattr(loop.work, "func", None) is cut_texts]

    for loop in loops:
        await loop.work()

    assert len(loops) == 1
    assert await raw("SELECT id FROM tasks WHERE owner_id = :id AND text_mark IS NULL", id=account.id) == []


async def test_a_text_that_something_else_changed_is_cut_again(write: Write, raw: Raw, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="Größe"))
    for change in (
        "UPDATE tasks SET title = 'Länge' WHERE id = :id",
        "UPDATE tasks SET description = 'breit' WHERE id = :id",
        "UPDATE tasks SET title = 'Höhe', priority = 'high' WHERE id = :id",
    ):
        await raw(change, id=task.id)
        [row] = await raw("SELECT text_mark, title_folded FROM tasks WHERE id = :id", id=task.id)
        assert row == (None, None)

        await cut_all(write)
        stored, expected = await derived_of(raw, Task, task.id)
        assert stored == expected


async def test_a_bulk_update_is_cut_again(write: Write, raw: Raw, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="one"))
    await write(lambda s: s.execute(update(Task).where(Task.id == task.id).values(title="two")))

    await cut_all(write)

    stored, expected = await derived_of(raw, Task, task.id)
    assert stored == expected


async def test_what_changes_no_text_keeps_the_mark(write: Write, raw: Raw, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="one"))
    await raw("UPDATE tasks SET title = title, priority = 'high' WHERE id = :id", id=task.id)

    [row] = await raw("SELECT text_mark FROM tasks WHERE id = :id", id=task.id)
    assert row.text_mark is not None


async def test_the_words_of_an_earlier_rule_are_cut_again_and_those_of_a_later_one_not(
    write: Write, raw: Raw, account: Account
) -> None:
    earlier = await write(lambda s: tasks.create(s, account.viewer, title="earlier"))
    later = await write(lambda s: tasks.create(s, account.viewer, title="later"))
    for task, mark in ((earlier, (RULE - 1) << 32), (later, (RULE + 1) << 32)):
        await raw("UPDATE tasks SET search = '', text_mark = :mark WHERE id = :id", id=task.id, mark=mark)

    assert await cut_all(write, cutting.BY_AN_EARLIER_RULE) == 1

    rows = await raw("SELECT id, search::text AS search FROM tasks WHERE owner_id = :id", id=account.id)
    assert {row.id: row.search for row in rows} == {earlier.id: "'earlier':1A", later.id: ""}


async def test_a_text_that_changes_while_it_is_cut_is_not_overwritten(
    write: Write, raw: Raw, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = new_id()
    await raw(INSERT, id=id, owner=account.id, title="before")
    real = cutting.Cutting.rows

    def rows(self: cutting.Cutting, found: Any) -> str:
        if self.table == "tasks":
            asyncio.run_coroutine_threadsafe(
                raw("UPDATE tasks SET title = 'after' WHERE id = :id", id=id), loop
            ).result()
        return real(self, found)

    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patched:
        patched.setattr(cutting.Cutting, "rows", rows)
        await cut_all(write)
    [row] = await raw("SELECT text_mark, title FROM tasks WHERE id = :id", id=id)
    assert row == (None, "after")

    await cut_all(write)
    stored, expected = await derived_of(raw, Task, id)
    assert stored == expected


async def test_more_rows_than_a_batch_are_cut(
    write: Write, raw: Raw, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cut_all(write)
    monkeypatch.setattr(cutting, "BATCH", 3)
    for n in range(7):
        await raw(INSERT, id=new_id(), owner=account.id, title=f"Größe {n}")

    assert await cut_all(write) == 7
    assert await cut_all(write) == 0


@given(title=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=500))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_words_of_any_text_can_be_stored(raw: Raw, title: str) -> None:
    made = derive(Task, {"title": title, "description": title * 20})

    [row] = await raw(
        "SELECT CAST(:search AS tsvector) IS NOT NULL AS search, octet_length(CAST(:title_key AS text)) AS size",
        search=made["search"],
        title_key=made["title_key"],
    )
    assert row.search
    assert row.size <= 1_000


# -- the same on every database -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=["embedded", "15"])
async def anywhere(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[AsyncEngine]:
    """An engine of a migrated database: the embedded one, whose LC_CTYPE is C, and PostgreSQL 15 with UTF-8."""
    if request.param == "embedded":
        url = await asyncio.to_thread(request.getfixturevalue("new_database"))
    else:
        url = request.getfixturevalue("postgres15").url
        engine = create_engine(Settings(database_url=url), pooled=False)
        async with engine.begin() as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))
        await engine.dispose()
    await asyncio.to_thread(migrations.upgrade, url)
    engine = create_engine(Settings(database_url=url))
    yield engine
    await engine.dispose()


TITLES = [
    "Buy “oatmeal” today",
    "Fix PROJ-123",
    "milk/bread",
    "see report.pdf",
    "https://example.org/wiki/Main_Page?x=1",
    "今月の売上レポート",
    "ซื้อนมสดพรุ่งนี้",
    "ຊື້ນົມສົດ",
    "ទិញទឹកដោះគោ",
    "Cafe\u0301 café".partition(" ")[0],
    "Größe messen",
    "wash carpet",
    "new yorker",
    "New York",
    "O’Reilly l'école",
    "👍🏽 👩\u200d💻 🇩🇪",
    "שָׁלוֹם",
    "مُحَمَّد",
    "İstanbul DIŞ",
    "co\u00adoperate",
    "서울에서 만나요",
    "snake_case 3.14",
    "हिन्दी सीखो",
    "Привет, Ёлка",
    "ＦＵＬＬ width",
]
SEARCHES = {
    "oatmeal": ["Buy “oatmeal” today"],
    "“oatmeal”": ["Buy “oatmeal” today"],
    "123": ["Fix PROJ-123"],
    "proj-123": ["Fix PROJ-123"],
    "PROJ": ["Fix PROJ-123"],
    "bread": ["milk/bread"],
    "milk/bread": ["milk/bread"],
    "pdf": ["see report.pdf"],
    "report.pdf": ["see report.pdf"],
    "wiki": ["https://example.org/wiki/Main_Page?x=1"],
    "page": ["https://example.org/wiki/Main_Page?x=1"],
    "https://example.org/wiki/Main_Page?x=1": ["https://example.org/wiki/Main_Page?x=1"],
    "売上": ["今月の売上レポート"],
    "売": ["今月の売上レポート"],
    "ト": ["今月の売上レポート"],
    "レポート": ["今月の売上レポート"],
    "ﾚﾎﾟｰﾄ": ["今月の売上レポート"],
    "上売": [],
    "นมสด": ["ซื้อนมสดพรุ่งนี้"],
    "ນົມ": ["ຊື້ນົມສົດ"],
    "ទឹក": ["ទិញទឹកដោះគោ"],
    "café": ["Cafe\u0301"],
    "cafe": ["Cafe\u0301"],
    "grosse": ["Größe messen"],
    "GRÖSS": ["Größe messen"],
    "wash -car": ["wash carpet"],
    "wash -carpet": [],
    '"new york"': ["New York"],
    "new york": ["new yorker", "New York"],
    "oreilly": ["O’Reilly l'école"],
    "O'Reilly": ["O’Reilly l'école"],
    "ecole": ["O’Reilly l'école"],
    "👍": ["👍🏽 👩\u200d💻 🇩🇪"],
    "👩\u200d💻": ["👍🏽 👩\u200d💻 🇩🇪"],
    "🇩🇪": ["👍🏽 👩\u200d💻 🇩🇪"],
    "🇪🇩": [],
    "שלום": ["שָׁלוֹם"],
    "محمد": ["مُحَمَّد"],
    "istanbul dis": ["İstanbul DIŞ"],
    "cooperate": ["co\u00adoperate"],
    "서울": ["서울에서 만나요"],
    "만나": ["서울에서 만나요"],
    "case": ["snake_case 3.14"],
    "3.14": ["snake_case 3.14"],
    "हिन्दी": ["हिन्दी सीखो"],
    "елка": ["Привет, Ёлка"],
    "ПРИВ": ["Привет, Ёлка"],
    "full": ["ＦＵＬＬ width"],
    "!?": [],
}
FILTERS = {
    ("eq_ignore_case", "GROSSE messen"): ["Größe messen"],
    ("eq_ignore_case", "grosse"): [],
    ("contains_ignore_case", "CAFÉ"): ["Cafe\u0301"],
    ("contains_ignore_case", "york"): ["new yorker", "New York"],
    ("contains_ignore_case", "dış"): ["İstanbul DIŞ"],
    ("starts_with_ignore_case", "NEW"): ["new yorker", "New York"],
    ("starts_with_ignore_case", "full"): ["ＦＵＬＬ width"],
    ("ends_with", "York"): ["New York"],
    ("ends_with", "\u00e9"): [],
    ("starts_with", "new"): ["new yorker"],
}


@pytest.fixture(scope="module")
async def reader(anywhere: AsyncEngine, anyio_backend: str) -> Account:
    async def work(session: Session) -> Account:
        user = await users.create(session, email="words@example.org", name="Ada", password_hash=QUICK_HASH)
        viewer = Viewer(user.id, Role.MEMBER, frozenset(Scope), user.id)
        for title in TITLES:
            session.add(Task(owner_id=user.id, title=title))
        return Account(user.id, user.email, viewer, "")

    return await Session(anywhere).transact(work)


async def titles_of(engine: AsyncEngine, query: Query) -> list[str]:
    session = Session(engine)
    page = await pages.page(session, query, Window(100), frozenset({"title"}), keys=True)
    await session.close()
    return [row.title for row in page.rows]


@pytest.mark.parametrize("typed", SEARCHES)
async def test_a_search_finds_the_same_on_every_database(anywhere: AsyncEngine, reader: Account, typed: str) -> None:
    values = {"owner": reader.id, "search": tsquery(typed)}
    query = Query(tasks.LISTING, searching=True, limited=True, values=values)

    assert sorted(await titles_of(anywhere, query)) == sorted(SEARCHES[typed])


@pytest.mark.parametrize(("comparator", "value"), FILTERS)
@pytest.mark.parametrize("negated", [False, True])
async def test_a_filter_finds_the_same_on_every_database(
    anywhere: AsyncEngine, reader: Account, comparator: str, value: str, negated: bool
) -> None:
    shape: Any = ("compare", "title", comparator)
    bound = folding.fold(value) if comparator.endswith("ignore_case") else value
    query = Query(
        tasks.LISTING, ("not", shape) if negated else shape, limited=True, values={"owner": reader.id, "f0": bound}
    )

    expected = FILTERS[comparator, value]
    if negated:
        expected = [title for title in TITLES if title not in expected]
    assert sorted(await titles_of(anywhere, query)) == sorted(expected)


async def test_titles_have_the_same_order_on_every_database(anywhere: AsyncEngine, reader: Account) -> None:
    query = Query(tasks.LISTING, order=(Order("title"),), limited=True, values={"owner": reader.id})

    assert await titles_of(anywhere, query) == [
        "👍🏽 👩\u200d💻 🇩🇪",
        "Buy “oatmeal” today",
        "Cafe\u0301",
        "co\u00adoperate",
        "Fix PROJ-123",
        "ＦＵＬＬ width",
        "Größe messen",
        "https://example.org/wiki/Main_Page?x=1",
        "İstanbul DIŞ",
        "milk/bread",
        "New York",
        "new yorker",
        "O’Reilly l'école",
        "see report.pdf",
        "snake_case 3.14",
        "wash carpet",
        "Привет, Ёлка",
        "שָׁלוֹם",
        "مُحَمَّد",
        "हिन्दी सीखो",
        "ซื้อนมสดพรุ่งนี้",
        "ຊື້ນົມສົດ",
        "ទិញទឹកដោះគោ",
        "今月の売上レポート",
        "서울에서 만나요",
    ]


# -- migrated -----------------------------------------------------------------------------------------

BEFORE = "0007"


@pytest.mark.parametrize("kind", ["embedded", "15"])
async def test_texts_of_the_release_before_are_cut_by_the_migration_and_what_it_writes_later_by_the_housekeeping(
    request: pytest.FixtureRequest, kind: str
) -> None:
    make: Callable[[], str] = request.getfixturevalue("new_database")
    url = await asyncio.to_thread(make) if kind == "embedded" else request.getfixturevalue("postgres15").url
    if kind == "15":
        await execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    await asyncio.to_thread(migrations.upgrade, url, BEFORE)
    old = (
        "INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'a@example.org', 'Ädä 2', '-')",
        "INSERT INTO tasks (id, owner_id, title) SELECT gen_random_uuid(), id, 'Größe der 売上' FROM users",
    )
    await execute(url, *old)

    await asyncio.to_thread(migrations.upgrade, url)
    assert await uncut(url) == 0
    assert await execute(url, "SELECT title_folded FROM tasks WHERE search @@ '''売上''' AND title_key > 'g'") == [
        "grosse der 売上"
    ]
    await execute(url, "UPDATE tasks SET title = 'Länge'", "UPDATE users SET name = 'Böb'", old[1])
    assert await uncut(url) == 3

    engine = create_engine(Settings(database_url=url))

    async def transact(work: Callable[[Session], Awaitable[list[Any]]]) -> list[Any]:
        return await Session(engine).transact(work)

    assert await cutting.cut_all(transact) == 3
    await engine.dispose()
    assert await uncut(url) == 0
    # Back, and forth again.
    await asyncio.to_thread(migrations.downgrade, url, BEFORE)
    await execute(url, "UPDATE tasks SET title = 'grosse Tiefe' WHERE title = 'Länge'", old[1])
    query = "SELECT count(*) FROM tasks WHERE search @@ websearch_to_tsquery('simple', 'tiefe or größe or der')"
    assert await execute(url, query) == [3]
    await asyncio.to_thread(migrations.upgrade, url)
    assert await uncut(url) == 0
    await asyncio.to_thread(migrations.check, url)


async def execute(url: str, *statements: str) -> list[Any]:
    """The first column of the last statement's rows."""
    engine = create_engine(Settings(database_url=url), pooled=False)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
            return list(result.scalars()) if result.returns_rows else []
    finally:
        await engine.dispose()


async def uncut(url: str) -> int:
    """How many rows have no mark."""
    [count] = await execute(
        url,
        "SELECT (SELECT count(*) FROM tasks WHERE text_mark IS NULL) "
        "+ (SELECT count(*) FROM users WHERE text_mark IS NULL)",
    )
    return int(count)


async def found(session: Session, account: Account, typed: str) -> set[Any]:
    values = {"owner": account.id, "search": tsquery(typed)}
    query = Query(tasks.LISTING, searching=True, limited=True, values=values)
    page = await pages.page(session, query, Window(10), frozenset({"id"}), keys=True)
    return {row.id for row in page.rows}
