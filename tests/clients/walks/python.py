"""The walk of the Python client: `taskstore.py` is what the document gives."""

import itertools
import os
from uuid import uuid4

import pytest
from taskstore import Refused, Taskstore  # type: ignore[import-not-found]

CREATE = """mutation($input: CreateTaskInput!) {
  createTask(input: $input) { task { id title version } replayed errors { code } } }"""
RENAME = """mutation($input: UpdateTaskInput!) { updateTask(input: $input) {
  task { version }
  errors { __typename code ... on ConflictError { currentVersion current { id ... on Task { title } } } } } }"""
PURGE = "mutation($input: PurgeTaskInput!) { purgeTask(input: $input) { purgedTaskId errors { code } } }"
SIGN_UP = "mutation($input: SignUpInput!) { signUp(input: $input) { secret } }"

url = f"{os.environ['TASKSTORE']}/graphql"
email = f"{uuid4().hex}@example.org"
stranger = Taskstore("", url)
del stranger.http.headers["Authorization"]
account = {"email": email, "name": "Ada", "password": "opensesame-opensesame"}
ada = Taskstore(stranger(SIGN_UP, input=account)["signUp"]["secret"], url)

for number in range(5):
    ada(CREATE, input={"title": str(number)})
assert [task["title"] for task in ada.tasks(page=2)] == ["4", "3", "2", "1", "0"]
assert [task["title"] for task in ada.tasks(title={"in": ["1", "3"]})] == ["3", "1"]

made = {"id": str(uuid4()), "title": "Once", "idempotencyKey": str(uuid4())}
first, again = (ada.insist(CREATE, input=made)["createTask"] for _ in range(2))
assert first["task"] == again["task"] == {"id": made["id"], "title": "Once", "version": 1}
assert (first["replayed"], again["replayed"]) == (False, True)

ada(RENAME, input={"id": made["id"], "title": "Elsewhere"})
late = ada(RENAME, input={"id": made["id"], "title": "Late", "ifVersion": 1})["updateTask"]
assert late["task"] is None
assert late["errors"] == [
    {
        "__typename": "ConflictError",
        "code": "STALE_VERSION",
        "currentVersion": 2,
        "current": {"id": made["id"], "title": "Elsewhere"},
    }
]
assert ada(PURGE, input={"id": made["id"]})["purgeTask"] == {"purgedTaskId": made["id"], "errors": []}

with pytest.raises(Refused) as refused:
    list(ada.tasks(page=500))
assert refused.value.code == "BAD_USER_INPUT"

events = ada.subscribe("subscription Clock($every: Float!) { serverTime(everySeconds: $every) }", every=0.1)
assert [event["serverTime"][-1] for event in itertools.islice(events, 2)] == ["Z", "Z"]
events.close()
ada.http.close()
stranger.http.close()
