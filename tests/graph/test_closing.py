"""An account that was deleted is gone for everybody at once, however much of it is still in the tables."""

import uuid
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from background.housekeeping import erase_closed
from graph.request.context import Services
from persistence.models import Role
from persistence.writes import closing
from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import done, holder, new_task, problems, write
from tests.graph.samples import filled, questions, variables_of
from tests.graph.walk import CHOSEN, MARK, Victim, answer, everything, names_of, new_victim, of_type, whole

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]


@pytest.fixture
def nothing_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a closed account stay where they are."""

    async def later(*_: Any) -> bool:
        return False

    monkeypatch.setattr(closing, "_erase", later)


@pytest.fixture
async def gone(api: Api, new_account: Any, admin: Account, engine: AsyncEngine, nothing_erased: None) -> Victim:
    """Somebody whose account was deleted a moment ago."""
    victim = await new_victim(api, new_account)
    await done(api, "deleteUser", admin, id=str(victim.account.id))
    rows = await everything(engine, victim.account.id)
    assert len(rows["tasks"]) > 2
    assert MARK not in str(rows["users"])
    return victim


async def test_ids_of_a_closed_account_are_missing_ones_to_an_admin(api: Api, new_account: Any, gone: Victim) -> None:
    admin, tried = await new_account(Role.ADMIN), 0
    names = await names_of(api, admin)
    for place in of_type("ID"):
        answers = {}
        for kind, id in {"missing": str(uuid.uuid4()), **gone.ids}.items():
            if place.owner == "Mutation":  # which may change what the next one would see
                admin = await new_account(Role.ADMIN)
                names = await names_of(api, admin)
            answers[kind] = await answer(api, admin, place, id, names)
        assert not any(MARK in text for text in answers.values()), place
        if place.coordinate not in CHOSEN:
            assert set(answers.values()) == {answers["missing"]}, (place, answers)
            tried += 1
    assert tried > 20


async def test_no_question_shows_a_closed_account_to_an_admin(api: Api, admin: Account, gone: Victim) -> None:
    names, asked = await names_of(api, admin), 0
    for owner, name, _ in questions():
        if owner != "Mutation":
            assert not gone.is_in(await whole(api, admin, owner, name, filled(variables_of(owner, name), names))), name
            asked += 1
    assert asked > 8
    everybody = """query Everybody {
        marked: tasks(scope: ALL, search: "hidden", trash: INCLUDE) { totalCount nodes { id } }
        tagged: tasks(scope: ALL, filter: {tags: {hasAny: ["hidden-treasure"]}}, trash: INCLUDE) {
            totalCount nodes { id } }
        users(filter: {email: {contains: "closed.invalid"}}) { totalCount nodes { id } } }"""
    data = await api(everybody, admin)
    empty = {"totalCount": 0, "nodes": []}
    assert not gone.is_in(str(data))
    assert data["users"] == empty


async def test_who_is_remembered_as_signed_in_sees_and_writes_nothing_more(
    api: Api, engine: AsyncEngine, gone: Victim
) -> None:
    """Another process may have checked the token some seconds ago."""
    names = {"email": f"{uuid.uuid4().hex}@example.org", "own_email": gone.account.email}
    names |= {"user": str(gone.account.id), "task": gone.ids["task"], "token": str(gone.account.viewer.token_id)}
    before, asked = await everything(engine, gone.account.id), 0
    for owner, name, _ in questions():
        if name not in ("signUp", "node", "nodes", "user", "task"):  # which may say the id that was asked for
            text = await whole(api, gone.account, owner, name, filled(variables_of(owner, name), names))
            assert MARK not in text, name
            asked += 1
    data = await api(
        "query Own($id: ID!, $task: ID!) { viewer { id } user(id: $id) { id } task(id: $task) { id }"
        " nodes(ids: [$id, $task]) { id } tasks { totalCount nodes { id } } }",
        gone.account,
        id=str(gone.account.id),
        task=gone.ids["task"],
    )

    assert asked > 20
    assert await everything(engine, gone.account.id) == before
    assert data["viewer"] is data["user"] is data["task"] is None
    assert data["nodes"] == [None, None]
    assert data["tasks"] == {"totalCount": 0, "nodes": []}


async def test_the_tokens_and_the_password_of_a_closed_account_open_nothing(api: Api, gone: Victim) -> None:
    again = await write(api, "signIn", None, email=gone.account.email, password=PASSWORD)

    assert await holder(api, gone.account.secret) is None
    assert problems(again) == [("ValidationError", "WRONG_CREDENTIALS", "")]


async def test_the_address_of_a_closed_account_is_free_at_once(api: Api, gone: Victim) -> None:
    new = await done(api, "signUp", None, email=gone.account.email, name="Another", password=PASSWORD)

    assert new["user"]["email"] == gone.account.email
    assert new["user"]["id"] != str(gone.account.id)


async def test_an_account_can_be_deleted_whatever_address_somebody_else_has(
    api: Api, new_account: Any, admin: Account
) -> None:
    """The address that is free must become another one, which nobody can have taken beforehand."""
    leaving = await new_account()
    await done(api, "signUp", None, email=f"{leaving.id}@closed.invalid", name="Squatter", password=PASSWORD)
    deleted = await write(api, "deleteUser", admin, id=str(leaving.id))

    assert problems(deleted) == []
    assert deleted["deletedUserId"] == str(leaving.id)


async def test_the_address_that_a_closed_account_is_left_with_cannot_be_signed_up_with(
    api: Api, engine: AsyncEngine, gone: Victim
) -> None:
    [row] = (await everything(engine, gone.account.id))["users"]
    new = await write(api, "signUp", None, email=row["email"], name="Squatter", password=PASSWORD)

    assert problems(new) == [("ValidationError", "INVALID_EMAIL", "email")]
    assert str(gone.account.id) not in row["email"]


async def test_nothing_is_made_for_a_closed_account(
    api: Api, engine: AsyncEngine, admin: Account, gone: Victim
) -> None:
    before = await everything(engine, gone.account.id)
    payload = await write(api, "createTask", admin, title="Late", ownerId=str(gone.account.id))
    keyed = {"title": "Late", "ownerId": str(gone.account.id), "idempotencyKey": str(uuid.uuid4())}

    assert problems(payload) == problems(await write(api, "createTask", admin, **keyed))
    assert problems(payload) == [("NotFoundError", "NOT_FOUND", "ownerId")]
    assert await everything(engine, gone.account.id) == before


async def test_a_kept_answer_shows_nothing_of_a_closed_account(
    api: Api, new_account: Any, admin: Account, nothing_erased: None
) -> None:
    account = await new_account()
    keyed = {"title": MARK, "ownerId": str(account.id), "idempotencyKey": str(uuid.uuid4())}
    await done(api, "createTask", admin, **keyed)
    await done(api, "deleteUser", admin, id=str(account.id))
    again = await write(api, "createTask", admin, **keyed)

    assert MARK not in str(again)
    assert problems(again) == [("NotFoundError", "NOT_FOUND", "idempotencyKey")]


async def test_the_last_admin_is_counted_without_closed_accounts(
    api: Api, engine: AsyncEngine, new_account: Any, nothing_erased: None
) -> None:
    leaving = await new_account(Role.ADMIN)
    await done(api, "deleteViewer", leaving, password=PASSWORD)

    rows = await everything(engine, leaving.id)
    assert [row["role"] for row in rows["users"]] == ["member"]


async def test_deleting_takes_few_statements_whatever_the_account_owns(
    api: Api, services: Services, engine: AsyncEngine, account: Account, admin: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "BATCH", 3)
    for n in range(10):
        await new_task(api, account, title=f"Task {n}", idempotencyKey=str(uuid.uuid4()))
    document = (
        "mutation Delete($input: DeleteUserInput!) { deleteUser(input: $input) { deletedUserId errors { code } } }"
    )
    answer = await api.run(document, admin, input={"id": str(account.id)})
    left = await everything(engine, account.id)
    await erase_closed(services.engine)
    after = await everything(engine, account.id)

    assert answer.data["deleteUser"] == {"deletedUserId": str(account.id), "errors": []}
    assert answer.statements <= 30
    assert len(left["tasks"]) == 7
    assert after["users"] == after["tasks"] == after["tokens"] == []
    purged = [change for change in after["changes"] if change["action"] == "purged"]
    assert sorted(change["entity"] for change in purged) == ["Task"] * 10 + ["Token", "User"]
    assert {change["actor_id"] for change in purged} == {str(admin.id)}
    assert {change["fields"] for change in after["changes"]} == {None}
