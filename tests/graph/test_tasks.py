"""Tasks through the API."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from persistence.models import Role, Scope
from tests.conftest import Account, Api
from tests.graph.operations import TASK, done, new_task, problems, refused, write

pytestmark = pytest.mark.anyio

ONE = f"query One($id: ID!) {{ task(id: $id) {TASK} }}"
LIST = "query List($trash: TrashMode! = EXCLUDE) { tasks(trash: $trash) { nodes { id } totalCount } }"
ACTIONS = ("completeTask", "reopenTask", "deleteTask", "restoreTask", "purgeTask")
EDITS = ("updateTask", *ACTIONS)


async def read(api: Api, account: Account, id: str) -> Any:
    return (await api(ONE, account, id=id))["task"]


def key() -> str:
    return str(uuid.uuid4())


# -- create -------------------------------------------------------------------------------------------


async def test_a_created_task_has_what_was_given_and_defaults(api: Api, account: Account) -> None:
    before = datetime.now(UTC)
    payload = await done(
        api, "createTask", account, title="  Write  ", tags=["Home", "home "], dueAt="2026-12-01T09:00:00+01:00"
    )

    task = payload["task"]
    moment = task.pop("createdAt")
    assert abs((datetime.fromisoformat(moment) - before).total_seconds()) < 60
    assert task.pop("updatedAt") == moment
    assert payload["replayed"] is False
    assert task == {
        "id": str(uuid.UUID(task["id"])),
        "title": "Write",
        "description": "",
        "status": "TODO",
        "completed": False,
        "priority": "MEDIUM",
        "tags": ["home"],
        "dueAt": "2026-12-01T08:00:00Z",
        "overdue": False,
        "completedAt": None,
        "version": 1,
        "deletedAt": None,
        "owner": {"id": str(account.id), "name": "Ada"},
    }


async def test_a_task_is_read_back_as_it_was_created(api: Api, account: Account) -> None:
    task = await new_task(
        api,
        account,
        title="A\tb \u2013 \U0001f600",
        description="  # kept  \n",
        status="IN_PROGRESS",
        priority="URGENT",
        tags=["b", "a"],
        dueAt="2020-01-01T00:00:00.123456Z",
    )

    assert await read(api, account, task["id"]) == task
    assert (task["overdue"], task["dueAt"], task["tags"]) == (True, "2020-01-01T00:00:00.123456Z", ["b", "a"])
    assert task["description"] == "  # kept  \n"


@pytest.mark.parametrize(
    ("given", "message", "path"),
    [
        (
            {"title": "a\u202eb"},
            "title contains U+202E RIGHT-TO-LEFT OVERRIDE, a character that cannot be seen.",
            "title",
        ),
        ({"title": "a\nb"}, "title must have one line, and contains U+000A, a line break.", "title"),
        ({"title": "\u200b"}, "title must not be empty.", "title"),
        ({"title": "a\ud800"}, "title contains U+D800, half of a surrogate pair.", "title"),
        ({"description": "a\x1bb"}, "description contains U+001B, a control character.", "description"),
        ({"tags": ["fine", "\U000e0041"]}, "A tag must not be empty.", "tags.1"),
        ({"tags": ["fine", "a\x85b"]}, "A tag must have one line, and contains U+0085, a line break.", "tags.1"),
    ],
)
async def test_what_is_wrong_with_a_text_is_said_in_words(
    api: Api, account: Account, given: dict[str, Any], message: str, path: str
) -> None:
    payload = await write(api, "createTask", account, **{"title": "fine", **given})

    (error,) = payload["errors"]
    assert (error["__typename"], error["message"], ".".join(error["path"])) == ("ValidationError", message, path)


async def test_a_text_is_found_however_its_letters_are_composed(api: Api, account: Account) -> None:
    task = await new_task(api, account, title="Cafe\u0301", tags=["\ua7cb", "Stra\u00dfe", "STRASSE", "ur\u200bgent"])

    assert (task["title"], task["tags"][1:]) == ("Caf\u00e9", ["strasse", "urgent"])
    for filter in (
        {"title": {"eq": "Cafe\u0301"}},
        {"title": {"in": ["Caf\u00e9"]}},
        {"title": {"startsWith": "Cafe\u0301"}},
        {"tags": {"hasAll": ["\ua7cb", "STRA\u1e9eE", "\uff35rgen\u00adt"]}},
    ):
        query = "query ($filter: TaskFilter) { tasks(filter: $filter) { nodes { id } } }"
        found = await api(query, account, filter=filter)
        assert found["tasks"]["nodes"] == [{"id": task["id"]}]


async def test_a_task_can_be_created_done(api: Api, account: Account) -> None:
    task = await new_task(api, account, status="DONE", dueAt="2020-01-01T00:00:00Z")

    assert (task["completed"], task["completedAt"] is not None, task["overdue"]) == (True, True, False)


async def test_all_problems_of_a_new_task_are_told_at_once(api: Api, account: Account) -> None:
    payload = await write(
        api,
        "createTask",
        account,
        id="no-id",
        title="   ",
        description="x" * 10_001,
        tags=["ok", " ", "y" * 51, "a\x00b"],
        idempotencyKey="short",
    )

    assert payload["task"] is None
    assert sorted(problems(payload)) == sorted(
        [
            ("ValidationError", "INVALID_ID", "id"),
            ("ValidationError", "TOO_SHORT", "title"),
            ("ValidationError", "TOO_LONG", "description"),
            ("ValidationError", "TOO_SHORT", "tags.1"),
            ("ValidationError", "TOO_LONG", "tags.2"),
            ("ValidationError", "INVALID_CHARACTER", "tags.3"),
            ("ValidationError", "INVALID_KEY", "idempotencyKey"),
        ]
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"title": ""}, ("TOO_SHORT", "title")),
        ({"title": "x" * 501}, ("TOO_LONG", "title")),
        ({"title": "a\x00b"}, ("INVALID_CHARACTER", "title")),
        ({"description": "a\x00b"}, ("INVALID_CHARACTER", "description")),
        ({"tags": [str(n) for n in range(21)]}, ("TOO_MANY", "tags")),
        ({"idempotencyKey": "k" * 256}, ("INVALID_KEY", "idempotencyKey")),
        ({"idempotencyKey": "with a \x00 nul"}, ("INVALID_KEY", "idempotencyKey")),
    ],
)
async def test_a_bad_value_names_its_field(
    api: Api, account: Account, given: dict[str, Any], expected: tuple[str, str]
) -> None:
    payload = await write(api, "createTask", account, **{"title": "Write", **given})

    assert problems(payload) == [("ValidationError", *expected)]
    assert (await api(LIST, account))["tasks"]["totalCount"] == 0


async def test_values_at_their_limits_are_accepted(api: Api, account: Account) -> None:
    tags = [f"{n:02}" + "t" * 48 for n in range(20)]
    task = await new_task(api, account, title="ü" * 500, description="\U0001f600" * 10_000, tags=tags)

    assert (len(task["title"]), len(task["description"]), task["tags"]) == (500, 10_000, tags)


@pytest.mark.parametrize("field", ["description", "status", "priority", "tags", "ownerId", "id", "idempotencyKey"])
async def test_null_is_absent_where_a_task_is_made(api: Api, account: Account, field: str) -> None:
    absent, null = await new_task(api, account), await new_task(api, account, **{field: None})

    same = ("title", "description", "status", "priority", "tags", "owner", "version")
    assert [null[name] for name in same] == [absent[name] for name in same]


async def test_a_due_time_of_null_is_no_due_time(api: Api, account: Account) -> None:
    assert (await new_task(api, account, dueAt=None))["dueAt"] is None


async def test_a_retry_with_the_same_id_gets_the_task_that_is_there(api: Api, account: Account) -> None:
    id = str(uuid.uuid4())
    task = await new_task(api, account, id=id)
    payload = await write(api, "createTask", account, id=id, title="Another")

    [error] = payload["errors"]
    assert (task["id"], payload["task"]) == (id, None)
    assert problems(payload) == [("ConflictError", "ID_TAKEN", "id")]
    assert error["currentVersion"] == 1
    assert error["current"] == {"__typename": "Task", "id": id, "title": "Write", "version": 1}


async def test_concurrent_creates_with_one_id_make_one_task(api: Api, account: Account) -> None:
    id = str(uuid.uuid4())
    payloads = await asyncio.gather(*(write(api, "createTask", account, id=id, title=str(n)) for n in range(5)))

    assert sum(payload["task"] is not None for payload in payloads) == 1
    codes = [problems(payload) for payload in payloads if payload["task"] is None]
    assert codes == [[("ConflictError", "ID_TAKEN", "id")]] * 4


async def test_an_id_that_is_taken_by_somebody_else_shows_nothing_of_it(
    api: Api, account: Account, new_account: Any
) -> None:
    other = await new_account()
    task = await new_task(api, other, title="Secret")
    payload = await write(api, "createTask", account, id=task["id"], title="Mine")

    assert problems(payload) == [("ConflictError", "ID_TAKEN", "id")]
    assert payload["errors"][0]["current"] is None
    assert payload["errors"][0]["currentVersion"] is None


async def test_an_admin_creates_for_somebody_else(api: Api, account: Account, admin: Account) -> None:
    task = await new_task(api, admin, ownerId=str(account.id))

    assert task["owner"]["id"] == str(account.id)
    assert await read(api, account, task["id"]) == task


async def test_a_member_cannot_create_for_somebody_else(api: Api, account: Account, admin: Account) -> None:
    missing = await write(api, "createTask", account, title="x", ownerId=str(uuid.uuid4()))
    theirs = await write(api, "createTask", account, title="x", ownerId=str(admin.id))
    own = await write(api, "createTask", account, title="x", ownerId=str(account.id).upper())

    assert problems(theirs) == [("ForbiddenError", "FORBIDDEN", "ownerId")]
    assert theirs == missing
    assert own["task"]["owner"]["id"] == str(account.id)


@pytest.mark.parametrize("owner", ["nobody", str(uuid.UUID(int=7))])
async def test_an_owner_who_does_not_exist_is_not_found(api: Api, admin: Account, owner: str) -> None:
    payload = await write(api, "createTask", admin, title="x", ownerId=owner)

    assert problems(payload) == [("NotFoundError", "NOT_FOUND", "ownerId")]


async def test_an_admin_role_without_the_scope_is_a_member(api: Api, account: Account, new_account: Any) -> None:
    limited = await new_account(Role.ADMIN, scopes=(Scope.READ, Scope.WRITE))
    task = await new_task(api, account)

    assert await read(api, limited, task["id"]) is None
    payload = await write(api, "createTask", limited, title="x", ownerId=str(account.id))
    assert problems(payload) == [("ForbiddenError", "FORBIDDEN", "ownerId")]


# -- update -------------------------------------------------------------------------------------------


async def test_an_update_changes_what_is_given_and_nothing_else(api: Api, account: Account) -> None:
    task = await new_task(api, account, description="more", tags=["a"], dueAt="2030-01-01T00:00:00Z")
    updated = (await done(api, "updateTask", account, id=task["id"], title=" New ", priority="LOW"))["task"]

    assert updated == {**task, "title": "New", "priority": "LOW", "version": 2, "updatedAt": updated["updatedAt"]}
    assert updated["updatedAt"] > task["updatedAt"]
    assert await read(api, account, task["id"]) == updated


async def test_an_update_without_a_difference_makes_no_version(api: Api, account: Account) -> None:
    task = await new_task(api, account, tags=["a"])
    same = (await done(api, "updateTask", account, id=task["id"], title="Write", addTags=["A"]))["task"]

    assert same == task


async def test_null_clears_the_due_time_and_absent_keeps_it(api: Api, account: Account) -> None:
    task = await new_task(api, account, dueAt="2030-01-01T00:00:00Z")
    kept = await done(api, "updateTask", account, id=task["id"], title="b")
    cleared = await done(api, "updateTask", account, id=task["id"], dueAt=None)

    assert kept["task"]["dueAt"] == "2030-01-01T00:00:00Z"
    assert cleared["task"]["dueAt"] is None


@pytest.mark.parametrize(
    "field", ["title", "description", "status", "priority", "tags", "addTags", "removeTags", "ifVersion"]
)
async def test_an_update_refuses_null_for_what_cannot_be_null(api: Api, account: Account, field: str) -> None:
    task = await new_task(api, account)
    payload = await write(api, "updateTask", account, id=task["id"], **{field: None})

    assert problems(payload) == [("ValidationError", "NULL_NOT_ALLOWED", field)]
    assert await read(api, account, task["id"]) == task


async def test_null_for_a_title_is_refused_in_a_literal_as_well(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    literal = f'mutation {{ updateTask(input: {{id: "{task["id"]}", title: null}}) {{ errors {{ code path }} }} }}'
    data = await api(literal, account)

    assert data["updateTask"]["errors"] == [{"code": "NULL_NOT_ALLOWED", "path": ["title"]}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tags": ["C", "c", "b"]}, ["c", "b"]),
        ({"tags": []}, []),
        ({"addTags": ["B", "c"]}, ["a", "b", "c"]),
        ({"removeTags": ["A", "x"]}, ["b"]),
        ({"addTags": ["c"], "removeTags": ["b"]}, ["a", "c"]),
        ({"tags": ["x"], "addTags": ["y"], "removeTags": ["x"]}, ["y"]),
        ({"addTags": ["c"], "removeTags": ["C"]}, ["a", "b"]),
        ({"tags": ["STRASSE", "straße", "ÄÖ"]}, ["strasse", "äö"]),
    ],
)
async def test_tags_are_replaced_added_and_removed(
    api: Api, account: Account, given: dict[str, Any], expected: list[str]
) -> None:
    task = await new_task(api, account, tags=["a", "b"])
    updated = await done(api, "updateTask", account, id=task["id"], **given)

    assert updated["task"]["tags"] == expected


async def test_all_problems_of_an_update_are_told_at_once(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    payload = await write(
        api,
        "updateTask",
        account,
        id=task["id"],
        title="",
        description="x" * 10_001,
        addTags=["", "ok"],
        removeTags=["ok", "y" * 51],
        idempotencyKey="short",
    )

    assert sorted(problems(payload)) == sorted(
        [
            ("ValidationError", "TOO_SHORT", "title"),
            ("ValidationError", "TOO_LONG", "description"),
            ("ValidationError", "TOO_SHORT", "addTags.0"),
            ("ValidationError", "TOO_LONG", "removeTags.1"),
            ("ValidationError", "INVALID_KEY", "idempotencyKey"),
        ]
    )
    assert await read(api, account, task["id"]) == task


async def test_too_many_tags_after_adding_change_nothing(api: Api, account: Account) -> None:
    task = await new_task(api, account, tags=[str(n) for n in range(20)])
    payload = await write(api, "updateTask", account, id=task["id"], title="New", addTags=["x"])

    assert problems(payload) == [("ValidationError", "TOO_MANY", "addTags")]
    assert await read(api, account, task["id"]) == task


async def test_a_status_brings_and_takes_the_completion_time(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    closed = await done(api, "updateTask", account, id=task["id"], status="DONE")
    cancelled = await done(api, "updateTask", account, id=task["id"], status="CANCELLED")

    assert closed["task"]["completedAt"] is not None
    assert (cancelled["task"]["completedAt"], cancelled["task"]["completed"]) == (None, False)


# -- complete, reopen, trash --------------------------------------------------------------------------


async def test_completing_twice_keeps_the_first_time(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    first = await done(api, "completeTask", account, id=task["id"])
    second = await done(api, "completeTask", account, id=task["id"])

    assert (first["task"]["status"], first["task"]["version"]) == ("DONE", 2)
    assert second["task"] == first["task"]


@pytest.mark.parametrize(
    ("status", "reopened"), [("DONE", "TODO"), ("CANCELLED", "TODO"), ("IN_PROGRESS", "IN_PROGRESS")]
)
async def test_reopening_takes_up_what_is_closed(api: Api, account: Account, status: str, reopened: str) -> None:
    task = await new_task(api, account, status=status)
    after = (await done(api, "reopenTask", account, id=task["id"]))["task"]

    assert (after["status"], after["completedAt"]) == (reopened, None)
    assert after["version"] == (1 if status == reopened else 2)


async def test_a_deleted_task_is_in_the_trash_only(api: Api, account: Account) -> None:
    task, other = await new_task(api, account), await new_task(api, account)
    deleted = (await done(api, "deleteTask", account, id=task["id"]))["task"]

    assert deleted["deletedAt"] is not None
    shown, everything = await api(LIST, account), await api(LIST, account, trash="INCLUDE")
    assert shown["tasks"] == {"nodes": [{"id": other["id"]}], "totalCount": 1}
    assert everything["tasks"] == {"nodes": [{"id": other["id"]}, {"id": task["id"]}], "totalCount": 2}
    assert await read(api, account, task["id"]) == deleted


async def test_deleting_twice_keeps_the_first_time(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    first = await done(api, "deleteTask", account, id=task["id"])
    second = await done(api, "deleteTask", account, id=task["id"])

    assert second["task"] == first["task"]


async def test_a_restored_task_is_what_it_was(api: Api, account: Account) -> None:
    task = await new_task(api, account, status="DONE", tags=["a"])
    await done(api, "deleteTask", account, id=task["id"])
    restored = (await done(api, "restoreTask", account, id=task["id"]))["task"]

    assert restored == {**task, "version": 3, "updatedAt": restored["updatedAt"]}
    assert (await api(LIST, account))["tasks"]["totalCount"] == 1


async def test_restoring_what_is_not_in_the_trash_changes_nothing(api: Api, account: Account) -> None:
    task = await new_task(api, account)

    assert (await done(api, "restoreTask", account, id=task["id"]))["task"] == task


@pytest.mark.parametrize("mutation", ["updateTask", "completeTask", "reopenTask"])
async def test_what_is_in_the_trash_cannot_be_edited(api: Api, account: Account, mutation: str) -> None:
    task = await new_task(api, account, status="IN_PROGRESS")
    deleted = (await done(api, "deleteTask", account, id=task["id"]))["task"]
    payload = await write(api, mutation, account, id=task["id"])

    assert problems(payload) == [("ConflictError", "IN_TRASH", "id")]
    assert payload["errors"][0]["currentVersion"] == 2
    assert await read(api, account, task["id"]) == deleted


@pytest.mark.parametrize("in_trash", [False, True])
async def test_a_purged_task_is_gone(api: Api, account: Account, in_trash: bool) -> None:
    task = await new_task(api, account)
    if in_trash:
        await done(api, "deleteTask", account, id=task["id"])
    payload = await done(api, "purgeTask", account, id=task["id"])

    assert payload["purgedTaskId"] == task["id"]
    assert await read(api, account, task["id"]) is None
    assert (await api(LIST, account, trash="INCLUDE"))["tasks"]["totalCount"] == 0
    again = await write(api, "purgeTask", account, id=task["id"])
    assert problems(again) == [("NotFoundError", "NOT_FOUND", "id")]


# -- versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", EDITS)
@pytest.mark.parametrize("version", [1, 3, 0, -1, 2_147_483_647])
async def test_another_version_is_a_conflict_and_changes_nothing(
    api: Api, account: Account, mutation: str, version: int
) -> None:
    task = await new_task(api, account)
    current = (await done(api, "updateTask", account, id=task["id"], title="Newer"))["task"]
    payload = await write(api, mutation, account, id=task["id"], ifVersion=version)

    [error] = payload["errors"]
    assert problems(payload) == [("ConflictError", "STALE_VERSION", "ifVersion")]
    assert error["currentVersion"] == 2
    assert error["current"] == {"__typename": "Task", "id": task["id"], "title": "Newer", "version": 2}
    assert payload.get("task", payload.get("id")) is None
    assert await read(api, account, task["id"]) == current


@pytest.mark.parametrize("mutation", EDITS)
async def test_the_current_version_is_accepted(api: Api, account: Account, mutation: str) -> None:
    task = await new_task(api, account)

    given = {"title": "New"} if mutation == "updateTask" else {}
    payload = await done(api, mutation, account, id=task["id"], ifVersion=1, **given)

    # What it is already costs no version.
    version = {"purgeTask": None, "reopenTask": 1, "restoreTask": 1}.get(mutation, 2)
    assert (payload.get("task") or {}).get("version") == version


async def test_of_concurrent_edits_of_one_version_one_wins(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    edits = (write(api, "updateTask", account, id=task["id"], ifVersion=1, title=str(n)) for n in range(6))
    payloads = await asyncio.gather(*edits)

    winners = [payload["task"] for payload in payloads if payload["task"]]
    assert len(winners) == 1
    assert await read(api, account, task["id"]) == winners[0]


# -- retries ------------------------------------------------------------------------------------------


async def prepared(api: Api, account: Account, mutation: str) -> dict[str, Any]:
    """The input of a mutation that has something to do."""
    if mutation == "createTask":
        return {"title": "Write", "tags": ["A"], "dueAt": "2030-01-01T00:00:00Z"}
    status = "DONE" if mutation == "reopenTask" else "TODO"
    task = await new_task(api, account, status=status)
    if mutation == "restoreTask":
        await done(api, "deleteTask", account, id=task["id"])
    return {"id": task["id"], **({"title": "New", "dueAt": None} if mutation == "updateTask" else {})}


@pytest.mark.parametrize("mutation", ["createTask", *EDITS])
async def test_a_retry_gets_the_first_answer(api: Api, account: Account, mutation: str) -> None:
    given = {**await prepared(api, account, mutation), "idempotencyKey": key()}
    first = await done(api, mutation, account, **given)
    again = await done(api, mutation, account, **given)

    assert (first["replayed"], again["replayed"]) == (False, True)
    assert {**again, "replayed": False} == first


@pytest.mark.parametrize("mutation", ["createTask", "updateTask", "completeTask", "reopenTask", "restoreTask"])
async def test_a_retry_gets_the_first_answer_whatever_happened_meanwhile(
    api: Api, account: Account, mutation: str
) -> None:
    given = {**await prepared(api, account, mutation), "idempotencyKey": key()}
    first = await done(api, mutation, account, **given)
    id = first["task"]["id"]
    await done(api, "updateTask", account, id=id, title="Changed since", priority="URGENT")
    await done(api, "deleteTask", account, id=id)
    now = await read(api, account, id)
    again = await done(api, mutation, account, **given)

    assert again == {**first, "replayed": True}
    assert await read(api, account, id) == now


@pytest.mark.parametrize("mutation", ["createTask", "updateTask", "deleteTask"])
async def test_a_retry_after_a_purge_neither_does_it_again_nor_shows_it(
    api: Api, account: Account, mutation: str
) -> None:
    given = {**await prepared(api, account, mutation), "idempotencyKey": key()}
    first = await done(api, mutation, account, **given)
    await done(api, "purgeTask", account, id=first["task"]["id"])
    again = await write(api, mutation, account, **given)

    assert again["task"] is None
    assert [kind for kind, _, _ in problems(again)] == ["NotFoundError"]
    assert (await api(LIST, account, trash="INCLUDE"))["tasks"]["totalCount"] == 0


@pytest.mark.parametrize("mutation", ["createTask", *EDITS])
async def test_a_key_with_another_input_is_refused(api: Api, account: Account, mutation: str) -> None:
    used = key()
    given = await prepared(api, account, mutation)
    await done(api, mutation, account, **given, idempotencyKey=used)
    changed = {"title": "Other"} if mutation == "createTask" else {"ifVersion": 77}
    payload = await write(api, mutation, account, **{**given, **changed}, idempotencyKey=used)

    assert problems(payload) == [("IdempotencyError", "IDEMPOTENCY_KEY_REUSED", "idempotencyKey")]
    assert payload["replayed"] is False


async def test_how_an_input_is_written_does_not_matter_to_its_key(api: Api, account: Account) -> None:
    used, moment = key(), "2030-01-01T00:00:00Z"
    first = await done(api, "createTask", account, title="x", tags=["a"], dueAt=moment, idempotencyKey=used)
    written = f'''mutation {{ createTask(input: {{
        idempotencyKey: "{used}", dueAt: "{moment}", tags: "a", title: "x"
    }}) {{ replayed task {{ id }} }} }}'''
    again = (await api(written, account))["createTask"]

    assert again == {"replayed": True, "task": {"id": first["task"]["id"]}}


@pytest.mark.parametrize(
    "change", [{"title": "2"}, {"tags": []}, {"tags": ["b"]}, {"priority": "LOW"}, {"dueAt": None}]
)
async def test_every_value_of_an_input_matters_to_its_key(api: Api, account: Account, change: dict[str, Any]) -> None:
    given = {"title": "1", "tags": ["a"], "priority": "HIGH", "dueAt": "2030-01-01T00:00:00Z", "idempotencyKey": key()}
    await done(api, "createTask", account, **given)
    payload = await write(api, "createTask", account, **{**given, **change})

    assert [kind for kind, _, _ in problems(payload)] == ["IdempotencyError"]


async def test_absent_and_null_are_different_inputs_of_a_key(api: Api, account: Account) -> None:
    task = await new_task(api, account, dueAt="2030-01-01T00:00:00Z")
    used = key()
    await done(api, "updateTask", account, id=task["id"], title="New", idempotencyKey=used)
    payload = await write(api, "updateTask", account, id=task["id"], title="New", dueAt=None, idempotencyKey=used)

    assert [kind for kind, _, _ in problems(payload)] == ["IdempotencyError"]


async def test_a_key_of_another_mutation_is_refused(api: Api, account: Account) -> None:
    task, used = await new_task(api, account), key()
    await done(api, "completeTask", account, id=task["id"], idempotencyKey=used)
    payload = await write(api, "deleteTask", account, id=task["id"], idempotencyKey=used)

    assert [kind for kind, _, _ in problems(payload)] == ["IdempotencyError"]


async def test_keys_of_two_users_have_nothing_to_do_with_each_other(
    api: Api, account: Account, new_account: Any
) -> None:
    used, other = key(), await new_account()
    mine = await done(api, "createTask", account, title="x", idempotencyKey=used)
    theirs = await done(api, "createTask", other, title="x", idempotencyKey=used)

    assert theirs["replayed"] is False
    assert mine["task"]["id"] != theirs["task"]["id"]


async def test_a_refused_write_leaves_its_key_free(api: Api, account: Account) -> None:
    used = key()
    refused = await write(api, "createTask", account, title="", idempotencyKey=used)
    accepted = await done(api, "createTask", account, title="x", idempotencyKey=used)

    assert problems(refused) == [("ValidationError", "TOO_SHORT", "title")]
    assert accepted["replayed"] is False


async def test_concurrent_writes_with_one_key_have_one_effect(api: Api, account: Account) -> None:
    used = key()
    payloads = await asyncio.gather(
        *(done(api, "createTask", account, title="x", idempotencyKey=used) for _ in range(6))
    )

    assert sorted(payload["replayed"] for payload in payloads) == [False] + [True] * 5
    assert len({payload["task"]["id"] for payload in payloads}) == 1
    assert (await api(LIST, account))["tasks"]["totalCount"] == 1


# -- whose they are -----------------------------------------------------------------------------------

SCOPED = """query Scoped($scope: ListScope! = OWN, $filter: TaskFilter) {
    tasks(scope: $scope, filter: $filter) { nodes { owner { id } } } }"""


async def test_the_list_at_the_root_is_the_viewers_own_for_an_admin_too(
    api: Api, account: Account, admin: Account
) -> None:
    await new_task(api, account)
    mine = await new_task(api, admin)

    data = await api(SCOPED, admin)
    assert {task["owner"]["id"] for task in data["tasks"]["nodes"]} == {str(admin.id)}
    assert [task["id"] for task in (await api(LIST, admin))["tasks"]["nodes"]] == [mine["id"]]


async def test_everybodys_tasks_are_for_admins_with_the_scope(
    api: Api, account: Account, admin: Account, new_account: Any
) -> None:
    await new_task(api, account)
    unscoped = await new_account(Role.ADMIN, scopes=(Scope.READ, Scope.WRITE))

    theirs = {"owner": {"id": {"eq": str(account.id)}}}
    data = await api(SCOPED, admin, scope="ALL", filter=theirs)
    assert data["tasks"]["nodes"] == [{"owner": {"id": str(account.id)}}]
    assert (await api(SCOPED, admin, filter=theirs))["tasks"]["nodes"] == []
    assert [await refused(api, SCOPED, who, scope="ALL") for who in (account, unscoped, None)] == [
        "FORBIDDEN",
        "FORBIDDEN",
        "UNAUTHENTICATED",
    ]


@pytest.mark.parametrize(("trash", "shown"), [("EXCLUDE", {"a"}), ("INCLUDE", {"a", "b"}), ("ONLY", {"b"})])
async def test_a_list_says_what_it_does_with_the_trash(api: Api, account: Account, trash: str, shown: set[str]) -> None:
    ids = {title: (await new_task(api, account, title=title))["id"] for title in "ab"}
    await done(api, "deleteTask", account, id=ids["b"])
    query = """query($trash: TrashMode!) { viewer { tasks(trash: $trash) { totalCount } }
        tasks(trash: $trash) { nodes { title } totalCount }
        found: tasks(trash: $trash, search: "a or b") { totalCount } }"""
    data = await api(query, account, trash=trash)

    assert {task["title"] for task in data["tasks"]["nodes"]} == shown
    counts = [data["tasks"], data["found"], data["viewer"]["tasks"]]
    assert [one["totalCount"] for one in counts] == [len(shown)] * 3


# -- not the viewer's ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", EDITS)
@pytest.mark.parametrize("id", ["not an id", "", str(uuid.UUID(int=1)), "a" * 36, "\ud800", "\x00" * 36])
async def test_what_is_not_there_is_not_found(api: Api, account: Account, mutation: str, id: str) -> None:
    payload = await write(api, mutation, account, id=id)

    assert problems(payload) == [("NotFoundError", "NOT_FOUND", "id")]


@pytest.mark.parametrize("mutation", EDITS)
async def test_an_admin_may_edit_everybodys_tasks(api: Api, account: Account, admin: Account, mutation: str) -> None:
    given = await prepared(api, account, mutation)

    payload = await done(api, mutation, admin, **given)

    assert payload.get("purgedTaskId", (payload.get("task") or {}).get("id")) == given["id"]
    assert await read(api, account, given["id"]) == payload.get("task")


@pytest.mark.parametrize("mutation", ["createTask", *EDITS])
async def test_writing_needs_the_scope_and_a_viewer(
    api: Api, account: Account, new_account: Any, mutation: str
) -> None:
    reader = await new_account(scopes=(Scope.READ,))
    given = await prepared(api, account, mutation)
    kind = mutation[0].upper() + mutation[1:]
    document = f"mutation($input: {kind}Input!) {{ {mutation}(input: $input) {{ replayed }} }}"

    assert await refused(api, document, reader, input=given) == "FORBIDDEN"
    assert await refused(api, document, None, input=given) == "UNAUTHENTICATED"


async def test_mutations_of_one_operation_run_one_after_another(api: Api, account: Account) -> None:
    task = await new_task(api, account)
    data = await api(
        """mutation Chain($id: ID!) {
            a: updateTask(input: {id: $id, ifVersion: 1, title: "a"}) { task { title version } errors { code } }
            b: updateTask(input: {id: $id, ifVersion: 1, title: "b"}) { task { title version } errors { code } }
            c: updateTask(input: {id: $id, ifVersion: 2, title: "c"}) { task { title version owner { name } } }
        }""",
        account,
        id=task["id"],
    )

    assert data["a"] == {"task": {"title": "a", "version": 2}, "errors": []}
    assert data["b"] == {"task": None, "errors": [{"code": "STALE_VERSION"}]}
    assert data["c"]["task"] == {"title": "c", "version": 3, "owner": {"name": "Ada"}}
