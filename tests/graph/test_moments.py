"""Moments in the hands of clients: what docs/api.md says of their texts, and of lists that are sorted by them."""

from datetime import datetime
from typing import Any

import pytest

from tests.conftest import Account, Api

pytestmark = pytest.mark.anyio

CREATE = "mutation($input: CreateTaskInput!) { createTask(input: $input) { task { id updatedAt } errors { code } } }"
TOUCH = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { id } errors { code } } }"
FOUND = "query($filter: TaskFilter) { tasks(filter: $filter) { nodes { id } } }"
PAGE = """query($after: String, $direction: OrderDirection!) {
    tasks(first: 2, after: $after, orderBy: [{field: UPDATED_AT, direction: $direction}]) {
        nodes { id } pageInfo { hasNextPage endCursor } } }"""


async def created(api: Api, account: Account, title: str) -> Any:
    return (await api(CREATE, account, input={"title": title}))["createTask"]["task"]


async def test_a_moment_is_found_by_its_text_and_not_by_its_milliseconds(api: Api, account: Account) -> None:
    task = await created(api, account, "Now")
    while task["updatedAt"][20:26].endswith("000"):  # a whole millisecond, once in a thousand
        task = await created(api, account, "Now")
    as_date = datetime.fromisoformat(task["updatedAt"]).isoformat(timespec="milliseconds")  # as JavaScript's Date
    by_text = await api(FOUND, account, filter={"updatedAt": {"eq": task["updatedAt"]}})
    by_date = await api(FOUND, account, filter={"updatedAt": {"lte": as_date}, "id": {"eq": task["id"]}})

    assert [node["id"] for node in by_text["tasks"]["nodes"]] == [task["id"]]
    assert by_date["tasks"]["nodes"] == []


@pytest.mark.parametrize(("direction", "seen"), [("ASC", ["0", "1", "2", "3", "1", "3"]), ("DESC", ["3", "2", "0"])])
async def test_a_task_that_is_touched_while_a_list_by_updated_at_is_walked(
    api: Api, account: Account, direction: str, seen: list[str]
) -> None:
    """Ascending it comes once more and none is missed; descending, one that was not reached yet is missed."""
    titles = {(await created(api, account, title))["id"]: title for title in "0123"}
    ids = {title: id for id, title in titles.items()}
    found: list[str] = []
    cursor = None
    for touched in ("1", "3", None):
        page = (await api(PAGE, account, after=cursor, direction=direction))["tasks"]
        found += [titles[node["id"]] for node in page["nodes"]]
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        if touched is not None:
            await api(TOUCH, account, input={"id": ids[touched], "description": "touched"})

    assert found == seen
