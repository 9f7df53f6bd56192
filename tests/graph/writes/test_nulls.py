"""What null means: not given where something is made, an error with its path where something is changed."""

import uuid
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, is_non_null_type, print_type

from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import done, new_task, problems, write
from tests.graph.samples import SCHEMA

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]


def optional_fields(mutation: str) -> list[str]:
    kind = SCHEMA.type_map[f"{mutation[0].upper()}{mutation[1:]}Input"]
    assert isinstance(kind, GraphQLInputObjectType)
    return [name for name, field in kind.fields.items() if not is_non_null_type(field.type)]


@pytest.mark.parametrize("mutation", ["createTask", "createUser", "createToken", "signUp", "signIn"])
async def test_null_is_not_given_where_something_is_made(
    api: Api, account: Account, admin: Account, mutation: str
) -> None:
    new = f"{uuid.uuid4().hex}@example.org"
    inputs: dict[str, dict[str, Any]] = {
        "createTask": {"title": "x"},
        "createUser": {"email": new, "name": "x", "password": PASSWORD},
        "createToken": {"name": "x", "scopes": ["READ"]},
        "signUp": {"email": new, "name": "x", "password": PASSWORD},
        "signIn": {"email": account.email, "password": PASSWORD},
    }
    nulls = dict.fromkeys(optional_fields(mutation))
    payload = await done(api, mutation, admin, **inputs[mutation], **nulls)

    if mutation == "createTask":
        task = payload["task"]
        assert (task["status"], task["priority"], task["tags"], task["description"]) == ("TODO", "MEDIUM", [], "")
        assert (task["dueAt"], task["owner"]["id"]) == (None, str(admin.id))
    if mutation in ("createUser", "signUp"):
        assert (payload["user"]["role"], payload["user"]["timeZone"]) == ("MEMBER", "UTC")


async def test_a_retry_may_say_null_or_nothing_or_the_default(api: Api, account: Account) -> None:
    key = str(uuid.uuid4())
    given: list[dict[str, Any]] = [
        {},
        {"priority": None, "tags": None, "id": None, "ownerId": None},
        {"priority": "MEDIUM", "status": "TODO"},
    ]
    always: dict[str, Any] = {"title": "x", "idempotencyKey": key}
    payloads = [await done(api, "createTask", account, **{**always, **more}) for more in given]

    assert [payload["replayed"] for payload in payloads] == [False, True, True]


def test_the_defaults_are_in_the_schema() -> None:
    text = print_type(SCHEMA.type_map["CreateTaskInput"])

    for default in ('description: String = ""', "priority: TaskPriority = MEDIUM", "tags: [String!] = []"):
        assert default in text


@pytest.mark.parametrize("way", ["whole", "each", "literal"])
@pytest.mark.parametrize("mutation", ["updateTask", "completeTask", "purgeTask", "updateViewer", "updateUser"])
async def test_a_null_where_none_can_be_is_told_with_its_path(
    api: Api, stock_api: Api, account: Account, admin: Account, mutation: str, way: str
) -> None:
    task = await new_task(api, admin)
    id = {} if mutation == "updateViewer" else {"id": str(account.id) if "User" in mutation else task["id"]}
    wrong = [name for name in optional_fields(mutation) if name != "dueAt"]
    for executor in (api, stock_api):
        if way == "whole":
            payload = await write(executor, mutation, admin, **id, **dict.fromkeys(wrong))
        else:
            kind = SCHEMA.type_map[f"{mutation[0].upper()}{mutation[1:]}Input"]
            assert isinstance(kind, GraphQLInputObjectType)
            types = {name: str(kind.fields[name].type) for name in wrong}
            declared = ", ".join(f"${name}: {type_}" for name, type_ in types.items())
            values = ", ".join(f"{name}: {'null' if way == 'literal' else f'${name}'}" for name in wrong)
            head = "mutation" if way == "literal" else f"mutation({declared})"
            named = "".join(f'id: "{value}", ' for value in id.values())
            fields = "errors { __typename code path } replayed"
            query = f"{head} {{ {mutation}(input: {{{named}{values}}}) {{ {fields} }} }}"
            variables = {} if way == "literal" else dict.fromkeys(wrong)
            payload = (await executor(query, admin, **variables))[mutation]

        assert sorted(problems(payload)) == sorted(("ValidationError", "NULL_NOT_ALLOWED", name) for name in wrong)
    data = await api("query($id: ID!) { task(id: $id) { version } }", admin, id=task["id"])
    assert data["task"] == {"version": 1}


async def test_null_clears_what_can_be_missing(api: Api, account: Account) -> None:
    task = await new_task(api, account, dueAt="2030-01-01T00:00:00Z")
    payload = await done(api, "updateTask", account, id=task["id"], dueAt=None)

    assert (payload["task"]["dueAt"], payload["task"]["version"]) == (None, 2)
