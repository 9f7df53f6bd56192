"""Tasks through the API."""

import pytest

from tests.conftest import Account, Api

pytestmark = pytest.mark.anyio

CREATE = """mutation($input: CreateTaskInput!) { createTask(input: $input) {
    task { id title description status completed priority tags dueAt overdue completedAt version
           createdAt updatedAt deletedAt owner { id name } }
    replayed errors { __typename code message path } } }"""


async def test_a_created_task_has_what_was_given_and_defaults(api: Api, account: Account) -> None:
    data = await api(
        CREATE, account, input={"title": "  Write  ", "tags": ["Home", "home "], "dueAt": "2026-12-01T09:00:00+01:00"}
    )

    task = data["createTask"]["task"]
    assert (task["title"], task["tags"], task["status"], task["dueAt"]) == (
        "Write",
        ["home"],
        "TODO",
        "2026-12-01T08:00:00Z",
    )
    assert task["owner"] == {"id": str(account.id), "name": "Ada"}
    assert data["createTask"]["errors"] == []
