"""What is wrong with the arguments of a list refuses the request before anything runs, and never nulls a parent."""

from dataclasses import replace
from typing import Any

import pytest

from persistence.settings import Settings
from tests.conftest import Account, Api
from tests.graph.operations import new_task
from tests.graph.queries import watched

pytestmark = pytest.mark.anyio

NODES = "{ nodes { id } }"
STALE = "WyJvbGQiLDFd"
SOMETHING = "01930000-0000-7000-8000-000000000000"
BELOW_VIEWER = {
    "a page that is too large": ("tasks(first: 500)", "first"),
    "a page of a negative size": ("tasks(last: -1)", "last"),
    "two ends": ("tasks(first: 1, last: 1)", "last"),
    "two cursors": ('tasks(last: 1, after: "a", before: "b")', "before"),
    "a cursor without its end": ('tasks(before: "a")', "before"),
    "a stale cursor": (f'tasks(first: 1, after: "{STALE}")', "after"),
    "no cursor": ('tasks(after: "")', "after"),
    "a stale cursor of tokens": (f'tokens(last: 1, before: "{STALE}")', "before"),
    "no id in a filter": ('tasks(filter: {or: [{title: {eq: "a"}}, {id: {in: ["x"]}}]})', "filter.or[1].id.in"),
    "an odd character": ('tasks(filter: {title: {contains: "\\u0000"}})', "filter.title.contains"),
    "a long search": (f'tasks(search: "{"x" * 501}")', "search"),
}


@pytest.mark.parametrize(("field", "argument"), BELOW_VIEWER.values(), ids=list(BELOW_VIEWER))
@pytest.mark.parametrize("kind", ["literal", "alias", "fragment", "inline", "nested"])
async def test_a_wrong_argument_leaves_no_data(
    api: Api, stock_api: Api, account: Account, field: str, argument: str, kind: str
) -> None:
    """No `viewer: null`, which a client's cache would keep for good."""
    query, path = {
        "literal": (f"{{ viewer {{ id {field} {NODES} }} }}", ["viewer", field.split("(")[0]]),
        "alias": (f"{{ me: viewer {{ id mine: {field} {NODES} }} }}", ["me", "mine"]),
        "fragment": (
            f"{{ viewer {{ ...Mine }} }} fragment Mine on User {{ id mine: {field} {NODES} }}",
            ["viewer", "mine"],
        ),
        "inline": (f"{{ viewer {{ ... on Node {{ ... on User {{ x: {field} {NODES} }} }} }} }}", ["viewer", "x"]),
        "nested": (
            f"{{ tasks {{ nodes {{ owner {{ x: {field} {NODES} }} }} }} }}",
            ["tasks", "nodes", "owner", "x"],
        ),
    }[kind]
    for executor in (api, stock_api):
        answer = await executor.run(query, account)

        [error] = answer.errors
        assert (answer.data, answer.result.executed, answer.statements) == (None, False, 0)
        assert error.extensions == {"code": "BAD_USER_INPUT", "argument": argument, "path": path}
        assert error.message.startswith((argument, "first and last", "after", "before"))
        assert error.locations


WITH_VARIABLES = """query($first: Int = 5, $after: String, $filter: TaskFilter, $id: ID = "", $with: Boolean! = true) {
    viewer { id tasks(first: $first, after: $after, filter: $filter) @include(if: $with) { nodes { id } }
        others: tasks(filter: {not: {id: {eq: $id}}}) @skip(if: $with) { nodes { id } } } }"""


@pytest.mark.parametrize(
    ("variables", "argument"),
    [
        ({"first": 101}, "first"),
        ({"first": -(2**31)}, "first"),
        ({"after": STALE}, "after"),
        ({"filter": {"id": {"eq": "x"}}}, "filter.id.eq"),
        ({"filter": {"status": None}}, "filter.status"),
        ({"filter": {"not": {"title": {"eq": None}}}}, "filter.not.title.eq"),
        ({"id": "x", "with": False}, "filter.not.id.eq"),
    ],
)
async def test_a_wrong_variable_does_the_same(
    api: Api, stock_api: Api, account: Account, variables: dict[str, Any], argument: str
) -> None:
    for executor in (api, stock_api):
        for _ in range(2):  # the second time from what was kept
            answer = await executor.run(WITH_VARIABLES, account, **variables)
            [error] = answer.errors
            assert (answer.data, answer.result.executed, answer.statements) == (None, False, 0)
            assert (error.extensions or {})["argument"] == argument


@pytest.mark.parametrize("variables", [{"after": STALE, "with": False, "id": SOMETHING}, {"id": "x"}, {"first": None}])
async def test_a_field_that_is_left_out_is_not_looked_at(api: Api, account: Account, variables: dict[str, Any]) -> None:
    data = await api(WITH_VARIABLES, account, **variables)

    assert data["viewer"]["id"] == str(account.id)


async def test_everything_that_is_wrong_is_told_at_once(api: Api, account: Account) -> None:
    query = (
        "{ a: tasks(first: 500) { totalCount } viewer { b: tasks(last: 500) { totalCount } tokens { totalCount } } }"
    )
    answer = await api.run(query, account)

    assert sorted((error.extensions or {})["path"] for error in answer.errors) == [["a"], ["viewer", "b"]]


async def test_it_is_told_before_anybody_is_asked_who_they_are_and_before_it_is_charged(
    settings: Settings, account: Account
) -> None:
    small = replace(settings, rate_budget=25, rate_refill=0.0)
    query = "query($n: Int) { tasks(first: $n) { nodes { id } } }"
    async with watched(small) as server:
        refused = [await server.post(query, account.authorization, n=500) for _ in range(3)]
        ran = await server.statements()
        stranger = await server.post(query, {"Authorization": "Bearer nobody"}, n=500)
        allowed = await server.post(query, account.authorization, n=20)

    assert {answer.status_code for answer in [*refused, stranger]} == {422}
    assert all("data" not in answer.json() for answer in refused)
    assert ran == []
    assert allowed.json()["extensions"]["cost"]["remaining"] == 5


async def test_a_cursor_leads_on_in_the_same_list_below_the_viewer_and_at_the_root(api: Api, account: Account) -> None:
    ids = [(await new_task(api, account))["id"] for _ in range(3)][::-1]
    below = await api("{ viewer { tasks(first: 1) { nodes { id } pageInfo { endCursor } } } }", account)
    cursor = below["viewer"]["tasks"]["pageInfo"]["endCursor"]
    at_root = await api("query($c: String) { tasks(after: $c) { nodes { id } } }", account, c=cursor)

    assert [node["id"] for node in below["viewer"]["tasks"]["nodes"]] == ids[:1]
    assert [node["id"] for node in at_root["tasks"]["nodes"]] == ids[1:]


@pytest.mark.parametrize(
    ("query", "variables", "said"),
    [
        ("{ viewer { tasks(trash: null) { totalCount } } }", {}, "not to be null."),
        ("query($id: ID!) { task(id: $id) { id } }", {"id": None}, "not to be null."),
        ("query($id: ID!) { task(id: $id) { id } }", {"id": True}, "represent value: true"),
        ("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": {"x": False}}, "found: {'x': false}."),
        ("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": [None]}, "found: [null]."),
        ("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": "it's None"}, 'found: "it\'s None".'),
        (
            "query($f: TaskFilter) { tasks(filter: $f) { totalCount } }",
            {"f": {"dueAt": {"eq": True}}},
            "represent true;",
        ),
    ],
)
async def test_what_is_wrong_with_a_value_is_said_in_json_and_not_in_python(
    settings: Settings, account: Account, query: str, variables: dict[str, Any], said: str
) -> None:
    async with watched(settings) as server:
        answer = await server.post(query, account.authorization, **variables)

    [error] = answer.json()["errors"]
    assert said in error["message"]
