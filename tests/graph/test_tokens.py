"""Tokens through the API, and what they allow."""

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.execution.errors import RequestError
from persistence.models import Role, Scope
from persistence.viewer import Viewer
from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import bearer, done, entered, holder, http_scope, new_task, problems, refused, write

pytestmark = pytest.mark.anyio

LIST = """query Tokens($first: Int, $after: String, $orderBy: [TokenOrder!]) {
    viewer { tokens(first: $first, after: $after, orderBy: $orderBy) {
        nodes { id name expired } totalCount pageInfo { endCursor hasNextPage } } } }"""


def later(days: float = 1) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


class In25Hours(datetime):
    """The clock as it will be."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # of its own kind elsewhere
        return datetime.now(tz) + timedelta(hours=25)


async def holding(api: Api, payload: Any, account: Account) -> Account:
    viewer = await holder(api, payload["secret"])
    assert viewer is not None
    return Account(viewer.id, account.email, viewer, payload["secret"])


async def test_a_token_stands_for_its_user(api: Api, account: Account) -> None:
    expires = later()
    payload = await done(
        api, "createToken", account, name=" laptop ", scopes=["WRITE", "READ", "READ"], expiresAt=expires
    )

    token = payload["token"]
    assert (token["name"], token["kind"], token["scopes"]) == ("laptop", "PERSONAL", ["READ", "WRITE"])
    assert (token["expired"], token["revokedAt"], token["lastUsedAt"]) == (False, None, None)
    assert datetime.fromisoformat(token["expiresAt"]) == datetime.fromisoformat(expires)
    assert payload["secret"].startswith(token["prefix"])
    assert await holder(api, payload["secret"]) == Viewer(
        account.id, Role.MEMBER, frozenset({"read", "write"}), uuid.UUID(token["id"])
    )


@pytest.mark.parametrize("expires", [{}, {"expiresAt": None}])
async def test_a_token_without_a_time_never_expires(api: Api, account: Account, expires: dict[str, Any]) -> None:
    token = (await done(api, "createToken", account, name="x", scopes=["READ"], **expires))["token"]

    assert (token["expiresAt"], token["expired"]) == (None, False)


async def test_all_problems_of_a_token_are_told_at_once(api: Api, new_account: Any) -> None:
    writer = await new_account(scopes=(Scope.READ, Scope.WRITE))
    payload = await write(
        api,
        "createToken",
        writer,
        id="no",
        name=" ",
        scopes=["READ", "ADMIN"],
        expiresAt="2020-01-01T00:00:00Z",
        idempotencyKey="short",
    )

    assert sorted(problems(payload)) == sorted(
        [
            ("ValidationError", "INVALID_ID", "id"),
            ("ValidationError", "TOO_SHORT", "name"),
            ("ValidationError", "SCOPE_NOT_HELD", "scopes.1"),
            ("ValidationError", "NOT_IN_FUTURE", "expiresAt"),
            ("ValidationError", "INVALID_KEY", "idempotencyKey"),
        ]
    )
    assert (payload["token"], payload["secret"]) == (None, None)


async def test_a_token_has_a_scope(api: Api, account: Account) -> None:
    payload = await write(api, "createToken", account, name="x", scopes=[])

    assert problems(payload) == [("ValidationError", "TOO_FEW", "scopes")]


@pytest.mark.parametrize("role", list(Role))
async def test_a_token_reaches_no_further_than_the_one_that_made_it(api: Api, new_account: Any, role: Role) -> None:
    limited = await new_account(role, scopes=(Scope.WRITE,))
    for scope in ("READ", "ADMIN"):
        payload = await write(api, "createToken", limited, name="x", scopes=["WRITE", scope])
        assert problems(payload) == [("ValidationError", "SCOPE_NOT_HELD", "scopes.1")]

    heir = await holding(api, await done(api, "createToken", limited, name="x", scopes=["WRITE"]), limited)
    assert heir.viewer.scopes == {"write"}


async def test_an_id_of_ones_own_is_taken_once(api: Api, account: Account, new_account: Any) -> None:
    id, other = str(uuid.uuid4()), await new_account()
    first = await done(api, "createToken", account, id=id, name="x", scopes=["READ"])
    again = await write(api, "createToken", account, id=id, name="x", scopes=["READ"])
    theirs = await write(api, "createToken", other, id=id, name="x", scopes=["READ"])

    assert first["token"]["id"] == id
    assert problems(again) == problems(theirs) == [("ConflictError", "ID_TAKEN", "id")]
    assert (theirs["errors"][0]["current"], theirs["secret"]) == (None, None)


async def test_a_retry_shows_the_same_secret_again(api: Api, account: Account) -> None:
    given = {"name": "x", "scopes": ["READ"], "idempotencyKey": str(uuid.uuid4())}
    first = await done(api, "createToken", account, **given)
    again = await done(api, "createToken", account, **given)
    other = await write(api, "createToken", account, **{**given, "scopes": ["READ", "WRITE"]})

    assert again == {**first, "replayed": True}
    assert [kind for kind, _, _ in problems(other)] == ["IdempotencyError"]
    assert other["secret"] is None


async def test_a_retry_shows_no_secret_of_a_token_that_has_expired(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"name": "x", "scopes": ["READ"], "expiresAt": later(1), "idempotencyKey": str(uuid.uuid4())}
    await done(api, "createToken", account, **given)
    for module in ("persistence.tokens", "persistence.writes.replays", "persistence.writes.rights"):
        monkeypatch.setattr(f"{module}.datetime", In25Hours)
    again = await write(api, "createToken", account, **given)

    assert problems(again) == [("NotFoundError", "NOT_FOUND", "idempotencyKey")], (
        "it is no new input, which is too late"
    )
    assert (again["token"], again["secret"]) == (None, None)


async def test_concurrent_retries_make_one_token(api: Api, account: Account) -> None:
    given = {"name": "once", "scopes": ["READ"], "idempotencyKey": str(uuid.uuid4())}
    payloads = await asyncio.gather(*(done(api, "createToken", account, **given) for _ in range(5)))

    assert len({payload["secret"] for payload in payloads}) == 1
    assert (await api(LIST, account))["viewer"]["tokens"]["totalCount"] == 2


async def test_a_revoked_token_is_refused(api: Api, account: Account) -> None:
    made = await done(api, "createToken", account, name="x", scopes=["READ"])
    first = await done(api, "revokeToken", account, id=made["token"]["id"])
    second = await done(api, "revokeToken", account, id=made["token"]["id"])

    assert first["token"]["revokedAt"] is not None
    assert second["token"] == first["token"], "the first time stays"
    assert await holder(api, made["secret"]) is None


async def test_a_retry_of_revoking_gets_the_first_answer(api: Api, account: Account) -> None:
    made = await done(api, "createToken", account, name="x", scopes=["READ"])
    given = {"id": made["token"]["id"], "idempotencyKey": str(uuid.uuid4())}
    first = await done(api, "revokeToken", account, **given)
    again = await done(api, "revokeToken", account, **given)

    assert again == {**first, "replayed": True}


async def test_a_token_that_is_remembered_is_forgotten_when_it_is_revoked(api: Api, account: Account) -> None:
    settings = replace(api.services.settings, token_cache_seconds=60.0)
    api.services = replace(api.services, settings=settings, viewers={})
    made = await done(api, "createToken", account, name="x", scopes=["READ"])
    assert await holder(api, made["secret"]) is not None
    assert len(api.services.viewers) == 1
    await done(api, "revokeToken", account, id=made["token"]["id"])

    assert await holder(api, made["secret"]) is None


async def test_a_remembered_token_expires_in_time(
    api: Api, account: Account, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(api.services.settings, token_cache_seconds=3 * 24 * 3600.0)
    api.services = replace(api.services, settings=settings, viewers={})
    made = await done(api, "createToken", account, name="x", scopes=["READ"], expiresAt=later(1))
    first = await holder(api, made["secret"])
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE tokens SET expires_at = clock_timestamp() WHERE id = :id"), {"id": made["token"]["id"]}
        )
    remembered = await holder(api, made["secret"])
    monotonic = time.monotonic
    monkeypatch.setattr("graph.request.context.time", SimpleNamespace(monotonic=lambda: monotonic() + 25 * 3600))

    assert first == remembered is not None
    assert await holder(api, made["secret"]) is None


async def test_tokens_of_others_are_not_found_except_by_admins(
    api: Api, account: Account, admin: Account, new_account: Any
) -> None:
    other = await new_account()
    theirs = await write(api, "revokeToken", account, id=str(other.viewer.token_id))
    missing = await write(api, "revokeToken", account, id=str(uuid.uuid4()))

    assert problems(theirs) == [("NotFoundError", "NOT_FOUND", "id")]
    assert theirs == missing
    await done(api, "revokeToken", admin, id=str(other.viewer.token_id))
    assert await holder(api, other.secret) is None


async def test_tokens_are_listed_in_pages_and_orders(api: Api, account: Account) -> None:
    for name, days in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        await done(api, "createToken", account, name=name, scopes=["READ"], expiresAt=later(days))
    newest = (await api(LIST, account, first=2))["viewer"]["tokens"]
    rest = (await api(LIST, account, first=2, after=newest["pageInfo"]["endCursor"]))["viewer"]["tokens"]
    order = [{"field": "EXPIRES_AT", "nulls": "FIRST"}]
    ordered = (await api(LIST, account, orderBy=order))["viewer"]["tokens"]

    assert [token["name"] for token in newest["nodes"] + rest["nodes"]] == ["c", "a", "b", "test"]
    assert [token["name"] for token in ordered["nodes"]] == ["test", "a", "b", "c"]
    assert (newest["totalCount"], newest["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (
        4,
        True,
        False,
    )


async def test_an_expired_token_says_so(api: Api, account: Account, engine: AsyncEngine) -> None:
    made = await done(api, "createToken", account, name="old", scopes=["READ"], expiresAt=later())
    async with engine.begin() as database:
        await database.execute(
            text("UPDATE tokens SET created_at = '2020-01-01', expires_at = '2020-01-02' WHERE id = :id"),
            {"id": uuid.UUID(made["token"]["id"])},
        )
    data = await api("query($id: ID!) { node(id: $id) { ... on Token { expired } } }", account, id=made["token"]["id"])

    assert data["node"] == {"expired": True}
    assert await holder(api, made["secret"]) is None


# -- authentication and scopes ------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["tsk_unknown", "", "\x00", "ü", "x" * 10_000])
async def test_an_unknown_secret_is_refused(api: Api, secret: str) -> None:
    headers = [(b"authorization", b"Bearer " + secret.encode())]
    with pytest.raises(RequestError) as refusal:
        async with entered(api.services, {"type": "http", "headers": headers}):
            raise AssertionError("entered")

    assert (refusal.value.code, refusal.value.status) == ("UNAUTHENTICATED", 401)
    assert "WWW-Authenticate" in refusal.value.headers
    assert not secret or secret not in refusal.value.message


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "tsk_x", "Bearertsk_x"])
async def test_another_scheme_is_refused(api: Api, header: str) -> None:
    request = {"type": "http", "headers": [(b"authorization", header.encode())]}
    with pytest.raises(RequestError) as refusal:
        async with entered(api.services, request):
            raise AssertionError("entered")

    assert refusal.value.code == "UNAUTHENTICATED"


async def test_the_scheme_has_no_case_and_space_around_the_token_is_ignored(api: Api, account: Account) -> None:
    header = f"bEARER  {account.secret} ".encode()
    request = {"type": "http", "headers": [(b"authorization", header)]}
    async with entered(api.services, request) as context:
        assert context.viewer == account.viewer


async def test_nobody_is_a_viewer_without_a_token(api: Api) -> None:
    async with entered(api.services, http_scope()) as context:
        assert context.viewer is None
        assert context.session.statements == 0


async def test_a_websocket_authenticates_with_its_parameters(api: Api, account: Account) -> None:
    params = {"Authorization": f"Bearer {account.secret}", "other": 5}
    async with entered(api.services, http_scope(), params) as context:
        assert context.viewer == account.viewer


async def test_a_viewer_without_read_reads_nothing(api: Api, new_account: Any) -> None:
    writer = await new_account(scopes=(Scope.WRITE,))
    task = await new_task(api, writer)
    for query in (
        "{ viewer { id } }",
        "{ tasks { totalCount } }",
        f'{{ task(id: "{task["id"]}") {{ id }} }}',
        f'{{ user(id: "{writer.id}") {{ id }} }}',
        f'{{ node(id: "{task["id"]}") {{ id }} }}',
        "{ users { totalCount } }",
    ):
        assert await refused(api, query, writer) == "FORBIDDEN", query
    nested = 'mutation { createTask(input: {title: "x"}) { task { owner { tasks { totalCount } } } } }'
    assert await refused(api, nested, writer) == "FORBIDDEN"


async def test_a_token_that_is_used_is_noted(api: Api, account: Account) -> None:
    await holder(api, account.secret)

    assert account.viewer.token_id in api.services.used_tokens


async def test_a_session_is_listed_among_the_tokens(api: Api, account: Account, no_attempts: None) -> None:
    session = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    ids = [token["id"] for token in (await api(LIST, account))["viewer"]["tokens"]["nodes"]]

    assert ids == [str(session.viewer.token_id), str(account.viewer.token_id)]
