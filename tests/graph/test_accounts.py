"""What people do with their own account, through the API."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import access, throttle
from persistence.models import Role, Scope
from persistence.passwords import Passwords
from tests.conftest import PASSWORD, Account, Api
from tests.graph.operations import (
    DOCUMENTS,
    bearer,
    done,
    entered,
    holder,
    http_scope,
    new_task,
    problems,
    refused,
    write,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

VIEWER = "{ viewer { id email name role timeZone version tokens { nodes { id kind prefix scopes revokedAt } } } }"


def address() -> str:
    return f"{uuid.uuid4().hex}@example.org"


async def signed_up(api: Api, **given: Any) -> Any:
    return await done(api, "signUp", None, **{"email": address(), "name": "Ada", "password": PASSWORD, **given})


async def sign_in_from(api: Api, origin: str, email: str, password: str) -> Any:
    """The payload of a sign-in from an address of origin."""
    document = api.engine.documents.get(DOCUMENTS["signIn"])
    given = {"input": {"email": email, "password": password}}
    async with entered(api.services, http_scope(address=origin)) as context:
        result = await api.engine.execute(document.operation(None), given, context)
    assert result.errors == []
    return result.data["signIn"]


# -- signing up ---------------------------------------------------------------------------------------


async def test_signing_up_makes_an_account_and_signs_in(api: Api) -> None:
    email = address()
    payload = await signed_up(api, email=f"  {email.upper()} ", name=" Ada ", timeZone="Europe/Berlin")
    account = await bearer(api, payload)

    user, token = payload["user"], payload["token"]
    assert (user["email"], user["name"], user["timeZone"], user["role"]) == (email, "Ada", "Europe/Berlin", "MEMBER")
    assert (token["kind"], token["scopes"], token["expired"]) == ("SESSION", ["READ", "WRITE"], False)
    assert payload["secret"].startswith(token["prefix"])
    days = (datetime.fromisoformat(token["expiresAt"]) - datetime.now(UTC)) / timedelta(days=1)
    assert days == pytest.approx(api.services.settings.session_days, abs=0.1)
    assert str(account.id) == user["id"]
    assert (await api(VIEWER, account))["viewer"]["email"] == email


async def test_a_payload_of_signing_up_shows_what_the_new_viewer_may_see(api: Api) -> None:
    data = await api(
        """mutation SignUpDeep($input: SignUpInput!) { signUp(input: $input) {
            user { id tasks { totalCount } tokens { nodes { id } } } token { id } } }""",
        input={"email": address(), "name": "Ada", "password": PASSWORD},
    )

    payload = data["signUp"]
    assert payload["user"]["tasks"] == {"totalCount": 0}
    assert payload["user"]["tokens"]["nodes"] == [payload["token"]]


async def test_all_problems_of_signing_up_are_told_at_once(api: Api) -> None:
    payload = await write(
        api,
        "signUp",
        None,
        id="no",
        email="nobody",
        name=" ",
        password="short",
        timeZone="Mars/Base",
        idempotencyKey="short",
    )

    assert sorted(problems(payload)) == sorted(
        [
            ("ValidationError", "INVALID_ID", "id"),
            ("ValidationError", "INVALID_EMAIL", "email"),
            ("ValidationError", "TOO_SHORT", "name"),
            ("ValidationError", "TOO_SHORT", "password"),
            ("ValidationError", "INVALID_TIME_ZONE", "timeZone"),
            ("ValidationError", "INVALID_KEY", "idempotencyKey"),
        ]
    )
    assert (payload["user"], payload["token"], payload["secret"]) == (None, None, None)


async def test_an_address_is_taken_whatever_its_case(api: Api, account: Account) -> None:
    payload = await write(api, "signUp", None, email=account.email.upper(), name="Eve", password=PASSWORD)

    assert problems(payload) == [("ConflictError", "EMAIL_TAKEN", "email")]
    assert payload["errors"][0]["current"] is None


async def test_concurrent_sign_ups_with_one_address_make_one_account(api: Api) -> None:
    given = {"email": address(), "name": "Ada", "password": PASSWORD}
    payloads = await asyncio.gather(*(write(api, "signUp", None, **given) for _ in range(4)))

    assert sum(payload["user"] is not None for payload in payloads) == 1
    codes = [problems(payload) for payload in payloads if payload["user"] is None]
    assert codes == [[("ConflictError", "EMAIL_TAKEN", "email")]] * 3


async def test_an_id_of_ones_own_is_kept_and_taken_once(api: Api) -> None:
    id = str(uuid.uuid4())
    payload = await signed_up(api, id=id)
    again = await write(api, "signUp", None, id=id, email=address(), name="Eve", password=PASSWORD)

    assert payload["user"]["id"] == id
    assert problems(again) == [("ConflictError", "ID_TAKEN", "id")]


async def test_a_retry_of_signing_up_gets_the_same_secret_again(api: Api) -> None:
    given = {"email": address(), "name": "Ada", "password": PASSWORD, "idempotencyKey": str(uuid.uuid4())}
    first = await done(api, "signUp", None, **given)
    again = await done(api, "signUp", None, **given)
    other = await write(api, "signUp", None, **{**given, "password": "another password"})

    assert again == {**first, "replayed": True}
    assert await holder(api, again["secret"]) is not None
    assert [kind for kind, _, _ in problems(other)] == ["IdempotencyError"]
    assert other["secret"] is None


async def test_a_late_retry_does_not_bring_a_deleted_account_back(api: Api) -> None:
    given = {"email": address(), "name": "Ada", "password": PASSWORD, "idempotencyKey": str(uuid.uuid4())}
    account = await bearer(api, await done(api, "signUp", None, **given))
    await done(api, "deleteViewer", account, password=PASSWORD)
    again = await write(api, "signUp", None, **given)

    assert (again["user"], again["secret"]) == (None, None)
    assert [kind for kind, _, _ in problems(again)] == ["NotFoundError"]


async def test_sign_up_can_be_closed(api: Api) -> None:
    api.services = replace(api.services, settings=replace(api.services.settings, sign_up=False))
    payload = await write(api, "signUp", None, email=address(), name="Ada", password=PASSWORD)

    assert problems(payload) == [("ForbiddenError", "FORBIDDEN", "")]
    assert payload["user"] is None


# -- signing in ---------------------------------------------------------------------------------------


async def test_signing_in_opens_a_session(api: Api, account: Account) -> None:
    payload = await done(api, "signIn", None, email=f" {account.email.upper()} ", password=PASSWORD)

    session = await bearer(api, payload)
    assert session.id == account.id
    assert payload["token"]["scopes"] == ["READ", "WRITE"]


async def test_an_admin_signs_in_with_the_scope_admin(api: Api, admin: Account) -> None:
    payload = await done(api, "signIn", None, email=admin.email, password=PASSWORD)

    assert payload["token"]["scopes"] == ["READ", "WRITE", "ADMIN"]
    assert access.administers((await bearer(api, payload)).viewer)


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[bool] = []
    verify = Passwords.verify

    async def counted(self: Passwords, password: str, stored: str | None) -> bool:
        work.append(stored is None)
        return await verify(self, password, stored)

    monkeypatch.setattr(Passwords, "verify", counted)
    wrong = await api.run(DOCUMENTS["signIn"], input={"email": account.email, "password": "wrong password"})
    unknown = await api.run(DOCUMENTS["signIn"], input={"email": address(), "password": "wrong password"})

    assert wrong.data == unknown.data
    assert problems(wrong.data["signIn"]) == [("ValidationError", "WRONG_CREDENTIALS", "")]
    assert wrong.data["signIn"]["secret"] is None
    assert wrong.statements == unknown.statements
    assert work == [False, True]


@pytest.mark.parametrize("typed", [str, str.upper, lambda email: "\uff41" + email[1:]], ids=["stored", "upper", "wide"])
async def test_what_a_wrong_password_takes_does_not_tell_whether_there_is_an_account(
    api: Api, typed: Callable[[str], str]
) -> None:
    """`extensions: {explainStatements: true}` shows it to everybody in development, which is the default."""
    known, unknown = f"a{address()}", f"a{address()}"
    await done(api, "signUp", None, email=known, name="Ada", password=PASSWORD)
    answers = [
        await api.run(DOCUMENTS["signIn"], input={"email": typed(email), "password": "wrong password"})
        for email in (known, unknown)
    ]

    assert problems(answers[0].data["signIn"]) == [("ValidationError", "WRONG_CREDENTIALS", "")]
    assert (answers[0].statements, answers[0].rows) == (answers[1].statements, answers[1].rows)


@pytest.mark.parametrize("email", ["", "nobody", "a\x00b@example.org", "\ud800@example.org", "x" * 10_000])
@pytest.mark.parametrize("password", ["", "\ud800 surrogate", "with \x00 nul", "p" * 2_000])
async def test_what_can_be_no_address_or_password_is_a_wrong_one(api: Api, email: str, password: str) -> None:
    payload = await write(api, "signIn", None, email=email, password=password)

    assert problems(payload) == [("ValidationError", "WRONG_CREDENTIALS", "")]


async def test_a_retry_of_signing_in_gets_the_same_secret_again(api: Api, account: Account) -> None:
    given = {"email": account.email, "password": PASSWORD, "idempotencyKey": str(uuid.uuid4())}
    first = await done(api, "signIn", None, **given)
    again = await done(api, "signIn", None, **given)

    assert again == {**first, "replayed": True}


async def test_no_secret_is_in_the_database(api: Api, account: Account, engine: AsyncEngine) -> None:
    key = str(uuid.uuid4())
    payload = await done(api, "signIn", None, email=account.email, password=PASSWORD, idempotencyKey=key)
    async with engine.connect() as database:
        for table in ("tokens", "idempotency_keys", "changes", "users"):
            rows = (await database.execute(text(f"SELECT t::text FROM {table} AS t"))).scalars().all()
            for hidden in (payload["secret"], key, PASSWORD):
                assert not any(hidden in row for row in rows), (table, hidden)


async def test_repeated_failures_of_an_account_have_to_wait(api: Api, account: Account, new_account: Any) -> None:
    for _ in range(throttle.ACCOUNT.free):
        assert problems(await write(api, "signIn", None, email=account.email, password="wrong password")) == [
            ("ValidationError", "WRONG_CREDENTIALS", "")
        ]
    right = await write(api, "signIn", None, email=account.email, password=PASSWORD)
    other = await new_account()

    assert problems(right) == [("LimitError", "SIGN_IN_THROTTLED", "")]
    assert 0 < right["errors"][0]["retryAfterSeconds"] <= throttle.ACCOUNT.longest.total_seconds()
    await done(api, "signIn", None, email=other.email, password=PASSWORD)


async def test_an_unknown_address_has_to_wait_just_the_same(api: Api) -> None:
    email = address()
    for _ in range(throttle.ACCOUNT.free):
        await write(api, "signIn", None, email=email, password="wrong password")

    assert problems(await write(api, "signIn", None, email=email, password="wrong password")) == [
        ("LimitError", "SIGN_IN_THROTTLED", "")
    ]


async def test_failures_at_once_do_not_get_around_the_limit(api: Api, account: Account) -> None:
    attempts = (write(api, "signIn", None, email=account.email, password="wrong password") for _ in range(15))
    payloads = await asyncio.gather(*attempts)

    tried = [payload for payload in payloads if payload["errors"][0]["code"] == "WRONG_CREDENTIALS"]
    assert len(tried) == throttle.ACCOUNT.free


async def test_right_passwords_at_once_are_not_slowed_down(api: Api, account: Account) -> None:
    sign_ins = (write(api, "signIn", None, email=account.email, password=PASSWORD) for _ in range(12))
    payloads = await asyncio.gather(*sign_ins)

    assert [problems(payload) for payload in payloads] == [[]] * 12
    assert len({payload["secret"] for payload in payloads}) == 12


async def test_a_right_password_among_wrong_ones_at_once_is_found_by_no_more_guesses(
    api: Api, account: Account
) -> None:
    """Somebody who guesses learns of the first few only, whether one of them was right or not."""
    guesses = ["wrong password"] * 14 + [PASSWORD]
    payloads = [
        asyncio.create_task(write(api, "signIn", None, email=account.email, password=guess)) for guess in guesses
    ]
    codes = [problems(await payload)[0][1] for payload in payloads]

    assert codes.count("WRONG_CREDENTIALS") == throttle.ACCOUNT.free
    assert codes.count("SIGN_IN_THROTTLED") == len(guesses) - throttle.ACCOUNT.free


async def test_who_hangs_up_during_a_guess_is_counted_by_the_address(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "ADDRESS", replace(throttle.ADDRESS, free=4))
    for _ in range(4):
        guess = asyncio.create_task(sign_in_from(api, "10.0.0.1", account.email, "wrong password"))
        with monkeypatch.context() as patched:
            looked_at = asyncio.Event()

            async def verify(password: str, stored: str | None, looked_at: asyncio.Event = looked_at) -> bool:
                looked_at.set()
                await asyncio.Event().wait()
                return False

            patched.setattr(api.services.passwords, "verify", verify)
            await looked_at.wait()
            guess.cancel()
            with suppress(asyncio.CancelledError):
                await guess

    blocked = await sign_in_from(api, "10.0.0.1", account.email, PASSWORD)
    elsewhere = await sign_in_from(api, "10.0.0.2", account.email, PASSWORD)
    assert problems(blocked) == [("LimitError", "SIGN_IN_THROTTLED", "")]
    assert elsewhere["errors"] == []


async def test_a_success_makes_failures_forgotten(api: Api, account: Account) -> None:
    for _ in range(3):
        for _ in range(throttle.ACCOUNT.free - 1):
            await write(api, "signIn", None, email=account.email, password="wrong password")
        await done(api, "signIn", None, email=account.email, password=PASSWORD)


async def test_repeated_failures_from_one_address_have_to_wait(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "ADDRESS", replace(throttle.ADDRESS, free=4))
    for _ in range(4):
        await sign_in_from(api, "10.0.0.1", address(), "wrong password")
    blocked = await sign_in_from(api, "10.0.0.1", account.email, PASSWORD)
    elsewhere = await sign_in_from(api, "10.0.0.2", account.email, PASSWORD)

    assert [error["code"] for error in blocked["errors"]] == ["SIGN_IN_THROTTLED"]
    assert elsewhere["errors"] == []


@pytest.mark.parametrize(
    ("origins", "other"),
    [
        ([f"2001:db8:0:7::{n:x}" for n in range(1, 5)], "2001:db8:0:8::1"),
        (["192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207", "64:ff9b::192.0.2.7"], "::ffff:192.0.2.8"),
    ],
    ids=["IPv6 by its /64", "IPv4 as IPv6"],
)
async def test_an_address_is_one_client_however_it_is_written(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch, origins: list[str], other: str
) -> None:
    monkeypatch.setattr(throttle, "ADDRESS", replace(throttle.ADDRESS, free=4))
    for origin in origins:
        await sign_in_from(api, origin, address(), "wrong password")
    blocked = await sign_in_from(api, origins[0], account.email, PASSWORD)
    elsewhere = await sign_in_from(api, other, account.email, PASSWORD)

    assert problems(blocked) == [("LimitError", "SIGN_IN_THROTTLED", "")]
    assert elsewhere["errors"] == []


async def test_an_address_makes_so_many_accounts_in_an_hour(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.services, "settings", replace(api.services.settings, sign_ups_per_hour=3))

    async def from_address(origin: str) -> Any:
        given = {"input": {"email": address(), "name": "Ada", "password": PASSWORD}}
        async with entered(api.services, http_scope(address=origin)) as context:
            result = await api.engine.execute(
                api.engine.documents.get(DOCUMENTS["signUp"]).operation(None), given, context
            )
        return result.data["signUp"]

    payloads = await asyncio.gather(*(from_address(f"2001:db8:0:9::{n:x}") for n in range(1, 9)))
    refused_ones = [payload for payload in payloads if payload["errors"]]
    elsewhere = await from_address("2001:db8:0:a::1")

    assert len(refused_ones) == 5
    assert {code for payload in refused_ones for _, code, _ in problems(payload)} == {"SIGN_UP_THROTTLED"}
    # A transaction that began before another has counted may see that one in its future.
    assert all(0 < payload["errors"][0]["retryAfterSeconds"] <= 1260 for payload in refused_ones)
    assert elsewhere["errors"] == []


# -- signing out --------------------------------------------------------------------------------------


async def test_signing_out_ends_this_session_only(api: Api, account: Account) -> None:
    one = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    two = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    payload = await done(api, "signOut", one)

    assert payload["token"]["id"] == str(one.viewer.token_id)
    assert payload["token"]["revokedAt"] is not None
    assert await holder(api, one.secret) is None
    assert await holder(api, two.secret) is not None
    assert await holder(api, account.secret) is not None


async def test_signing_out_needs_no_input(api: Api, account: Account) -> None:
    data = await api("mutation { signOut { token { id } replayed errors { code } } }", account)

    assert data["signOut"] == {"token": {"id": str(account.viewer.token_id)}, "replayed": False, "errors": []}
    assert await holder(api, account.secret) is None


async def test_nothing_can_be_written_after_signing_out_in_the_same_operation(api: Api, account: Account) -> None:
    answer = await api.run(
        'mutation { signOut { errors { code } } createTask(input: {title: "x"}) { task { id } } }', account
    )

    [error] = answer.errors
    assert (error.extensions or {})["code"] == "UNAUTHENTICATED"


# -- the own account ----------------------------------------------------------------------------------


async def test_the_viewer_changes_name_and_time_zone(api: Api, account: Account) -> None:
    payload = await done(api, "updateViewer", account, ifVersion=1, name=" Ada L. ", timeZone="Europe/London")

    user = payload["user"]
    assert (user["name"], user["timeZone"], user["version"]) == ("Ada L.", "Europe/London", 2)
    assert (await api(VIEWER, account))["viewer"]["name"] == "Ada L."


async def test_all_problems_of_an_account_are_told_at_once(api: Api, account: Account) -> None:
    payload = await write(api, "updateViewer", account, name="x" * 201, timeZone="", idempotencyKey="")

    assert sorted(problems(payload)) == sorted(
        [
            ("ValidationError", "TOO_LONG", "name"),
            ("ValidationError", "INVALID_TIME_ZONE", "timeZone"),
            ("ValidationError", "INVALID_KEY", "idempotencyKey"),
        ]
    )


@pytest.mark.parametrize(
    ("mutation", "given"),
    [
        ("updateViewer", {"name": "New"}),
        ("changePassword", {"currentPassword": PASSWORD, "newPassword": "a new password"}),
        ("deleteViewer", {"password": PASSWORD}),
    ],
)
async def test_another_version_of_the_account_is_a_conflict(
    api: Api, account: Account, mutation: str, given: dict[str, Any]
) -> None:
    payload = await write(api, mutation, account, **given, ifVersion=2)

    [error] = payload["errors"]
    assert problems(payload) == [("ConflictError", "STALE_VERSION", "ifVersion")]
    assert error["currentVersion"] == 1
    assert error["current"] == {"__typename": "User", "id": str(account.id)}
    assert (await api(VIEWER, account))["viewer"]["version"] == 1
    await done(api, "signIn", None, email=account.email, password=PASSWORD)


async def test_a_retry_of_changing_the_account_gets_the_first_answer(api: Api, account: Account) -> None:
    given = {"name": "New", "idempotencyKey": str(uuid.uuid4())}
    first = await done(api, "updateViewer", account, **given)
    await done(api, "updateViewer", account, name="Newer")
    again = await done(api, "updateViewer", account, **given)

    assert again == {**first, "replayed": True}


async def test_changing_the_password_ends_all_other_sessions(api: Api, account: Account) -> None:
    mine = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    other = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    await done(api, "changePassword", mine, currentPassword=PASSWORD, newPassword="a new password")

    assert await holder(api, mine.secret) is not None
    assert await holder(api, other.secret) is None
    assert await holder(api, account.secret) is not None, "a personal token is no session"
    old = await write(api, "signIn", None, email=account.email, password=PASSWORD)
    assert problems(old) == [("ValidationError", "WRONG_CREDENTIALS", "")]
    await done(api, "signIn", None, email=account.email, password="a new password")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"currentPassword": "wrong password"}, [("ValidationError", "WRONG_PASSWORD", "currentPassword")]),
        ({"newPassword": "short"}, [("ValidationError", "TOO_SHORT", "newPassword")]),
        ({"newPassword": "x" * 1_001}, [("ValidationError", "TOO_LONG", "newPassword")]),
        (
            {"newPassword": "a\x00 long enough", "idempotencyKey": "short"},
            [
                ("ValidationError", "INVALID_KEY", "idempotencyKey"),
                ("ValidationError", "INVALID_CHARACTER", "newPassword"),
            ],
        ),
    ],
)
async def test_a_password_that_cannot_be_changed_stays(
    api: Api, account: Account, given: dict[str, str], expected: list[tuple[str, str, str]]
) -> None:
    passwords = {"currentPassword": PASSWORD, "newPassword": "a new password"}
    payload = await write(api, "changePassword", account, **{**passwords, **given})

    assert sorted(problems(payload)) == sorted(expected)
    await done(api, "signIn", None, email=account.email, password=PASSWORD)


async def test_a_retry_of_changing_the_password_gets_the_first_answer(api: Api, account: Account) -> None:
    key = str(uuid.uuid4())
    given = {"currentPassword": PASSWORD, "newPassword": "a new password", "idempotencyKey": key}
    first = await done(api, "changePassword", account, **given)
    again = await done(api, "changePassword", account, **given)
    other = await write(api, "changePassword", account, **{**given, "newPassword": "something else"})

    assert again == {**first, "replayed": True}
    assert [kind for kind, _, _ in problems(other)] == ["IdempotencyError"]


@pytest.mark.parametrize(
    ("mutation", "given", "field"),
    [
        ("changePassword", {"currentPassword": "wrong password", "newPassword": "a new password"}, "currentPassword"),
        ("deleteViewer", {"password": "wrong password"}, "password"),
    ],
)
async def test_guessing_the_password_with_a_token_is_slowed_down(
    api: Api, account: Account, mutation: str, given: dict[str, str], field: str
) -> None:
    for _ in range(throttle.ACCOUNT.free):
        payload = await write(api, mutation, account, **given)
        assert problems(payload) == [("ValidationError", "WRONG_PASSWORD", field)]

    assert problems(await write(api, mutation, account, **given)) == [("LimitError", "PASSWORD_THROTTLED", "")]


async def test_nothing_of_a_deleted_account_is_left(api: Api, account: Account, engine: AsyncEngine) -> None:
    key = str(uuid.uuid4())
    session = await bearer(api, await done(api, "signIn", None, email=account.email, password=PASSWORD))
    await new_task(api, account, title="Hidden treasure", tags=["hidden"], idempotencyKey=key)
    await done(api, "deleteTask", account, id=(await new_task(api, account, title="Hidden rubbish"))["id"])
    payload = await done(api, "deleteViewer", account, password=PASSWORD)

    assert payload["deletedUserId"] == str(account.id)
    assert await holder(api, account.secret) is None
    assert await holder(api, session.secret) is None
    again = await write(api, "signIn", None, email=account.email, password=PASSWORD)
    assert problems(again) == [("ValidationError", "WRONG_CREDENTIALS", "")]
    async with engine.connect() as database:
        for table in ("users", "tokens", "tasks", "idempotency_keys"):
            owner = {"users": "id", "tokens": "user_id", "tasks": "owner_id", "idempotency_keys": "scope_id"}[table]
            found = await database.execute(
                text(f"SELECT count(*) FROM {table} WHERE {owner} = :id"), {"id": account.id}
            )
            assert found.scalar() == 0, table
        changes = await database.execute(
            text("SELECT DISTINCT fields FROM changes WHERE owner_id = :id"), {"id": account.id}
        )
        assert changes.scalars().all() == [None]
        purged = await database.execute(
            text(
                "SELECT entity, count(*) FROM changes WHERE owner_id = :id AND action = 'purged' GROUP BY 1 ORDER BY 1"
            ),
            {"id": account.id},
        )
        assert [tuple(row) for row in purged] == [("Task", 2), ("Token", 2), ("User", 1)]


async def test_an_account_is_not_deleted_without_its_password(api: Api, account: Account) -> None:
    payload = await write(api, "deleteViewer", account, password="wrong password")

    assert problems(payload) == [("ValidationError", "WRONG_PASSWORD", "password")]
    assert (await api(VIEWER, account))["viewer"]["id"] == str(account.id)


@pytest.mark.parametrize(
    ("mutation", "given"),
    [
        ("signOut", {}),
        ("updateViewer", {"name": "New"}),
        ("changePassword", {"currentPassword": PASSWORD, "newPassword": "a new password"}),
        ("deleteViewer", {"password": PASSWORD}),
    ],
)
async def test_changing_the_account_needs_the_scope_and_a_viewer(
    api: Api, new_account: Any, mutation: str, given: dict[str, Any]
) -> None:
    reader = await new_account(scopes=(Scope.READ,))
    kind = mutation[0].upper() + mutation[1:]
    document = f"mutation($input: {kind}Input!) {{ {mutation}(input: $input) {{ replayed }} }}"

    assert await refused(api, document, reader, input=given) == "FORBIDDEN"
    assert await refused(api, document, None, input=given) == "UNAUTHENTICATED"


async def test_an_outage_of_the_hasher_is_no_wrong_password(api: Api, account: Account) -> None:
    """A failure of the server must not look like the client's mistake."""
    broken = AsyncMock(side_effect=OSError("no threads left"))
    api.services.passwords = replace_verify(api.services.passwords, broken)

    answer = await api.run(DOCUMENTS["signIn"], input={"email": account.email, "password": PASSWORD})
    [error] = answer.errors
    assert (error.extensions or {})["code"] == "UNAVAILABLE"
    assert "threads" not in error.message


def replace_verify(passwords: Passwords, verify: Any) -> Passwords:
    changed = Passwords(1)
    changed.verify = verify  # type: ignore[method-assign]
    return changed


async def test_roles_of_an_account_come_from_the_database(api: Api, new_account: Any) -> None:
    admin = await new_account(Role.ADMIN)

    assert (await holder(api, admin.secret)) == admin.viewer


# -- addresses and passwords in other forms ------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("b\u00fccher", "xn--{0}-kva"), ("xn--{0}-kva", "B\u00dcCHER")],
)
async def test_an_address_is_one_account_in_unicode_and_in_punycode(api: Api, first: str, second: str) -> None:
    name = uuid.uuid4().hex
    forms = [f"{name}@{form.format('bcher')}.example" for form in (first, second)]
    payload = await signed_up(api, email=forms[0])

    assert payload["user"]["email"] == f"{name}@xn--bcher-kva.example"
    again = await write(api, "signUp", None, email=forms[1], name="Eve", password=PASSWORD)
    assert problems(again) == [("ConflictError", "EMAIL_TAKEN", "email")]
    for form in forms:
        signed_in = await done(api, "signIn", None, email=form, password=PASSWORD)
        assert signed_in["user"]["id"] == payload["user"]["id"]


async def test_an_address_with_what_nobody_sees_makes_no_second_account(api: Api, account: Account) -> None:
    email = account.email.replace("@", "\u200b@")

    payload = await write(api, "signUp", None, email=email, name="Eve", password=PASSWORD)

    assert problems(payload) == [("ValidationError", "INVALID_EMAIL", "email")]
    assert payload["errors"][0]["message"] == (
        "email contains U+200B ZERO WIDTH SPACE, a character that cannot be seen."
    )


async def test_an_account_whose_address_is_older_than_the_rules_works(api: Api, new_account: Any) -> None:
    old = await new_account(email=f"{uuid.uuid4().hex}\u200b@b..example")

    await done(api, "signIn", None, email=old.email.upper(), password=PASSWORD)
    payload = await done(api, "updateViewer", old, name="Ann")
    assert payload["user"]["name"] == "Ann"


async def test_guesses_count_for_an_account_however_its_address_is_written(api: Api) -> None:
    name = uuid.uuid4().hex
    await signed_up(api, email=f"{name}@b\u00fccher.example")
    forms = [f"{name}@b\u00fccher.example", f"{name}@xn--bcher-kva.example", f"\u200b{name}@BU\u0308CHER.example"]

    for n in range(throttle.ACCOUNT.free):
        await write(api, "signIn", None, email=forms[n % 3], password="wrong password")

    throttled = await write(api, "signIn", None, email=forms[2], password=PASSWORD)
    assert problems(throttled) == [("LimitError", "SIGN_IN_THROTTLED", "")]


async def test_a_password_set_as_nfc_is_right_as_nfd(api: Api) -> None:
    email = address()
    account = await bearer(api, await signed_up(api, email=email, password="Am\u00e9lie 1815"))

    await done(api, "signIn", None, email=email, password="Ame\u0301lie 1815")
    changed = {"currentPassword": "Ame\u0301lie 1815", "newPassword": "Zoe\u0308 was here"}
    await done(api, "changePassword", account, **changed)
    await done(api, "signIn", None, email=email, password="Zo\u00eb was here")


@pytest.mark.parametrize("password", [" " * 10, "\u200b" * 10, "\u3164" * 12, "\u2800 " * 8])
async def test_a_password_that_nobody_sees_is_none(api: Api, password: str) -> None:
    payload = await write(api, "signUp", None, email=address(), name="Ada", password=password)

    assert problems(payload) == [("ValidationError", "TOO_SHORT", "password")]
