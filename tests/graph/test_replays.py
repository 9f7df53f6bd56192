"""A retry gives back nothing that was taken away meanwhile: no role, no session, no secret, no sight of a thing."""

import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from graph import accounts
from persistence import access
from persistence.models import Role
from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import DOCUMENTS, bearer, done, holder, new_task, problems, refused, write
from tests.graph.workers import workers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

NEW = "a new password"
GONE = [("NotFoundError", "NOT_FOUND", "idempotencyKey")]


def key() -> str:
    return str(uuid.uuid4())


def address() -> str:
    return f"{uuid.uuid4().hex}@example.org"


async def kept_with(engine: AsyncEngine, *needles: str) -> int:
    """How many kept answers hold one of these texts."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT answer::text FROM idempotency_keys WHERE answer IS NOT NULL"))
        return sum(any(needle in answer for needle in needles) for answer in rows.scalars())


async def demoted(api: Api, admin: Account, new_account: Any) -> None:
    boss = await new_account(Role.ADMIN)
    await done(api, "updateUser", boss, id=str(admin.id), role="MEMBER")


# -- who is signed in ---------------------------------------------------------------------------------


async def test_a_replayed_sign_in_does_not_bring_a_role_back(api: Api, admin: Account, new_account: Any) -> None:
    given = {"email": admin.email, "password": PASSWORD, "idempotencyKey": key()}
    first = await done(api, "signIn", None, **given)
    await demoted(api, admin, new_account)
    answer = await api.run(
        """mutation Again($input: SignInInput!, $id: ID!) {
            signIn(input: $input) { replayed secret user { role } token { id } errors { code } }
            updateUser(input: {id: $id, role: ADMIN}) { user { role } errors { code } } }""",
        input=given,
        id=str(admin.id),
    )

    assert [(error.path, (error.extensions or {})["code"]) for error in answer.errors] == [
        (["updateUser"], "FORBIDDEN")
    ]
    again = await done(api, "signIn", None, **given)
    assert (again["replayed"], again["user"]["role"]) == (True, "MEMBER"), "who it is now"
    assert again["secret"] == first["secret"], "the session is there"
    viewer = await holder(api, again["secret"])
    assert viewer is not None
    assert not access.administers(viewer)


async def test_a_replayed_sign_in_shows_the_account_as_it_is(api: Api, account: Account) -> None:
    given = {"email": account.email, "password": PASSWORD, "idempotencyKey": key()}
    await done(api, "signIn", None, **given)
    await done(api, "updateViewer", account, name="Grace")
    again = await done(api, "signIn", None, **given)

    assert (again["replayed"], again["user"]["name"], again["user"]["version"]) == (True, "Grace", 2)


@pytest.mark.parametrize("opening", ["signUp", "signIn"])
@pytest.mark.parametrize("end", ["signOut", "revokeToken", "expiry", "changePassword", "updateUser", "deleteViewer"])
async def test_a_replay_opens_no_session_that_has_ended(
    api: Api, engine: AsyncEngine, admin: Account, opening: str, end: str
) -> None:
    email, used = address(), key()
    up = {"email": email, "name": "Ada", "password": PASSWORD}
    given = {**up, "idempotencyKey": used}
    first = await done(api, "signUp", None, **(given if opening == "signUp" else up))
    if opening == "signIn":
        given = {"email": email, "password": PASSWORD, "idempotencyKey": used}
        first = await done(api, "signIn", None, **given)
    mine = await bearer(api, first)
    other = await bearer(api, await done(api, "signIn", None, email=email, password=PASSWORD))
    if end == "signOut":
        await done(api, "signOut", mine)
    elif end == "revokeToken":
        await done(api, "revokeToken", other, id=str(mine.viewer.token_id))
    elif end == "changePassword":
        await done(api, "changePassword", other, currentPassword=PASSWORD, newPassword=NEW)
    elif end == "updateUser":
        await done(api, "updateUser", admin, id=str(mine.id), password=NEW)
    elif end == "deleteViewer":
        await done(api, "deleteViewer", other, password=PASSWORD)
    else:
        async with engine.begin() as connection:
            past = "UPDATE tokens SET created_at = '2020-01-01', expires_at = '2020-01-02' WHERE id = :id"
            await connection.execute(text(past), {"id": mine.viewer.token_id})
    again = await write(api, opening, None, **given)

    if opening == "signIn" and end not in ("signOut", "revokeToken", "expiry"):
        assert problems(again) == [("ValidationError", "WRONG_CREDENTIALS", "")], "the password comes first"
    else:
        assert problems(again) == GONE
    assert (again["user"], again["token"], again["secret"]) == (None, None, None)


@pytest.mark.parametrize("opening", ["signUp", "signIn"])
async def test_a_replay_does_not_open_the_session_that_changed_the_password(api: Api, opening: str) -> None:
    """It goes on, but who knows the old password and the key gets no part of it."""
    email, used = address(), key()
    up = {"email": email, "name": "Ada", "password": PASSWORD}
    first = await done(api, "signUp", None, **up, **({"idempotencyKey": used} if opening == "signUp" else {}))
    if opening == "signIn":
        first = await done(api, "signIn", None, email=email, password=PASSWORD, idempotencyKey=used)
    mine = await bearer(api, first)
    await done(api, "changePassword", mine, currentPassword=PASSWORD, newPassword=NEW)
    await done(api, "changePassword", mine, currentPassword=NEW, newPassword=PASSWORD)
    given = up if opening == "signUp" else {"email": email, "password": PASSWORD}
    again = await write(api, opening, None, **given, idempotencyKey=used)

    assert problems(again) == GONE
    assert await holder(api, mine.secret) is not None


async def test_a_retry_while_the_password_is_being_changed_gets_the_first_answer(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"currentPassword": PASSWORD, "newPassword": NEW, "idempotencyKey": key()}
    confirm, first = accounts.confirm_password, []

    async def after_the_first(*arguments: Any) -> str:
        monkeypatch.setattr(accounts, "confirm_password", confirm)
        first.append(await done(api, "changePassword", account, **given))
        return await confirm(*arguments)

    monkeypatch.setattr(accounts, "confirm_password", after_the_first)
    again = await done(api, "changePassword", account, **given)

    assert again == {**first[0], "replayed": True}


@pytest.mark.parametrize(
    ("mutation", "given"),
    [("deleteViewer", {"password": PASSWORD}), ("changePassword", {"currentPassword": PASSWORD, "newPassword": NEW})],
)
async def test_who_is_gone_is_signed_out_in_every_process(
    api: Api, account: Account, mutation: str, given: dict[str, str]
) -> None:
    """Another process remembers the token for some seconds; that is no wrong password."""
    await done(api, "deleteViewer", account, password=PASSWORD)
    codes = [
        await refused(api, DOCUMENTS[mutation], account, input={**given, **more})
        for more in ({}, {"idempotencyKey": key()})
    ]

    assert codes == ["UNAUTHENTICATED", "UNAUTHENTICATED"]


async def test_nothing_acts_for_an_account_after_a_replay_that_was_refused(api: Api, engine: AsyncEngine) -> None:
    given = {"email": address(), "name": "Ada", "password": PASSWORD, "idempotencyKey": key()}
    mine = await bearer(api, await done(api, "signUp", None, **given))
    await done(api, "changePassword", mine, currentPassword=PASSWORD, newPassword=NEW)
    answer = await api.run(
        """mutation Again($input: SignUpInput!) {
            signUp(input: $input) { user { id tasks { totalCount } } errors { code } }
            createTask(input: {title: "x"}) { task { id } } }""",
        input=given,
    )

    assert [(error.path, (error.extensions or {})["code"]) for error in answer.errors] == [
        (["createTask"], "UNAUTHENTICATED")
    ]


async def test_the_end_of_an_account_empties_its_kept_sign_up_whatever_its_address_was(
    api: Api, engine: AsyncEngine, admin: Account
) -> None:
    given = {"email": address(), "name": "Ada", "password": PASSWORD, "idempotencyKey": key()}
    mine = await bearer(api, await done(api, "signUp", None, **given))
    moved = address()
    await done(api, "updateUser", admin, id=str(mine.id), email=moved, idempotencyKey=key())
    await done(api, "deleteViewer", mine, password=PASSWORD)
    again = await write(api, "signUp", None, **given)

    assert problems(again) == GONE
    assert await kept_with(engine, str(mine.id), given["email"], moved) == 0


# -- what may be seen ---------------------------------------------------------------------------------

EDITS = ["createTask", "updateTask", "completeTask", "reopenTask", "deleteTask", "restoreTask"]


async def of_a_stranger(api: Api, account: Account, mutation: str) -> dict[str, Any]:
    """The input of an admin's mutation that is about somebody else."""
    if mutation == "createTask":
        return {"title": "Secret plan", "ownerId": str(account.id), "idempotencyKey": key()}
    if mutation == "createUser":
        return {"email": address(), "name": "Secret plan", "password": PASSWORD, "idempotencyKey": key()}
    if mutation in ("updateUser", "deleteUser"):
        more = {"name": "Secret plan"} if mutation == "updateUser" else {}
        return {"id": str(account.id), **more, "idempotencyKey": key()}
    if mutation == "revokeToken":
        made = await done(api, "createToken", account, name="Secret plan", scopes=["READ"])
        return {"id": made["token"]["id"], "idempotencyKey": key()}
    task = await new_task(api, account, title="Secret plan")
    if mutation == "restoreTask":
        await done(api, "deleteTask", account, id=task["id"])
    return {"id": task["id"], **({"description": "x"} if mutation == "updateTask" else {}), "idempotencyKey": key()}


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("mutation", [*EDITS, "purgeTask", "createUser", "updateUser", "deleteUser", "revokeToken"])
async def test_a_demoted_admin_sees_nothing_of_others_in_a_replay(
    api: Api, admin: Account, account: Account, new_account: Any, mutation: str, remembers: bool
) -> None:
    """Neither where the process knows of the demotion, nor where it remembers the admin."""
    [worker] = workers(api, 1)
    given = await of_a_stranger(api, account, mutation)
    assert await worker.write(admin.secret, mutation, **given) == []
    assert await worker.write(admin.secret, mutation, **given) == []
    await demoted(api, admin, new_account)
    if not remembers:
        worker.services.viewers.clear()
    data, codes = await worker.run(admin.secret, DOCUMENTS[mutation], input=given)

    if codes:
        assert (codes, data) in ((["FORBIDDEN"], {mutation: None}), (["FORBIDDEN"], None))
        assert "User" in mutation, "what is for admins alone is refused before"
    else:
        may_not = [("ForbiddenError", "FORBIDDEN", "ownerId")]  # the input itself, where the process knows
        assert problems(data[mutation]) in (GONE, may_not if mutation == "createTask" and not remembers else GONE)
        assert "Secret plan" not in str(data)


@pytest.mark.parametrize("mutation", EDITS)
async def test_an_admin_sees_no_task_in_a_replay_that_its_owner_purged(
    api: Api, engine: AsyncEngine, admin: Account, account: Account, new_account: Any, mutation: str
) -> None:
    given = await of_a_stranger(api, account, mutation)
    first = await done(api, mutation, admin, **given)
    kept = await of_a_stranger(api, account, mutation)
    other = await done(api, mutation, admin, **kept)
    await demoted(api, admin, new_account)  # found among everybody's, not among the admins'
    await done(api, "purgeTask", account, id=first["task"]["id"])
    await done(api, "updateUser", await new_account(Role.ADMIN), id=str(admin.id), role="ADMIN")
    again = await write(api, mutation, admin, **given)

    assert problems(again) == GONE
    assert again["task"] is None
    assert await kept_with(engine, first["task"]["id"]) == 0
    assert await done(api, mutation, admin, **kept) == {**other, "replayed": True}, "what is there is shown"


async def test_the_end_of_an_account_empties_what_others_keep_of_it(
    api: Api, engine: AsyncEngine, admin: Account, account: Account, new_account: Any
) -> None:
    for mutation in [*EDITS, "updateUser", "revokeToken"]:
        await done(api, mutation, admin, **await of_a_stranger(api, account, mutation))
    await done(api, "createToken", account, name="x", scopes=["READ"], idempotencyKey=key())
    assert await kept_with(engine, str(account.id)) == len(EDITS) + 3
    await demoted(api, admin, new_account)
    await done(api, "deleteViewer", account, password=PASSWORD)

    assert await kept_with(engine, str(account.id)) == 0


@pytest.mark.parametrize("mutation", ["createToken", "changePassword", "updateViewer", "createTask"])
async def test_a_replay_with_a_token_that_another_process_revoked_is_refused(
    api: Api, account: Account, mutation: str
) -> None:
    [worker] = workers(api, 1)
    mine = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    inputs: dict[str, dict[str, Any]] = {
        "createToken": {"name": "x", "scopes": ["READ"]},
        "changePassword": {"currentPassword": PASSWORD, "newPassword": NEW},
        "updateViewer": {"name": "Grace"},
        "createTask": {"title": "x"},
    }
    given = {**inputs[mutation], "idempotencyKey": key()}
    assert await worker.write(mine.secret, mutation, **given) == []
    await worker.run(mine.secret, "{ viewer { id } }")  # remembered, also after what made it forgotten
    await done(api, "revokeToken", account, id=str(mine.viewer.token_id))

    assert await worker.write(mine.secret, mutation, **given) == ["UNAUTHENTICATED"]


async def test_a_replay_shows_no_secret_of_a_token_that_was_revoked(api: Api, account: Account) -> None:
    given = {"name": "x", "scopes": ["READ"], "idempotencyKey": key()}
    made = await done(api, "createToken", account, **given)
    await done(api, "revokeToken", account, id=made["token"]["id"])
    again = await write(api, "createToken", account, **given)

    assert problems(again) == GONE
    assert (again["token"], again["secret"]) == (None, None)


async def test_a_replay_gives_a_lesser_token_no_secret_that_it_could_not_have_made(
    api: Api, engine: AsyncEngine, account: Account
) -> None:
    """Keys belong to the user: one token's key is known to whoever reads the script that holds another."""
    given = {"name": "x", "scopes": ["READ", "WRITE"], "idempotencyKey": key()}
    first = await done(api, "createToken", account, **given)
    lesser = await done(api, "createToken", account, name="x", scopes=["WRITE"])
    session = await done(api, "signIn", None, email=account.email, password=PASSWORD)
    equal = await done(api, "createToken", account, name="x", scopes=["READ", "WRITE"])
    outcomes = [
        await write(api, "createToken", await bearer_of(api, made, account), **given) for made in (lesser, session)
    ]

    assert [problems(outcome) for outcome in outcomes] == [GONE, GONE], "it would do more, and it would last longer"
    again = await done(api, "createToken", await bearer_of(api, equal, account), **given)
    assert again["secret"] == first["secret"]


async def bearer_of(api: Api, payload: Any, account: Account) -> Account:
    viewer = await holder(api, payload["secret"])
    assert viewer is not None
    return Account(account.id, account.email, viewer, payload["secret"])


async def test_who_purged_or_deleted_gets_the_first_answer_again(api: Api, admin: Account, account: Account) -> None:
    task = await new_task(api, account)
    purge = {"id": task["id"], "idempotencyKey": key()}
    first = await done(api, "purgeTask", account, **purge)
    end = {"id": str(account.id), "idempotencyKey": key()}

    assert await done(api, "purgeTask", account, **purge) == {**first, "replayed": True}
    deleted = await done(api, "deleteUser", admin, **end)
    assert await done(api, "deleteUser", admin, **end) == {**deleted, "replayed": True}


async def test_no_server_shows_a_task_in_a_replay_after_its_purge(
    api: Api, engine: AsyncEngine, account: Account
) -> None:
    given = {"title": "Secret plan", "idempotencyKey": key()}
    first, second = workers(api)
    made, _ = await first.run(account.secret, DOCUMENTS["createTask"], input=given)
    id = made["createTask"]["task"]["id"]
    assert await second.write(account.secret, "createTask", **given) == []
    assert await first.write(account.secret, "purgeTask", id=id) == []

    for server in (first, second):
        assert await server.write(account.secret, "createTask", **given) == ["NOT_FOUND"]
    assert await kept_with(engine, id) == 0
