"""What is taken from somebody, or was never theirs, comes back by no mutation and by no replay: for every mutation."""

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from graphql import GraphQLObjectType, get_named_type
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.models import Role, Scope
from tests.conftest import Account, Api
from tests.graph.operations import done
from tests.graph.samples import fields_of, filled, places, variables_of, with_value
from tests.graph.walk import (
    CHOSEN,
    MARK,
    PUBLIC,
    Victim,
    everything,
    for_admins,
    limited,
    names_of,
    new_victim,
    refusal,
    whole,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

MUTATIONS = sorted(fields_of("Mutation"))
# The places where a mutation is told what to change; a new one is found by itself.
TARGETS = {
    place.root: place
    for place in places()
    if place.owner == "Mutation" and place.leaf == "ID" and place.coordinate not in CHOSEN
}
OF_OTHERS = sorted(name for name in MUTATIONS if name in TARGETS or for_admins("Mutation", name))
SECRETIVE = sorted(
    name
    for name, field in fields_of("Mutation").items()
    if isinstance(kind := get_named_type(field.type), GraphQLObjectType) and "secret" in kind.fields
)


def test_the_mutations_are_told_apart() -> None:
    """Otherwise the tests below would walk over nothing."""
    assert {"updateTask", "createTask", "revokeToken", "updateUser", "createUser"} <= set(OF_OTHERS)
    assert {"signUp", "signIn", "createToken"} <= set(SECRETIVE)


def keyed(variables: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    return {**variables, "input": {**variables.get("input", {}), "idempotencyKey": key or str(uuid.uuid4())}}


async def own(api: Api, account: Account, mutation: str) -> dict[str, Any]:
    """Variables with which a mutation does something to what is somebody's own."""
    return keyed(filled(variables_of("Mutation", mutation), await names_of(api, account)))


async def of_victim(api: Api, account: Account, mutation: str, victim: Victim) -> list[dict[str, Any]]:
    """Variables with which a mutation does something to each thing of somebody else that it may be about."""
    names = {**await names_of(api, account), "email": f"{MARK}-{uuid.uuid4().hex}@example.org"}
    if mutation not in TARGETS:
        return [keyed(filled(variables_of("Mutation", mutation), names))]
    return [keyed(filled(with_value(TARGETS[mutation], id), names)) for id in victim.ids.values()]


def payload_of(answer: str, mutation: str) -> dict[str, Any]:
    """The payload in an answer; empty when there is none."""
    data, _ = json.loads(answer)
    return (data or {}).get(mutation) or {}


def is_refused(answer: str, mutation: str) -> bool:
    _, errors = json.loads(answer)
    payload = payload_of(answer, mutation)
    nothing = all(payload[name] is None for name in payload if name not in ("__typename", "errors", "replayed"))
    return bool(errors or payload["errors"]) and nothing


async def demote(engine: AsyncEngine, account: Account) -> None:
    """As another process does it: this one has not heard of it."""
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE users SET role = 'member', version = version + 1 WHERE id = :id"), {"id": account.id}
        )


async def revoke(engine: AsyncEngine, token_id: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE tokens SET revoked_at = now() WHERE id = :id"), {"id": token_id})


async def rights(engine: AsyncEngine, *users: Account) -> Any:
    """Who there is, and the rights, passwords and tokens of some."""
    found = []
    for user in users:
        rows = await everything(engine, user.id)
        columns = ("id", "email", "role", "password_hash")
        found.append([[{name: row[name] for name in columns} for row in rows["users"]], rows["tokens"]])
    async with engine.connect() as connection:
        return found, await connection.scalar(text("SELECT count(*) FROM users"))


# -- the key of somebody else -------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS) - PUBLIC))
async def test_a_key_that_somebody_else_has_used_is_a_new_one(api: Api, new_account: Any, mutation: str) -> None:
    first = await new_account(Role.ADMIN, email=f"{MARK}-{uuid.uuid4().hex}@example.org")
    await done(api, "updateViewer", first, name=MARK)
    used = await own(api, first, mutation)
    one, other = await new_account(), await new_account()
    answered = await whole(api, first, "Mutation", mutation, used, depth=2)
    replayed = await whole(api, first, "Mutation", mutation, used, depth=2)
    theirs = await whole(api, one, "Mutation", mutation, used)
    unused = await whole(api, other, "Mutation", mutation, keyed(used))
    admins = await whole(api, await new_account(Role.ADMIN), "Mutation", mutation, used)

    assert payload_of(answered, mutation)["errors"] == []
    # Who has ended the token or the account is signed out, and gets nothing again.
    assert payload_of(replayed, mutation).get("replayed") or mutation in ("signOut", "deleteViewer", "deleteUser")
    assert MARK not in theirs
    assert [codes(theirs, mutation), shape(theirs)] == [codes(unused, mutation), shape(unused)]
    assert not payload_of(theirs, mutation).get("replayed")
    assert not payload_of(admins, mutation).get("replayed")


def codes(answer: str, mutation: str) -> list[str]:
    _, errors = json.loads(answer)
    return [error["extensions"]["code"] for error in errors] + [
        value
        for error in payload_of(answer, mutation).get("errors", [])
        for name, value in error.items()
        if "code" in name
    ]


def shape(answer: str) -> Any:
    """Which parts of an answer are there."""

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(inner) for name, inner in value.items()}
        return [of(inner) for inner in value] if isinstance(value, list) else value is None

    return of(json.loads(answer)[0])


@pytest.mark.parametrize("mutation", sorted(PUBLIC))
async def test_a_key_opens_nothing_without_the_password(api: Api, account: Account, mutation: str) -> None:
    used = await own(api, account, mutation)
    answered = await whole(api, None, "Mutation", mutation, used)
    guessed = {"input": {**used["input"], "password": "not the password"}}
    answer = await whole(api, None, "Mutation", mutation, guessed)

    assert payload_of(answered, mutation)["secret"]
    assert is_refused(answer, mutation)
    assert not payload_of(answer, mutation)["replayed"]


# -- a right that was lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", OF_OTHERS)
async def test_a_replay_shows_nothing_of_others_to_who_is_no_admin_any_more(
    api: Api, engine: AsyncEngine, new_account: Any, mutation: str
) -> None:
    admin, victim = await new_account(Role.ADMIN), await new_victim(api, new_account)
    tried = await of_victim(api, admin, mutation, victim)
    answers = [await whole(api, admin, "Mutation", mutation, variables, depth=2) for variables in tried]
    worked = [n for n, answer in enumerate(answers) if not is_refused(answer, mutation)]
    unscoped = await limited(engine, admin, (Scope.READ, Scope.WRITE))
    await demote(engine, admin)
    elsewhere = admin  # a process that remembers the admin
    here = replace(admin, viewer=replace(admin.viewer, role=Role.MEMBER))

    assert worked
    for n in worked:
        for who in (elsewhere, here, unscoped):
            answer = await whole(api, who, "Mutation", mutation, tried[n], depth=2)
            assert is_refused(answer, mutation), (who.viewer, answer)
            assert MARK not in answer


@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS) - PUBLIC))
async def test_a_replay_needs_the_scope_and_a_token_that_is_good(
    api: Api, engine: AsyncEngine, new_account: Any, mutation: str
) -> None:
    account = await new_account(Role.ADMIN)
    used = await own(api, account, mutation)
    reader = await limited(engine, account, (Scope.READ,))
    answered = await whole(api, account, "Mutation", mutation, used)
    answer = await whole(api, reader, "Mutation", mutation, used)
    await revoke(engine, account.viewer.token_id)
    revoked = await whole(api, account, "Mutation", mutation, used)

    assert payload_of(answered, mutation)["errors"] == []
    assert codes(answer, mutation) == refusal("Mutation", mutation, reader.viewer) == ["FORBIDDEN"]
    assert is_refused(revoked, mutation), revoked


@pytest.mark.parametrize("mutation", SECRETIVE)
async def test_a_replay_hands_out_no_secret_that_opens_nothing(
    api: Api, engine: AsyncEngine, account: Account, mutation: str
) -> None:
    used = await own(api, account, mutation)
    who = None if mutation in PUBLIC else account
    first = payload_of(await whole(api, who, "Mutation", mutation, used), mutation)
    again = payload_of(await whole(api, who, "Mutation", mutation, used), mutation)
    await revoke(engine, first["token"]["id"])
    after = await whole(api, who, "Mutation", mutation, used)

    assert (again["secret"], again["replayed"]) == (first["secret"], True)
    assert is_refused(after, mutation)
    assert first["secret"] not in after


# -- what another process remembers -------------------------------------------------------------------


@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS) - PUBLIC))
async def test_who_was_demoted_elsewhere_changes_nothing_of_others(
    api: Api, engine: AsyncEngine, new_account: Any, mutation: str
) -> None:
    admin, victim = await new_account(Role.ADMIN), await new_victim(api, new_account)
    tried = await of_victim(api, admin, mutation, victim)
    tried += await of_victim(api, admin, mutation, replace(victim, ids=dict.fromkeys(victim.ids, str(admin.id))))
    if mutation == "updateUser":
        for variables in tried:
            variables["input"]["role"] = "ADMIN"
    await demote(engine, admin)
    before, all_before = await rights(engine, victim.account), await everything(engine, victim.account.id)
    for variables in tried:
        await whole(api, admin, "Mutation", mutation, variables)

    after = await rights(engine, victim.account)
    # The account that is left is still the own one to leave.
    assert after == ((before[0], before[1] - 1) if mutation == "deleteViewer" else before)
    assert await everything(engine, victim.account.id) == all_before
    assert [row["role"] for row in (await everything(engine, admin.id))["users"]] in (["member"], [])


@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS) - PUBLIC))
async def test_a_token_that_was_revoked_elsewhere_changes_no_right_and_nothing_of_others(
    api: Api, engine: AsyncEngine, new_account: Any, mutation: str
) -> None:
    admin, victim = await new_account(Role.ADMIN), await new_victim(api, new_account)
    tried = [await own(api, admin, mutation), *await of_victim(api, admin, mutation, victim)]
    await revoke(engine, admin.viewer.token_id)
    before, all_before = await rights(engine, admin, victim.account), await everything(engine, victim.account.id)
    for variables in tried:
        await whole(api, admin, "Mutation", mutation, variables)

    assert await rights(engine, admin, victim.account) == before
    assert await everything(engine, victim.account.id) == all_before
