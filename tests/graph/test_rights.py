"""What may be done is asked in the transaction that does it: whatever a process remembers, whoever is faster."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.execution.errors import RequestError
from persistence import tokens
from persistence.connections.failures import UnknownOutcome
from persistence.models import Role, Scope
from persistence.passwords import Passwords
from persistence.session import Session
from persistence.writes import rights
from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import bearer, done, holder, new_task, problems, write
from tests.graph.workers import Worker, workers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

NEW = "a new password"
VIEWER = "{ viewer { id role } }"


async def role_of(engine: AsyncEngine, account: Account) -> str | None:
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT role FROM users WHERE id = :id"), {"id": account.id})
        return found.scalar()


async def count_of(engine: AsyncEngine, table: str, owner: str, account: Account) -> int:
    async with engine.connect() as connection:
        query = text(f"SELECT count(*) FROM {table} WHERE {owner} = :id")
        return int((await connection.execute(query, {"id": account.id})).scalar() or 0)


async def session_of(api: Api, account: Account) -> Account:
    return await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))


# -- passwords ----------------------------------------------------------------------------------------


async def test_one_of_many_changes_of_a_password_at_once_succeeds(api: Api, account: Account) -> None:
    servers = workers(api)
    outcomes = await asyncio.gather(
        *(
            servers[n % 2].write(
                account.secret, "changePassword", currentPassword=PASSWORD, newPassword=f"{NEW} number {n}"
            )
            for n in range(6)
        )
    )

    assert outcomes.count([]) == 1
    assert {code for codes in outcomes for code in codes} <= {"WRONG_PASSWORD", "PASSWORD_THROTTLED"}
    winner = outcomes.index([])
    signed_in = [await write(api, "signIn", None, email=account.email, password=f"{NEW} number {n}") for n in (winner,)]
    assert [payload["errors"] for payload in signed_in] == [[]]


async def test_a_change_of_the_password_that_is_sent_several_times_at_once_is_one(api: Api, account: Account) -> None:
    given = {"currentPassword": PASSWORD, "newPassword": NEW, "idempotencyKey": str(uuid.uuid4())}
    servers = workers(api)
    outcomes = await asyncio.gather(
        *(servers[n % 2].write(account.secret, "changePassword", **given) for n in range(4))
    )

    assert [] in outcomes
    assert {code for codes in outcomes for code in codes} <= {"WRONG_PASSWORD"}
    assert await servers[0].write(account.secret, "changePassword", **given) == []
    await done(api, "signIn", None, email=account.email, password=NEW)


def after_verifying(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Let something happen when a password was found to be right, before that is relied on."""
    verify = Passwords.verify

    async def verified(self: Passwords, password: str, stored: str | None) -> bool:
        right = await verify(self, password, stored)
        monkeypatch.setattr(Passwords, "verify", verify)
        await meanwhile()
        return right

    monkeypatch.setattr(Passwords, "verify", verified)


@pytest.mark.parametrize(
    ("mutation", "given", "expected"),
    [
        ("changePassword", {"currentPassword": PASSWORD, "newPassword": "of the thief"}, "WRONG_PASSWORD"),
        ("deleteViewer", {"password": PASSWORD}, "WRONG_PASSWORD"),
        ("signIn", {"password": PASSWORD}, "WRONG_CREDENTIALS"),
    ],
)
async def test_a_password_that_is_changed_while_it_is_verified_is_a_wrong_one(
    api: Api,
    engine: AsyncEngine,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    mutation: str,
    given: dict[str, str],
    expected: str,
) -> None:
    mine = await session_of(api, account)
    after_verifying(monkeypatch, lambda: done(api, "changePassword", mine, currentPassword=PASSWORD, newPassword=NEW))
    given = {**given, "email": account.email} if mutation == "signIn" else given
    payload = await write(api, mutation, None if mutation == "signIn" else account, **given)

    assert [error["code"] for error in payload["errors"]] == [expected]
    assert await role_of(engine, account) == "member", "the account is there"
    await done(api, "signIn", None, email=account.email, password=NEW)


async def test_an_admin_who_is_demoted_while_signing_in_gets_no_scope_for_it(
    api: Api, admin: Account, new_account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await new_account(Role.ADMIN)
    after_verifying(monkeypatch, lambda: done(api, "updateUser", other, id=str(admin.id), role="MEMBER"))
    payload = await done(api, "signIn", None, email=admin.email, password=PASSWORD)

    assert payload["token"]["scopes"] == ["READ", "WRITE"]
    assert payload["user"]["role"] == "MEMBER"


# -- what another process remembers -------------------------------------------------------------------


async def remembered(worker: Worker, account: Account) -> None:
    """Let a server believe a token for the next minute."""
    data, codes = await worker.run(account.secret, VIEWER)
    assert (data["viewer"]["id"], codes) == (str(account.id), [])


ADMINISTRATION: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
    "createUser": lambda ids: {"email": f"{uuid.uuid4().hex}@example.org", "name": "Eve", "password": PASSWORD},
    "updateUser": lambda ids: {"id": ids["own"], "role": "ADMIN"},
    "deleteUser": lambda ids: {"id": ids["user"]},
    "revokeToken": lambda ids: {"id": ids["token"]},
    "createTask": lambda ids: {"title": "x", "ownerId": ids["user"]},
    "updateTask": lambda ids: {"id": ids["task"], "title": "Taken"},
    "completeTask": lambda ids: {"id": ids["task"]},
    "reopenTask": lambda ids: {"id": ids["task"]},
    "deleteTask": lambda ids: {"id": ids["task"]},
    "restoreTask": lambda ids: {"id": ids["task"]},
    "purgeTask": lambda ids: {"id": ids["task"]},
}


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("mutation", ADMINISTRATION)
async def test_a_demoted_admin_administers_nothing_through_another_process(
    api: Api, engine: AsyncEngine, admin: Account, account: Account, new_account: Any, mutation: str, keyed: bool
) -> None:
    first, second = workers(api)
    boss, task = await new_account(Role.ADMIN), await new_task(api, account)
    await remembered(second, admin)
    assert await first.write(boss.secret, "updateUser", id=str(admin.id), role="MEMBER") == []
    ids = {
        "own": str(admin.id),
        "user": str(account.id),
        "token": str(account.viewer.token_id),
        "task": task["id"],
    }
    given = ADMINISTRATION[mutation](ids)
    if keyed:
        given["idempotencyKey"] = str(uuid.uuid4())
    codes = await second.write(admin.secret, mutation, **given)

    assert codes in (["FORBIDDEN"], ["NOT_FOUND"])
    assert await role_of(engine, admin) == "member"
    assert await role_of(engine, account) == "member"
    assert await holder(api, account.secret) is not None
    [left] = (await api("{ tasks { nodes { id title version } } }", account))["tasks"]["nodes"]
    assert left == {"id": task["id"], "title": "Write", "version": 1}


RIGHTS: dict[str, dict[str, Any]] = {
    "createToken": {"name": "for ever", "scopes": ["READ", "WRITE"]},
    "changePassword": {"currentPassword": PASSWORD, "newPassword": NEW},
    "deleteViewer": {"password": PASSWORD},
    "signOut": {},
    "revokeToken": {},
}


@pytest.mark.parametrize("mutation", RIGHTS)
async def test_a_revoked_token_writes_no_rights_through_another_process(
    api: Api, engine: AsyncEngine, account: Account, mutation: str
) -> None:
    first, second = workers(api)
    stolen, mine = await session_of(api, account), account
    await remembered(second, stolen)
    assert await first.write(mine.secret, "revokeToken", id=str(stolen.viewer.token_id)) == []
    given = {"id": str(mine.viewer.token_id)} if mutation == "revokeToken" else RIGHTS[mutation]

    assert await second.write(stolen.secret, mutation, **given) == ["UNAUTHENTICATED"]
    assert await count_of(engine, "tokens", "user_id", account) == 2
    assert await holder(api, mine.secret) is not None
    await done(api, "signIn", None, email=account.email, password=PASSWORD)


async def test_what_the_store_refuses_is_not_believed_any_more(api: Api, account: Account) -> None:
    first, second = workers(api)
    stolen = await session_of(api, account)
    await remembered(second, stolen)
    await first.write(account.secret, "revokeToken", id=str(stolen.viewer.token_id))
    await second.write(stolen.secret, "createToken", **RIGHTS["createToken"])

    assert second.services.viewers == {}


async def test_who_waits_for_a_revocation_finds_the_token_revoked(
    api: Api, engine: AsyncEngine, account: Account
) -> None:
    """The revocation is not committed yet when the other begins: then it is no help that the token is good still."""
    mine = await session_of(api, account)
    session = Session(engine)
    await session.begin()
    now = await rights.confirm(session, mine.viewer, user_id=None, token_id=account.viewer.token_id)
    assert now is not None
    await tokens.revoke(session, now, account.viewer.token_id)
    await session.flush()
    making = asyncio.create_task(workers(api)[0].write(account.secret, "createToken", **RIGHTS["createToken"]))
    async with asyncio.timeout(10):
        while not await waiting(engine):  # the question itself takes a moment
            pass
    await session.commit()

    assert await making == ["UNAUTHENTICATED"]
    assert await count_of(engine, "tokens", "user_id", account) == 2


async def waiting(engine: AsyncEngine) -> bool:
    """Whether somebody waits for a lock."""
    async with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return bool((await connection.execute(text(query))).scalar())


async def test_admins_who_work_on_each_other_at_once_do_not_wait_for_each_other_for_ever(
    api: Api, new_account: Any
) -> None:
    one, two = [await new_account(Role.ADMIN) for _ in range(2)]
    spare = [(await done(api, "createToken", who, name="x", scopes=["READ"]))["token"]["id"] for who in (one, two)]
    outcomes = await asyncio.gather(
        *(write(api, "updateUser", one, id=str(two.id), name=f"Two {n}") for n in range(5)),
        *(write(api, "updateUser", two, id=str(one.id), name=f"One {n}") for n in range(5)),
        write(api, "revokeToken", one, id=spare[1]),
        write(api, "revokeToken", two, id=spare[0]),
    )

    assert [payload["errors"] for payload in outcomes] == [[]] * 12


# -- what happens while a token is checked ------------------------------------------------------------


@pytest.mark.parametrize("by", ["revokeToken", "signOut", "deleteViewer"])
async def test_a_revocation_during_an_authentication_wins(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    [worker] = workers(api, 1)
    mine = await session_of(api, account)
    read, go_on = asyncio.Event(), asyncio.Event()
    authenticate, asked = tokens.authenticate, 0

    async def slow(session: Session, secret: str) -> Any:
        nonlocal asked
        found = await authenticate(session, secret)
        asked += secret == mine.secret
        if secret == mine.secret and asked == 1:
            read.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(tokens, "authenticate", slow)
    asking = asyncio.create_task(worker.run(mine.secret, VIEWER))
    await read.wait()
    given = {"revokeToken": {"id": str(mine.viewer.token_id)}, "deleteViewer": {"password": PASSWORD}}.get(by, {})
    other = account if by != "signOut" else mine
    if by == "signOut":
        asked = 1  # its own request is checked as well, and is not the one that is held up
    assert await worker.write(other.secret, by, **given) == []
    go_on.set()
    with pytest.raises(RequestError) as refusal:
        await asking

    assert refusal.value.code == "UNAUTHENTICATED"
    assert mine.viewer.token_id not in {viewer.token_id for viewer, _ in worker.services.viewers.values()}
    assert worker.services.asking == set()


# -- what an operation takes away from itself ---------------------------------------------------------


async def codes_of(api: Api, account: Account, operation: str) -> tuple[Any, list[Any]]:
    answer = await api.run(operation, account)
    return answer.data, [(error.extensions or {})["code"] for error in answer.errors]


LATER = [
    'later: createTask(input: {title: "x"}) { task { id } errors { code } }',
    'later: createToken(input: {name: "x", scopes: [READ]}) { secret errors { code } }',
    'later: updateViewer(input: {name: "x"}) { user { id } errors { code } }',
    "later: revokeToken(input: {id: %TOKEN%}) { token { id } errors { code } }",
    "later: signOut { token { id } errors { code } }",
]


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize(
    "first",
    [
        "first: revokeToken(input: {id: %TOKEN%}) { token { id } errors { code } }",
        "first: signOut { token { id } errors { code } }",
        'first: updateUser(input: {id: %USER%, password: "another password"}) { user { id } errors { code } }',
        "first: deleteUser(input: {id: %USER%}) { deletedUserId errors { code } }",
        'first: deleteViewer(input: {password: "correct horse battery"}) { deletedUserId errors { code } }',
    ],
)
async def test_a_token_that_ends_itself_does_nothing_more_in_the_operation(
    api: Api, engine: AsyncEngine, admin: Account, new_account: Any, first: str, later: str
) -> None:
    await new_account(Role.ADMIN)  # not the last one
    mine = await session_of(api, admin)
    operation = f"mutation {{ {first} {later} }}"
    operation = operation.replace("%TOKEN%", f'"{mine.viewer.token_id}"').replace("%USER%", f'"{admin.id}"')
    answer = await api.run(operation, mine)

    [error] = answer.errors
    assert (error.path, (error.extensions or {})["code"]) == (["later"], "UNAUTHENTICATED")
    assert answer.data is None or answer.data["first"]["errors"] == []
    assert await count_of(engine, "tasks", "owner_id", admin) == 0
    assert await holder(api, mine.secret) is None


async def test_an_admin_who_gives_the_role_away_administers_nothing_more_in_the_operation(
    api: Api, engine: AsyncEngine, admin: Account, account: Account, new_account: Any
) -> None:
    await new_account(Role.ADMIN)
    data, codes = await codes_of(
        api,
        admin,
        f"""mutation {{
            first: updateUser(input: {{id: "{admin.id}", role: MEMBER}}) {{ user {{ role }} errors {{ code }} }}
            own: createTask(input: {{title: "mine"}}) {{ task {{ id }} errors {{ code }} }}
            later: createTask(input: {{title: "x", ownerId: "{account.id}"}}) {{ task {{ id }} errors {{ code }} }}
            last: updateUser(input: {{id: "{admin.id}", role: ADMIN}}) {{ user {{ role }} errors {{ code }} }} }}""",
    )

    assert codes == ["FORBIDDEN"]
    assert data is None or data["last"] is None
    assert await role_of(engine, admin) == "member"
    assert await count_of(engine, "tasks", "owner_id", admin) == 1
    assert await count_of(engine, "tasks", "owner_id", account) == 0


async def test_a_write_that_was_refused_takes_nothing_away(api: Api, admin: Account) -> None:
    data, codes = await codes_of(
        api,
        admin,
        f"""mutation {{
            first: revokeToken(input: {{id: "{uuid.uuid4()}"}}) {{ errors {{ code }} }}
            second: updateUser(input: {{id: "{admin.id}", ifVersion: 7, password: "{NEW}"}}) {{ errors {{ code }} }}
            third: createToken(input: {{name: "x", scopes: [READ]}}) {{ secret errors {{ code }} }} }}""",
    )

    assert codes == []
    assert data["third"]["secret"] is not None


# -- what outlives what -------------------------------------------------------------------------------


async def test_a_token_makes_none_that_outlives_it(api: Api, account: Account) -> None:
    mine = await session_of(api, account)
    mine_ends = (await holder(api, mine.secret)).expires_at  # type: ignore[union-attr]
    assert mine_ends is not None
    same = (await done(api, "createToken", mine, name="x", scopes=["READ"]))["token"]
    null = (await done(api, "createToken", mine, name="x", scopes=["READ"], expiresAt=None))["token"]
    sooner = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    earlier = (await done(api, "createToken", mine, name="x", scopes=["READ"], expiresAt=sooner))["token"]
    beyond = (mine_ends + timedelta(microseconds=1)).isoformat()
    later = await write(api, "createToken", mine, name="x", scopes=["READ"], expiresAt=beyond)

    assert datetime.fromisoformat(same["expiresAt"]) == datetime.fromisoformat(null["expiresAt"]) == mine_ends
    assert datetime.fromisoformat(earlier["expiresAt"]) == datetime.fromisoformat(sooner)
    assert problems(later) == [("ValidationError", "OUTLIVES_TOKEN", "expiresAt")]
    assert later["secret"] is None


async def test_a_chain_of_tokens_ends_with_its_first(api: Api, account: Account) -> None:
    mine = await session_of(api, account)
    ends = set()
    for _ in range(3):
        made = await done(api, "createToken", mine, name="x", scopes=["READ", "WRITE"])
        ends.add(made["token"]["expiresAt"])
        viewer = await holder(api, made["secret"])
        assert viewer is not None
        mine = Account(account.id, account.email, viewer, made["secret"])

    assert len(ends) == 1
    assert None not in ends


async def test_scopes_are_asked_of_the_token_in_the_store(api: Api, new_account: Any) -> None:
    limited = await new_account(scopes=(Scope.READ, Scope.WRITE))
    payload = await write(api, "createToken", limited, name="x", scopes=["ADMIN"])

    assert problems(payload) == [("ValidationError", "SCOPE_NOT_HELD", "scopes.0")]


async def test_an_admin_edits_tasks_of_an_account_while_deleting_it(
    api: Api, engine: AsyncEngine, admin: Account, new_account: Any
) -> None:
    """The one waits for the other, and never each for the other: there is no deadlock to be resolved."""
    before = await deadlocks(engine)
    for _ in range(5):
        owner = await new_account()
        made = [(await new_task(api, owner))["id"] for _ in range(4)]
        edit = 'mutation($id: ID!) { updateTask(input: {id: $id, title: "Edited"}) { errors { code } } }'
        edits = (api(edit, admin, id=id) for id in made)
        *outcomes, end = await asyncio.gather(*edits, write(api, "deleteUser", admin, id=str(owner.id)))
        assert end["errors"] == []
        codes = {error["code"] for outcome in outcomes for error in outcome["updateTask"]["errors"]}
        assert codes <= {"NOT_FOUND"}

    assert await deadlocks(engine) == before


async def deadlocks(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int((await connection.execute(text(query))).scalar() or 0)


async def test_a_token_that_may_have_ended_itself_does_nothing_more_in_the_operation(
    api: Api, engine: AsyncEngine, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks during COMMIT: nobody can say whether the token was revoked."""
    transact = Session.transact

    async def broken(self: Session, work: Any) -> Any:
        await transact(self, work)
        raise UnknownOutcome

    monkeypatch.setattr(Session, "transact", broken)
    _, codes = await codes_of(
        api,
        account,
        f"""mutation {{
            first: revokeToken(input: {{id: "{account.viewer.token_id}"}}) {{ errors {{ code }} }}
            later: createTask(input: {{title: "x"}}) {{ task {{ id }} }} }}""",
    )

    assert codes == ["UNKNOWN_OUTCOME"], "an error at the top ends the operation"
    assert await count_of(engine, "tasks", "owner_id", account) == 0
