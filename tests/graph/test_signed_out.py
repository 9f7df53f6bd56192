"""Who is not signed in: 401 where nothing else can be answered, and a way to sign in whatever header is sent."""

import uuid
from typing import Any

import pytest

from persistence.settings import Settings
from tests.conftest import PASSWORD, Account
from tests.graph.queries import watched

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

SIGN_IN = """mutation SignIn($email: String!, $password: String!) {
    signIn(input: {email: $email, password: $password}) { user { id email } secret errors { code } } }"""
SIGN_UP = """mutation SignUp($email: String!, $password: String!) {
    signUp(input: {email: $email, password: $password, name: "Ada"}) { user { email } secret errors { code } } }"""
NO_GOOD = [
    "",
    " ",
    "Bearer",
    "Bearer ",
    "Bearer undefined",
    "Bearer null",
    "Basic YTpi",
    "tsk_x",
    "Bearer tsk_stale",
    "é",
]


@pytest.mark.parametrize(
    "query",
    [
        "{ viewer { id } }",
        "{ viewer { id tasks { nodes { id } } } }",
        "{ me: viewer { id } again: viewer { name } }",
        '{ viewer { id } task(id: "x") { id } node(id: "x") { id } users { totalCount } }',
        "{ ...Mine } fragment Mine on Query { viewer { id } }",
        "{ tasks { totalCount } viewer { id } }",
        "mutation { signOut { errors { code } } }",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
async def test_nothing_but_the_refusal_is_answered(settings: Settings, query: str, accept: str) -> None:
    async with watched(settings) as server:
        answer = await server.post(query, {"Accept": accept})

    body = answer.json()
    assert (answer.status_code, "data" in body) == (401, False)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert {error["extensions"]["code"] for error in body["errors"]} == {"UNAUTHENTICATED"}


@pytest.mark.parametrize("query", ["{ viewer { id } __schema { queryType { name } } }", "{ viewer { id } __typename }"])
async def test_what_can_be_answered_is_answered_beside_it(settings: Settings, query: str) -> None:
    async with watched(settings) as server:
        answer = await server.post(query)

    assert answer.status_code == 200
    assert answer.json()["data"]["viewer"] is None


async def test_a_null_that_is_an_answer_stays_one(settings: Settings, account: Account) -> None:
    query = '{ task(id: "x") { id } users { totalCount } }'
    async with watched(settings) as server:
        beside = await server.post(query, account.authorization)
        alone = await server.post("{ users { totalCount } }", account.authorization)

    assert (beside.status_code, beside.json()["data"]) == (200, {"task": None, "users": None})
    assert (alone.status_code, "data" in alone.json()) == (403, False)


@pytest.mark.parametrize("header", NO_GOOD)
async def test_signing_in_and_up_work_whatever_header_is_sent(
    settings: Settings, account: Account, header: str
) -> None:
    headers = {"Authorization": header.encode("latin-1")}
    new = f"{uuid.uuid4().hex}@example.org"
    async with watched(settings) as server:
        signed_in = await post(server, SIGN_IN, headers, email=account.email, password=PASSWORD)
        signed_up = await post(server, SIGN_UP, headers, email=new, password=PASSWORD)
        viewer = await post(server, "{ viewer { id } }", headers)

    assert signed_in["data"]["signIn"]["user"] == {"id": str(account.id), "email": account.email}
    assert signed_up["data"]["signUp"]["user"] == {"email": new}
    assert {error["extensions"]["code"] for error in viewer["errors"]} == {"UNAUTHENTICATED"}


async def post(server: Any, query: str, headers: Any, /, **variables: Any) -> Any:
    answer = await server.client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
    return answer.json()


async def test_other_fields_of_the_same_operation_see_no_viewer_of_a_bad_token(
    settings: Settings, account: Account
) -> None:
    before = """mutation($email: String!, $password: String!) { ...Both }
        fragment Both on Mutation {
            createTask(input: {title: "x"}) { task { id } }
            signIn(input: {email: $email, password: $password}) { secret } }"""
    after = SIGN_IN.replace("errors { code } }", 'errors { code } } createTask(input: {title: "x"}) { task { id } }')
    stale = {"Authorization": "Bearer tsk_stale"}
    async with watched(settings) as server:
        refused = await server.post(before, stale, email=account.email, password=PASSWORD)
        done = await server.post(after, stale, email=account.email, password=PASSWORD)
        introspection = await server.post("{ __typename }", stale)

    assert (refused.status_code, "data" in refused.json()) == (401, False)
    assert done.json()["data"]["createTask"]["task"] is not None, "from there on the operation is the new viewer's"
    assert introspection.status_code == 401


async def test_a_good_token_stays_the_viewers_when_the_password_is_wrong(settings: Settings, account: Account) -> None:
    query = SIGN_IN.replace("errors { code } }", 'errors { code } } updateViewer(input: {name: "New"}) { user { id } }')
    async with watched(settings) as server:
        answer = await server.post(query, account.authorization, email=account.email, password="wrong password")

    data = answer.json()["data"]
    assert [error["code"] for error in data["signIn"]["errors"]] == ["WRONG_CREDENTIALS"]
    assert data["updateViewer"]["user"] == {"id": str(account.id)}
