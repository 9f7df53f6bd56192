"""Users through the API: who sees whom, and what admins may do."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import access, migrations, tokens, users
from persistence.connections.engine import create_engine
from persistence.models import Role, Scope, TokenKind
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from tests.conftest import PASSWORD, QUICK_HASH, Account, Api
from tests.graph.operations import DOCUMENTS, USER, bearer, done, holder, new_task, problems, refused, write

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

ONE = f"query One($id: ID!) {{ user(id: $id) {USER} }}"
LIST = "query List($filter: UserFilter) { users(filter: $filter) { nodes { id email } totalCount } }"
VIEWER = "{ viewer { id } }"


def address() -> str:
    return f"{uuid.uuid4().hex}@example.org"


def new_user(**given: Any) -> dict[str, Any]:
    return {"email": address(), "name": "Bob", "password": PASSWORD, **given}


async def test_the_viewer_is_who_is_signed_in(api: Api, account: Account) -> None:
    assert (await api(VIEWER, account))["viewer"] == {"id": str(account.id)}
    assert await refused(api, VIEWER) == "UNAUTHENTICATED"


async def test_a_member_sees_no_other_user(api: Api, account: Account, admin: Account) -> None:
    own = await api(ONE, account, id=str(account.id).upper())
    theirs, missing = await api(ONE, account, id=str(admin.id)), await api(ONE, account, id=str(uuid.uuid4()))

    assert own["user"]["email"] == account.email
    assert theirs == missing == {"user": None}
    assert await refused(api, LIST, account) == "FORBIDDEN"


async def test_an_admin_sees_everybody(api: Api, account: Account, admin: Account) -> None:
    mine = {"email": {"eq": account.email}}

    assert (await api(ONE, admin, id=str(account.id)))["user"]["email"] == account.email
    data = await api(LIST, admin, filter=mine)
    assert data["users"] == {"nodes": [{"id": str(account.id), "email": account.email}], "totalCount": 1}


async def test_an_admin_without_the_scope_sees_as_a_member(api: Api, account: Account, new_account: Any) -> None:
    limited = await new_account(Role.ADMIN, scopes=(Scope.READ, Scope.WRITE))

    assert (await api(ONE, limited, id=str(account.id)))["user"] is None
    assert await refused(api, LIST, limited) == "FORBIDDEN"


async def test_a_member_gains_nothing_from_the_scope_admin(api: Api, account: Account, admin: Account) -> None:
    assert Scope.ADMIN in account.viewer.scopes

    assert await refused(api, LIST, account) == "FORBIDDEN"
    assert (await api(ONE, account, id=str(admin.id)))["user"] is None


async def test_an_admin_makes_an_account_for_somebody(api: Api, admin: Account) -> None:
    id = str(uuid.uuid4())
    given = new_user(id=id, role="ADMIN", timeZone="Asia/Tokyo")
    user = (await done(api, "createUser", admin, **given))["user"]

    assert (user["id"], user["role"], user["timeZone"], user["version"]) == (id, "ADMIN", "Asia/Tokyo", 1)
    signed_in = await bearer(api, await done(api, "signIn", None, email=given["email"], password=PASSWORD))
    assert access.administers(signed_in.viewer)


async def test_all_problems_of_a_new_user_are_told_at_once(api: Api, admin: Account) -> None:
    payload = await write(
        api, "createUser", admin, id="no", email="@", name="", password="", timeZone="Nowhere", idempotencyKey="short"
    )

    assert sorted(path for _, _, path in problems(payload)) == [
        "email",
        "id",
        "idempotencyKey",
        "name",
        "password",
        "timeZone",
    ]


async def test_an_address_or_an_id_that_is_taken_is_a_conflict(api: Api, account: Account, admin: Account) -> None:
    email = await write(api, "createUser", admin, **new_user(email=account.email))
    id = await write(api, "createUser", admin, **new_user(id=str(account.id)))

    assert problems(email) == [("ConflictError", "EMAIL_TAKEN", "email")]
    assert problems(id) == [("ConflictError", "ID_TAKEN", "id")]


async def test_an_admin_changes_somebodys_account(api: Api, account: Account, admin: Account) -> None:
    email = address()
    payload = await done(
        api, "updateUser", admin, id=str(account.id), ifVersion=1, email=email.upper(), name="Grace", role="ADMIN"
    )

    user = payload["user"]
    assert (user["email"], user["name"], user["role"], user["version"]) == (email, "Grace", "ADMIN", 2)
    viewer = await holder(api, account.secret)
    assert viewer is not None
    assert access.administers(viewer)


async def test_all_problems_of_a_changed_user_are_told_at_once(api: Api, account: Account, admin: Account) -> None:
    payload = await write(
        api,
        "updateUser",
        admin,
        id=str(account.id),
        email="no",
        name="",
        timeZone="",
        password="short",
        idempotencyKey="short",
    )

    assert sorted(path for _, _, path in problems(payload)) == [
        "email",
        "idempotencyKey",
        "name",
        "password",
        "timeZone",
    ]


async def test_an_address_of_somebody_else_cannot_be_taken_over(api: Api, account: Account, admin: Account) -> None:
    payload = await write(api, "updateUser", admin, id=str(account.id), email=admin.email)

    assert problems(payload) == [("ConflictError", "EMAIL_TAKEN", "email")]


async def test_a_new_password_by_an_admin_ends_all_sessions(api: Api, account: Account, admin: Account) -> None:
    session = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    await done(api, "updateUser", admin, id=str(account.id), password="a new password")

    assert await holder(api, session.secret) is None
    await done(api, "signIn", None, email=account.email, password="a new password")


@pytest.mark.parametrize("mutation", ["updateUser", "deleteUser"])
async def test_another_version_of_a_user_is_a_conflict(
    api: Api, account: Account, admin: Account, mutation: str
) -> None:
    payload = await write(api, mutation, admin, id=str(account.id), ifVersion=9)

    assert problems(payload) == [("ConflictError", "STALE_VERSION", "ifVersion")]
    assert payload["errors"][0]["currentVersion"] == 1
    assert payload["errors"][0]["current"] == {"__typename": "User", "id": str(account.id)}
    assert (await api(ONE, admin, id=str(account.id)))["user"]["version"] == 1


@pytest.mark.parametrize("mutation", ["updateUser", "deleteUser"])
@pytest.mark.parametrize("id", ["no id", str(uuid.UUID(int=3)), "\ud800"])
async def test_a_user_who_does_not_exist_is_not_found(api: Api, admin: Account, mutation: str, id: str) -> None:
    assert problems(await write(api, mutation, admin, id=id)) == [("NotFoundError", "NOT_FOUND", "id")]


async def test_a_deleted_user_is_gone_with_everything(api: Api, account: Account, admin: Account) -> None:
    task = await new_task(api, account)
    payload = await done(api, "deleteUser", admin, id=str(account.id), ifVersion=1)
    data = await api(
        "query Gone($ids: [ID!]!) { nodes(ids: $ids) { id } }",
        admin,
        ids=[str(account.id), task["id"], str(account.viewer.token_id)],
    )

    assert payload["deletedUserId"] == str(account.id)
    assert data["nodes"] == [None, None, None]
    assert await holder(api, account.secret) is None


@pytest.mark.parametrize("mutation", ["createUser", "updateUser", "deleteUser"])
async def test_retries_of_an_admin_get_the_first_answer(
    api: Api, account: Account, admin: Account, mutation: str
) -> None:
    given = {
        "createUser": new_user(),
        "updateUser": {"id": str(account.id), "name": "New", "password": "a new password"},
        "deleteUser": {"id": str(account.id)},
    }[mutation]
    given["idempotencyKey"] = str(uuid.uuid4())
    first = await done(api, mutation, admin, **given)
    again = await done(api, mutation, admin, **given)
    other = await write(api, mutation, admin, **{**given, "id": str(uuid.uuid4())})

    assert again == {**first, "replayed": True}
    assert [kind for kind, _, _ in problems(other)] == ["IdempotencyError"]


async def test_a_kept_answer_shows_nothing_of_a_user_who_was_deleted(api: Api, admin: Account) -> None:
    given = new_user(idempotencyKey=str(uuid.uuid4()))
    id = (await done(api, "createUser", admin, **given))["user"]["id"]
    await done(api, "deleteUser", admin, id=id)
    again = await write(api, "createUser", admin, **given)

    assert again["user"] is None
    assert [kind for kind, _, _ in problems(again)] == ["NotFoundError"]


@pytest.mark.parametrize("mutation", ["createUser", "updateUser", "deleteUser"])
async def test_only_admins_with_the_scope_manage_users(
    api: Api, account: Account, new_account: Any, mutation: str
) -> None:
    given = new_user() if mutation == "createUser" else {"id": str(account.id)}
    limited = await new_account(Role.ADMIN, scopes=(Scope.READ, Scope.WRITE))
    reader = await new_account(Role.ADMIN, scopes=(Scope.READ, Scope.ADMIN))

    for who in (account, limited, reader):
        answer = await api.run(DOCUMENTS[mutation], who, input=given)
        assert [(error.extensions or {})["code"] for error in answer.errors] == ["FORBIDDEN"]


# -- the last admin -----------------------------------------------------------------------------------


@pytest.fixture
async def lonely(
    api: Api, new_database: Callable[[], str], settings: Settings, anyio_backend: str
) -> AsyncIterator[Account]:
    """The only admin of a store of its own, which `api` works on."""
    url = await asyncio.to_thread(new_database)
    await asyncio.to_thread(migrations.upgrade, url)
    engine = create_engine(replace(settings, database_url=url))
    api.services = replace(api.services, engine=engine)
    yield await admin_of(engine)
    await engine.dispose()


async def admin_of(engine: AsyncEngine) -> Account:
    secret, email = tokens.new_secret(), address()

    async def work(session: Session) -> Account:
        user = await users.create(session, email=email, name="Ada", password_hash=QUICK_HASH, role=Role.ADMIN)
        token = await tokens.issue(
            session, user.id, kind=TokenKind.PERSONAL, name="t", scopes=tuple(Scope), secret=secret, expires_at=None
        )
        return Account(user.id, email, Viewer(user.id, Role.ADMIN, frozenset(Scope), token.id), secret)

    session = Session(engine)
    try:
        return await session.transact(work)
    finally:
        await session.close()


async def test_the_last_admin_cannot_be_lost(api: Api, lonely: Account) -> None:
    demoted = await write(api, "updateUser", lonely, id=str(lonely.id), role="MEMBER")
    deleted = await write(api, "deleteUser", lonely, id=str(lonely.id))
    left = await write(api, "deleteViewer", lonely, password=PASSWORD)

    assert problems(demoted) == [("ConflictError", "LAST_ADMIN", "role")]
    assert problems(deleted) == problems(left) == [("ConflictError", "LAST_ADMIN", "")]
    assert await holder(api, lonely.secret) == lonely.viewer


async def test_an_admin_who_is_not_the_last_may_go(api: Api, lonely: Account) -> None:
    other = (await done(api, "createUser", lonely, **new_user(role="ADMIN")))["user"]
    await done(api, "updateUser", lonely, id=other["id"], name="still an admin", role="ADMIN")
    await done(api, "updateUser", lonely, id=str(lonely.id), role="MEMBER")

    assert problems(await write(api, "deleteViewer", lonely, password=PASSWORD)) == []


async def test_two_admins_cannot_remove_each_other_at_once(api: Api, lonely: Account) -> None:
    other = await admin_of(api.services.engine)
    payloads = await asyncio.gather(
        write(api, "updateUser", lonely, id=str(other.id), role="MEMBER"),
        write(api, "updateUser", other, id=str(lonely.id), role="MEMBER"),
    )

    assert sorted(len(payload["errors"]) for payload in payloads) == [0, 1]
