"""Lists: arguments, pages, cursors, filters, sorting and search, as every connection has them."""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.lists import filters as filter_limits
from persistence.models import Task
from persistence.models.ids import new_id
from tests.conftest import Account, Api
from tests.graph.operations import done, new_task, refused

pytestmark = pytest.mark.anyio

LIST = """query Page($first: Int, $after: String, $last: Int, $before: String, $filter: TaskFilter,
        $orderBy: [TaskOrder!], $search: String, $trash: TrashMode! = EXCLUDE) {
    tasks(first: $first, after: $after, last: $last, before: $before, filter: $filter, orderBy: $orderBy,
            search: $search, trash: $trash) {
        nodes { id title } edges { cursor node { id title } } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
NESTED = LIST.replace("    tasks(", "    viewer { tasks(").replace("endCursor } } }", "endCursor } } } }")
COUNT = "query Count($filter: TaskFilter, $search: String) { tasks(filter: $filter, search: $search) { totalCount } }"
MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


async def page(api: Api, account: Account, **arguments: Any) -> Any:
    """A page, which is the same at the root and below the viewer, but for its cursors."""
    root = (await api(LIST, account, **arguments))["tasks"]
    if "after" not in arguments and "before" not in arguments:
        nested = (await api(NESTED, account, **arguments))["viewer"]["tasks"]
        assert nested["nodes"] == root["nodes"]
        assert nested["totalCount"] == root["totalCount"]
        shown = ("hasNextPage", "hasPreviousPage")
        assert [nested["pageInfo"][name] for name in shown] == [root["pageInfo"][name] for name in shown]
    assert [edge["node"] for edge in root["edges"]] == root["nodes"]
    cursors = [edge["cursor"] for edge in root["edges"]]
    assert (root["pageInfo"]["startCursor"], root["pageInfo"]["endCursor"]) == (
        (cursors[0], cursors[-1]) if cursors else (None, None)
    )
    return root


def titles(page: Any) -> str:
    return "".join(node["title"] for node in page["nodes"])


async def add(engine: AsyncEngine, account: Account, rows: list[dict[str, Any]]) -> None:
    """Tasks with the given columns, made without the API."""
    defaults = {"owner_id": account.id, "title": "x", "tags": [], "due_at": None, "completed_at": None}
    more = {"status": "todo", "priority": "medium", "description": "", "deleted_at": None, "created_at": MOMENT}
    async with engine.begin() as connection:
        await connection.execute(insert(Task), [{"id": new_id(), **defaults, **more, **row} for row in rows])


@pytest.fixture
async def five(engine: AsyncEngine, account: Account) -> None:
    """Tasks A to E of the account, A being the newest."""
    await add(engine, account, [{"title": t, "created_at": MOMENT - timedelta(hours=n)} for n, t in enumerate("ABCDE")])


# -- arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"first": 1, "last": 1}, "first and last"),
        ({"first": -1}, "first"),
        ({"last": -1}, "last"),
        ({"first": 101}, "first"),
        ({"last": 101}, "last"),
        ({"first": 2_147_483_647}, "first"),
        ({"before": "x"}, "before"),
        ({"first": 1, "before": "x"}, "before"),
        ({"last": 1, "after": "x"}, "after"),
        ({"last": 1, "after": "x", "before": "x"}, "after and before"),
        ({"after": ""}, "after"),
        ({"after": "!!"}, "after"),
        ({"after": "ü"}, "after"),
        ({"after": "\ud800"}, "after"),
        ({"after": "bnVsbA"}, "after"),
        ({"last": 2, "before": "W10"}, "before"),
        ({"search": "x" * 501}, "search"),
        ({"search": "a\x00b"}, "search"),
        ({"search": "\ud800"}, "search"),
        ({"orderBy": [{"field": "TITLE"}] * 6}, "orderBy"),
    ],
)
async def test_a_refused_argument_is_named(api: Api, account: Account, arguments: dict[str, Any], words: str) -> None:
    for query in (LIST, NESTED):
        answer = await api.run(query, account, **arguments)
        [error] = answer.errors
        assert (error.extensions or {})["code"] == "BAD_USER_INPUT"
        assert words in error.message


@pytest.mark.parametrize("name", ["first", "after", "last", "before", "filter", "orderBy", "search"])
async def test_a_null_argument_is_an_absent_one(api: Api, account: Account, five: None, name: str) -> None:
    assert (await page(api, account, **{name: None}))["nodes"] == (await page(api, account))["nodes"]


async def test_a_page_has_twenty_items_unless_said_otherwise(api: Api, account: Account, engine: AsyncEngine) -> None:
    await add(engine, account, [{}] * 105)

    assert len((await page(api, account))["nodes"]) == 20
    assert len((await page(api, account, first=100))["nodes"]) == 100
    assert (await page(api, account, last=3))["totalCount"] == 105


async def test_order_and_search_may_be_empty(api: Api, account: Account, five: None) -> None:
    assert titles(await page(api, account, orderBy=[])) == "ABCDE"
    assert titles(await page(api, account, search="  ")) == "ABCDE"


# -- pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "expected", "next_page", "previous_page"),
    [
        ({}, "ABCDE", False, False),
        ({"first": 5}, "ABCDE", False, False),
        ({"first": 4}, "ABCD", True, False),
        ({"first": 0}, "", True, False),
        ({"last": 5}, "ABCDE", False, False),
        ({"last": 2}, "DE", False, True),
        ({"last": 0}, "", False, True),
        ({"first": 2, "after": "A"}, "BC", True, True),
        ({"first": 4, "after": "A"}, "BCDE", False, True),
        ({"after": "E"}, "", False, True),
        ({"last": 2, "before": "E"}, "CD", True, True),
        ({"last": 4, "before": "E"}, "ABCD", True, False),
        ({"last": 1, "before": "A"}, "", True, False),
    ],
)
async def test_page_info_is_exact_in_both_directions(
    api: Api,
    account: Account,
    five: None,
    window: dict[str, Any],
    expected: str,
    next_page: bool,
    previous_page: bool,
) -> None:
    for query in (LIST, NESTED):
        data = await api(query, account)
        whole = data["viewer"]["tasks"] if "viewer" in data else data["tasks"]
        cursors = {edge["node"]["title"]: edge["cursor"] for edge in whole["edges"]}
        data = await api(query, account, **{name: cursors.get(value, value) for name, value in window.items()})
        found = data["viewer"]["tasks"] if "viewer" in data else data["tasks"]

        assert titles(found) == expected
        assert (found["pageInfo"]["hasNextPage"], found["pageInfo"]["hasPreviousPage"]) == (next_page, previous_page)
        assert found["totalCount"] == 5


async def test_an_empty_list_has_no_other_pages(api: Api, account: Account) -> None:
    for window in ({"first": 3}, {"last": 3}):
        info = (await page(api, account, **window))["pageInfo"]
        assert info == {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None}


async def test_a_cursor_survives_the_end_of_its_row(api: Api, account: Account, five: None) -> None:
    first = await page(api, account, first=3)
    await done(api, "purgeTask", account, id=first["nodes"][2]["id"])
    after = await page(api, account, after=first["pageInfo"]["endCursor"])

    assert titles(after) == "DE"
    assert after["pageInfo"]["hasPreviousPage"] is True


async def test_what_is_new_before_a_cursor_does_not_shift_the_next_page(
    api: Api, account: Account, five: None, engine: AsyncEngine
) -> None:
    first = await page(api, account, first=2)
    await add(engine, account, [{"title": "N", "created_at": MOMENT + timedelta(hours=1)}])

    assert titles(await page(api, account, first=2, after=first["pageInfo"]["endCursor"])) == "CD"


@pytest.mark.parametrize(
    "other",
    [
        {"filter": {"status": {"eq": "TODO"}}},
        {"filter": {"title": {"ne": "Z"}}},
        {"orderBy": [{"field": "TITLE"}]},
        {"orderBy": [{"field": "CREATED_AT"}]},
        {"trash": "INCLUDE"},
        {"search": "A"},
    ],
)
async def test_a_cursor_of_another_list_is_refused(
    api: Api, account: Account, five: None, other: dict[str, Any]
) -> None:
    cursor = (await page(api, account, first=2))["pageInfo"]["endCursor"]
    other_cursor = (await page(api, account, first=1, **other))["pageInfo"]["endCursor"]

    assert await refused(api, LIST, account, first=2, after=cursor, **other) == "BAD_USER_INPUT"
    assert await refused(api, LIST, account, first=2, after=other_cursor) == "BAD_USER_INPUT"


async def test_a_cursor_of_the_same_filter_with_another_value_is_refused(
    api: Api, account: Account, five: None
) -> None:
    cursor = (await page(api, account, first=2, filter={"title": {"lt": "D"}}))["pageInfo"]["endCursor"]
    changed = {"filter": {"title": {"lt": "E"}}}

    assert await refused(api, LIST, account, first=2, after=cursor, **changed) == "BAD_USER_INPUT"


async def test_a_cursor_of_somebody_else_shows_nothing_of_theirs(
    api: Api, account: Account, five: None, new_account: Any
) -> None:
    """It is a place among the sort keys of any list of its kind, and in their own list it leads to their own."""
    cursor = (await page(api, account, first=2))["pageInfo"]["endCursor"]
    other = await new_account()
    mine = [(await new_task(api, other, title=title))["id"] for title in "XY"]

    pages = [await page(api, other, first=5, after=cursor), await page(api, other, last=5, before=cursor)]
    assert sorted(node["id"] for found in pages for node in found["nodes"]) == sorted(mine)
    assert [found["totalCount"] for found in pages] == [2, 2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(JSON, max_size=4), order=st.sampled_from(["CREATED_AT", "DUE", "TITLE", "PRIORITY", None]))
async def test_a_forged_cursor_is_an_error_of_its_sender(
    api: Api, account: Account, five: None, keys: list[Any], order: str | None
) -> None:
    arguments: dict[str, Any] = {"orderBy": [{"field": order}]} if order else {"search": "A"}
    [edge] = (await api(LIST, account, first=1, **arguments))["tasks"]["edges"]
    mark, *values = json.loads(base64.urlsafe_b64decode(edge["cursor"] + "==="))
    for forged in ([mark, *keys], [mark, *keys, values[-1]], [mark, values[0], *keys], keys):
        text = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        answer = await api.run(LIST, account, first=1, after=text, **arguments)
        codes = [(error.extensions or {})["code"] for error in answer.errors]
        could_be_one = len(forged) == 1 + len(values) and forged[0] == mark
        assert codes == ["BAD_USER_INPUT"] or (could_be_one and codes == []), forged


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40) | st.binary(max_size=30).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
async def test_garbage_is_no_cursor(text: str) -> None:
    from graph.execution.errors import RequestError
    from graph.lists.arguments import decode_cursor
    from persistence.lists.listing import Query
    from persistence.tasks import LISTING

    with pytest.raises(RequestError) as refusal:
        decode_cursor(Query(LISTING), "mark", text, "after")
    assert refusal.value.code == "BAD_USER_INPUT"


# -- filters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({"status": None}, "filter.status"),
        ({"status": {"eq": None}}, "filter.status.eq"),
        ({"title": {"in": None}}, "filter.title.in"),
        ({"dueAt": {"lt": None}}, "filter.dueAt.lt"),
        ({"and": None}, "filter.and"),
        ({"not": None}, "filter.not"),
        ({"or": [{"title": {"eq": "x"}}, {"owner": None}]}, "filter.or[1].owner"),
        ({"id": {"eq": "no id"}}, "filter.id.eq"),
        ({"id": {"in": [str(uuid.UUID(int=1)), ""]}}, "filter.id.in"),
        ({"owner": {"id": {"ne": "x"}}}, "filter.owner.id.ne"),
        ({"title": {"contains": "a\x00b"}}, "filter.title.contains"),
        ({"title": {"startsWith": "\ud800"}}, "filter.title.startsWith"),
        ({"tags": {"hasAny": ["ok", "\x00"]}}, "filter.tags.hasAny"),
        ({"title": {"in": ["x"] * (filter_limits.MAX_VALUES + 1)}}, "filter.title.in"),
        ({"and": [{"title": {"eq": "x"}}] * filter_limits.MAX_NODES}, "more than 100"),
    ],
)
async def test_a_refused_filter_is_named(api: Api, account: Account, filter: Any, words: str) -> None:
    answer = await api.run(LIST, account, filter=filter)

    [error] = answer.errors
    assert (error.extensions or {})["code"] == "BAD_USER_INPUT"
    assert words in error.message
    assert "Maybe" not in error.message


@pytest.mark.parametrize("wrap", [lambda f: {"not": f}, lambda f: {"and": [f]}, lambda f: {"or": [f]}])
async def test_the_depth_of_a_filter_is_bounded(api: Api, account: Account, wrap: Any) -> None:
    filter: Any = {"title": {"eq": "x"}}
    for _ in range(filter_limits.MAX_DEPTH - 1):
        filter = wrap(filter)
    await api(COUNT, account, filter=filter)

    assert await refused(api, COUNT, account, filter=wrap(filter)) == "BAD_USER_INPUT"


@pytest.mark.parametrize("filter", [{"colour": {"eq": "x"}}, {"title": {"like": "x"}}, {"status": {"eq": "OPEN"}}])
async def test_an_unknown_condition_is_an_error(api: Api, account: Account, filter: Any) -> None:
    assert await refused(api, LIST, account, filter=filter) == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "ABCDE"),
        ({"and": []}, "ABCDE"),
        ({"or": []}, ""),
        ({"not": {}}, ""),
        ({"not": {"or": []}}, "ABCDE"),
        ({"and": [{}, {"title": {}}]}, "ABCDE"),
        ({"or": [{"title": {"eq": "B"}}, {"title": {"eq": "D"}}]}, "BD"),
        ({"title": {"gt": "A", "lte": "D"}, "not": {"title": {"eq": "C"}}}, "BD"),
        ({"title": {"in": ["A", "E", "A"]}}, "AE"),
        ({"title": {"in": []}}, ""),
        ({"title": {"notIn": []}}, "ABCDE"),
        ({"title": {"notIn": ["A"]}}, "BCDE"),
        ({"title": {"eq": "a"}}, ""),
        ({"title": {"contains": "%"}}, ""),
        ({"dueAt": {"isNull": True}}, "ABCDE"),
        ({"dueAt": {"isNull": False}}, ""),
        ({"dueAt": {"ne": "2030-01-01T00:00:00Z"}}, "ABCDE"),
        ({"not": {"dueAt": {"lt": "2030-01-01T00:00:00Z"}}}, "ABCDE"),
        ({"createdAt": {"gte": "2029-12-31T23:00:00+01:00"}}, "ABC"),
        ({"owner": {"name": {"eq": "Ada"}}}, "ABCDE"),
        ({"owner": {}}, "ABCDE"),
        ({"owner": {"not": {"name": {"startsWith": "A"}}}}, ""),
        ({"version": {"eq": 1}}, "ABCDE"),
        ({"version": {"gt": 2_147_483_647}}, ""),
        ({"tags": {"hasNone": []}}, "ABCDE"),
        ({"tags": {"hasAll": []}}, "ABCDE"),
        ({"tags": {"hasAny": []}}, ""),
    ],
)
async def test_a_filter_means_what_it_says(api: Api, account: Account, five: None, filter: Any, expected: str) -> None:
    found = await page(api, account, filter=filter)

    assert (titles(found), found["totalCount"]) == (expected, len(expected))


async def test_tags_are_compared_without_regard_to_case(api: Api, account: Account) -> None:
    await new_task(api, account, title="A", tags=["Home", "Straße"])
    await new_task(api, account, title="B", tags=["home"])

    assert titles(await page(api, account, filter={"tags": {"hasAll": ["HOME ", "STRASSE"]}})) == "A"
    assert titles(await page(api, account, filter={"tags": {"hasNone": ["strasse"]}})) == "B"


async def test_a_filter_by_owner_shows_nothing_of_others(api: Api, account: Account, new_account: Any) -> None:
    other = await new_account()
    await new_task(api, other)

    for filter in ({"owner": {"id": {"eq": str(other.id)}}}, {"owner": {"email": {"eq": other.email}}}):
        assert (await api(COUNT, account, filter=filter))["tasks"]["totalCount"] == 0


# -- order and search ---------------------------------------------------------------------------------


async def test_a_field_that_is_named_twice_counts_once(api: Api, account: Account, five: None) -> None:
    order = [{"field": "TITLE", "direction": "DESC"}, {"field": "TITLE"}, {"field": "CREATED_AT"}]

    assert titles(await page(api, account, orderBy=order)) == "EDCBA"


@pytest.mark.parametrize(
    ("direction", "nulls", "expected"),
    [
        ("ASC", None, "12-"),
        ("DESC", None, "-21"),
        ("ASC", "FIRST", "-12"),
        ("ASC", "LAST", "12-"),
        ("DESC", "FIRST", "-21"),
        ("DESC", "LAST", "21-"),
    ],
)
async def test_missing_values_come_where_they_are_wanted(
    api: Api, account: Account, engine: AsyncEngine, direction: str, nulls: str | None, expected: str
) -> None:
    rows = [{"title": str(n), "due_at": MOMENT + timedelta(n)} for n in (2, 1)]
    await add(engine, account, [*rows, {"title": "-"}])
    order = [{"field": "DUE", "direction": direction, "nulls": nulls}]

    assert titles(await page(api, account, orderBy=order)) == expected


async def test_priority_and_status_are_sorted_by_their_meaning(api: Api, account: Account, engine: AsyncEngine) -> None:
    rows = [{"title": priority[0], "priority": priority} for priority in ("urgent", "low", "high", "medium")]
    await add(engine, account, rows)

    assert titles(await page(api, account, orderBy=[{"field": "PRIORITY"}])) == "lmhu"
    assert titles(await page(api, account, orderBy=[{"field": "PRIORITY", "direction": "DESC"}])) == "uhml"


async def test_case_accents_and_width_may_be_ignored(api: Api, account: Account) -> None:
    for title in ("Größe 10", "größe 2", "Gros"):
        await new_task(api, account, title=title)

    async def found(**title: str) -> list[str]:
        by_title = [{"field": "TITLE"}]
        return [n["title"] for n in (await page(api, account, filter={"title": title}, orderBy=by_title))["nodes"]]

    assert await found(containsIgnoreCase="OSSE") == ["größe 2", "Größe 10"]
    assert await found(startsWithIgnoreCase="ｇｒｏ") == ["Gros", "größe 2", "Größe 10"]  # noqa: RUF001  # wide letters
    assert await found(eqIgnoreCase="GROSSE 2") == ["größe 2"]
    assert await found(endsWith="e 10") == ["Größe 10"]
    assert (await page(api, account, search="grosse -gros"))["totalCount"] == 2


async def test_a_search_is_ranked_unless_an_order_is_given(api: Api, account: Account) -> None:
    best = await new_task(api, account, title="Report on reports: the report")
    body = await new_task(api, account, title="Write", description="a report")
    await new_task(api, account, title="Something else")

    def ids(found: Any) -> list[str]:
        return [node["id"] for node in found["nodes"]]

    assert ids(await page(api, account, search="report")) == [best["id"], body["id"]]
    assert ids(await page(api, account, search="REP")) == [best["id"], body["id"]]
    newest = [{"field": "CREATED_AT", "direction": "DESC"}]
    assert ids(await page(api, account, search="report", orderBy=newest)) == [body["id"], best["id"]]
    first = await page(api, account, search="report", first=1)
    rest = await page(api, account, search="report", after=first["pageInfo"]["endCursor"])
    assert ids(first) + ids(rest) == [best["id"], body["id"]]
    assert (await page(api, account, search='"on reports" -write'))["totalCount"] == 1
    assert (await page(api, account, search="write or else"))["totalCount"] == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(search=st.text(max_size=60) | st.text("'\"\\:*&|!()<-> aé\n%_", max_size=30))
async def test_no_search_is_an_error(api: Api, account: Account, five: None, search: str) -> None:
    answer = await api.run(COUNT, account, search=search)

    codes = [(error.extensions or {})["code"] for error in answer.errors]
    assert codes == (["BAD_USER_INPUT"] if "\x00" in search else [])


FIELDS = ["CREATED_AT", "UPDATED_AT", "DUE", "COMPLETED_AT", "PRIORITY", "STATUS", "TITLE"]
ORDERS = st.lists(
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(FIELDS),
            "direction": st.sampled_from(["ASC", "DESC"]),
            "nulls": st.sampled_from([None, "FIRST", "LAST"]),
        }
    ),
    max_size=3,
)


ROW = st.fixed_dictionaries(
    {
        "title": st.sampled_from(["a", "B", "b", "ä"]),
        "status": st.sampled_from(["todo", "done", "cancelled"]),
        "priority": st.sampled_from(["low", "urgent"]),
        "due_at": st.sampled_from([None, MOMENT, MOMENT + timedelta(microseconds=1)]),
        "created_at": st.sampled_from([MOMENT, MOMENT + timedelta(1)]),
    }
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=ORDERS, size=st.integers(1, 7), rows=st.lists(ROW, max_size=12), backward=st.booleans(), nested=st.booleans()
)
async def test_walking_the_pages_equals_the_unpaged_list(
    api: Api,
    new_account: Any,
    engine: AsyncEngine,
    order: list[dict[str, Any]],
    size: int,
    backward: bool,
    nested: bool,
    rows: list[dict[str, Any]],
) -> None:
    owner = await new_account()
    if rows:
        await add(engine, owner, [{**row, "completed_at": MOMENT if row["status"] == "done" else None} for row in rows])
    query = NESTED if nested else LIST

    async def part(**arguments: Any) -> Any:
        found = await api(query, owner, orderBy=order, **arguments)
        return found["viewer"]["tasks"] if nested else found["tasks"]

    whole = (await part(first=100))["nodes"]
    assert len(whole) == len(rows)
    walked: list[Any] = []
    cursor: str | None = None
    while True:
        if backward:
            found = await part(last=size, before=cursor)
            walked = found["nodes"] + walked
            cursor, more = found["pageInfo"]["startCursor"], found["pageInfo"]["hasPreviousPage"]
        else:
            found = await part(first=size, after=cursor)
            walked += found["nodes"]
            cursor, more = found["pageInfo"]["endCursor"], found["pageInfo"]["hasNextPage"]
        if not more:
            break
        assert len(found["nodes"]) == size
    assert walked == whole
