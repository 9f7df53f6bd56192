"""Large inputs are refused at the door: by name and number, before any SQL and whoever asks."""

import json
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, is_list_type
from graphql import get_nullable_type as nullable

from graph.execution.preparing.bounds import Bounds
from persistence.rules.errors import Invalid
from persistence.rules.validation import MAX_PROBLEMS, Checked
from persistence.settings import Settings
from tests.conftest import Account
from tests.graph.queries import watched
from tests.graph.samples import SCHEMA

pytestmark = pytest.mark.anyio

TASKS = "query($filter: TaskFilter, $order: [TaskOrder!]) { tasks(filter: $filter, orderBy: $order) { totalCount } }"
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
CREATE = "mutation($input: CreateTaskInput!) { createTask(input: $input) { errors { code } } }"
UPDATE = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { errors { code } } }"
TOKEN = "mutation($input: CreateTokenInput!) { createToken(input: $input) { errors { code } } }"
SIGN_IN = "mutation($input: SignInInput!) { signIn(input: $input) { errors { code } } }"
MANY = 100_000

LARGE: list[Any] = [
    (TASKS, {"filter": {"and": [{}] * MANY}}, "filter", 100),
    (TASKS, {"filter": {"not": {"or": [{}] * 101}}}, "filter", 100),
    (TASKS, {"filter": {"owner": {"and": [{"or": [None] * MANY}]}}}, "filter", 100),
    (TASKS, {"filter": {"id": {"in": [""] * MANY}}}, "filter", 1_000),
    (TASKS, {"filter": {"status": {"notIn": ["TODO"] * 1_001}}}, "filter", 1_000),
    (TASKS, {"filter": {"tags": {"hasAll": [""] * MANY}}}, "filter", 1_000),
    (TASKS, {"order": [{"field": "TITLE"}] * 6}, "order", 5),
    (TASKS, {"order": [{}] * MANY}, "order", 5),
    (NODES, {"ids": ["x"] * 101}, "ids", 100),
    (NODES, {"ids": [None] * MANY}, "ids", 100),
    (CREATE, {"input": {"title": "x", "tags": [""] * MANY}}, "input", 100),
    (UPDATE, {"input": {"id": "x", "addTags": [""] * MANY}}, "input", 100),
    (UPDATE, {"input": {"id": "x", "removeTags": [None] * MANY}}, "input", 100),
    (TOKEN, {"input": {"name": "x", "scopes": ["READ"] * MANY}}, "input", 100),
    (SIGN_IN, {"input": {"email": [[]] * MANY, "password": ""}}, "input", 100),
]


@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_large_list_is_refused_before_anybody_is_asked_who_they_are(
    settings: Settings, account: Account, signed_in: bool
) -> None:
    async with watched(settings) as api:
        for query, variables, name, allowed in LARGE:
            headers = account.authorization if signed_in else {"Authorization": "Bearer not even looked at"}
            answer = await api.post(query, headers, **variables)

            [error] = answer.json()["errors"]
            assert answer.status_code == 400
            assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
            assert error["extensions"]["variable"] == name
            assert error["extensions"]["limit"] == "listItems"
            assert error["extensions"]["allowed"] == allowed
            assert name in error["message"]
            assert len(answer.content) < 300
        assert await api.statements() == []


async def test_a_large_list_in_the_text_is_refused_alike(settings: Settings, account: Account) -> None:
    empty = "{} " * 101
    texts = [
        f"{{ tasks(filter: {{and: [{empty}]}}) {{ totalCount }} }}",
        f"query($filter: TaskFilter = {{and: [{empty}]}}) {{ tasks(filter: $filter) {{ totalCount }} }}",
        f"{{ viewer {{ ...F }} }} fragment F on User {{ tasks(filter: {{or: [{empty}]}}) {{ totalCount }} }}",
    ]
    async with watched(settings) as api:
        for text in texts:
            answer = await api.post(text, account.authorization)

            [error] = answer.json()["errors"]
            assert (error["extensions"]["limit"], error["extensions"]["actual"]) == ("listItems", 101)
        assert await api.statements() == []


async def test_what_is_within_the_bounds_is_answered(settings: Settings, account: Account) -> None:
    async with watched(settings) as api:
        for query, variables in [
            (TASKS, {"filter": {"id": {"in": [str(account.id)] * 1_000}}}),
            (TASKS, {"order": [{"field": "TITLE"}] * 5}),
            (NODES, {"ids": ["x"] * 100}),
        ]:
            answer = await api.post(query, account.authorization, **json.loads(json.dumps(variables)))

            assert "errors" not in answer.json()


async def test_empty_conditions_count(settings: Settings, account: Account) -> None:
    """In lists within the bounds, too: the statement of a filter is kept under its shape."""
    filter: Any = {"and": [{"or": [{}] * 50}] * 2}
    async with watched(settings) as api:
        answer = await api.post(TASKS, account.authorization, filter=filter)

        [error] = answer.json()["errors"]
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        assert "more than 100 conditions" in error["message"]
        assert not [sql for sql in await api.statements() if "FROM tasks" in sql]


def test_every_list_of_the_schema_has_a_bound() -> None:
    bounds = Bounds(SCHEMA)
    found = {
        f"{type_.name}.{name}": bounds.of(field)
        for type_ in SCHEMA.type_map.values()
        if isinstance(type_, GraphQLInputObjectType)
        for name, field in type_.fields.items()
        if is_list_type(nullable(field.type))
    }

    assert found
    assert max(found.values()) == 1_000 < bounds.values
    assert found["TaskFilter.and"] == found["UserFilter.or"] == found["CreateTaskInput.tags"] == 100
    assert found["TaskStatusEnumFilter.notIn"] == found["TagsFilter.hasNone"] == 1_000


def test_problems_are_collected_up_to_some_tens() -> None:
    rules = Checked()

    with pytest.raises(Invalid) as caught:
        rules.tags([""] * MANY)

    assert len(caught.value.problems) == MAX_PROBLEMS


async def test_an_input_with_many_problems_gets_some_tens_of_errors(settings: Settings, account: Account) -> None:
    async with watched(settings) as api:
        answer = await api.post(CREATE, account.authorization, input={"title": "", "tags": [""] * 100})

    codes = [error["code"] for error in answer.json()["data"]["createTask"]["errors"]]
    assert codes == ["TOO_SHORT"] * MAX_PROBLEMS


async def test_a_document_with_many_mistakes_gets_some_tens_of_errors(settings: Settings) -> None:
    wrong = " ".join(f"x{n}" for n in range(500))
    async with watched(settings) as api:
        answer = await api.post(f"{{ viewer {{ {wrong} }} }}")

    assert len(answer.json()["errors"]) <= MAX_PROBLEMS + 1


async def test_a_long_value_is_not_repeated_in_what_is_said_of_it(settings: Settings, account: Account) -> None:
    async with watched(settings) as api:
        answer = await api.post(TASKS, account.authorization, filter={"id": {"eq": "x" * MANY}})

    [error] = answer.json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert len(answer.content) < 500
