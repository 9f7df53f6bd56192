"""Nobody sees or touches what is somebody else's: shown for every field, argument and mutation of the schema."""

import json
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.context import Context
from graph.execution.engine import Result
from persistence.changes import OWNER
from persistence.models import Role, Scope
from persistence.viewer import Viewer
from tests.conftest import Account, Api
from tests.graph.operations import done, entered, new_task
from tests.graph.samples import (
    SCHEMA,
    Place,
    fields_of,
    filled,
    operation,
    places,
    questions,
    variables_of,
    with_value,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

PUBLIC = {"signUp", "signIn"}
# Where a client chooses the id of what it makes. Ids are unique in the whole store, so one that is taken cannot be
# had; nobody can guess one, and the answer shows nothing of what has it.
CHOSEN = {f"{kind}.id" for kind in ("SignUpInput", "CreateTaskInput", "CreateTokenInput", "CreateUserInput")}
# An address is a name that can be had once: an account cannot be made without learning that it is taken.
TAKEN = {"SignUpInput.email"}
# Subscriptions whose events hold nothing that is stored.
IMPERSONAL = {"serverTime"}
FOR_ADMINS = {"createUser", "updateUser", "deleteUser"}
MARK = "hidden-treasure"


@dataclass
class Victim:
    """Somebody with one of everything, all of it marked."""

    account: Account
    ids: dict[str, str]
    cursor: str


@pytest.fixture
async def victim(api: Api, new_account: Any) -> Victim:
    account = await new_account(email=f"{MARK}-{uuid.uuid4().hex}@example.org")
    await done(api, "updateViewer", account, name=MARK)
    task = await new_task(api, account, title=f"{MARK} task", description=MARK, tags=[MARK])
    trashed = await new_task(api, account, title=f"{MARK} trash")
    await done(api, "deleteTask", account, id=trashed["id"])
    revoked = await done(api, "createToken", account, name=f"{MARK} token", scopes=["READ"])
    await done(api, "revokeToken", account, id=revoked["token"]["id"])
    ids = {
        "user": str(account.id),
        "task": task["id"],
        "trashed": trashed["id"],
        "token": str(account.viewer.token_id),
        "revoked": revoked["token"]["id"],
    }
    data = await api("{ tasks { pageInfo { endCursor } } }", account)
    return Victim(account, ids, data["tasks"]["pageInfo"]["endCursor"])


async def names_of(api: Api, account: Account) -> dict[str, str]:
    """What the samples of somebody are filled with."""
    task = await new_task(api, account, title="Own")
    token = await done(api, "createToken", account, name="Own", scopes=["READ"])
    return {
        "email": f"{uuid.uuid4().hex}@example.org",
        "own_email": account.email,
        "user": str(account.id),
        "task": task["id"],
        "token": token["token"]["id"],
    }


VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # ids
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{32}@example.org|tsk_[\w-]+|\"\w*[cC]ursor\": \"[\w-]+\"",
    re.IGNORECASE,
)


async def answer(api: Api, account: Account | None, place: Place, value: Any, names: dict[str, str]) -> str:
    """The whole answer with a value at a place, without what differs from one run to the next."""
    variables = filled(with_value(place, value), names)
    if place.coordinate == "SignInInput.email":
        variables["input"]["password"] = "not the password"
    found = await api.run(operation(place.owner, place.root), account, **variables)
    whole = json.dumps([found.data, [error.formatted for error in found.errors]], sort_keys=True, default=str)
    return VARYING.sub("*", whole.replace(str(value), "*").replace(str(value).lower(), "*"))


def of_type(leaf: str) -> Iterator[Place]:
    return (place for place in places() if place.leaf == leaf)


async def everything(engine: AsyncEngine, victim: Victim) -> Any:
    """All rows of somebody, as they are."""
    async with engine.connect() as connection:
        found = []
        for table, owner in {"users": "id", "tasks": "owner_id", "tokens": "user_id", "changes": "owner_id"}.items():
            rows = await connection.execute(
                text(f"SELECT t::text FROM {table} AS t WHERE {owner} = :id ORDER BY 1"), {"id": victim.account.id}
            )
            found.append(rows.scalars().all())
        return found


async def test_a_foreign_id_is_a_missing_one_wherever_it_is_put(
    api: Api, engine: AsyncEngine, new_account: Any, victim: Victim
) -> None:
    before = await everything(engine, victim)
    attacker: Account = await new_account()
    names = await names_of(api, attacker)
    for place in of_type("ID"):
        answers = {}
        for kind, id in {"missing": str(uuid.uuid4()), **victim.ids}.items():
            if place.owner == "Mutation":  # which may change what the next one would see
                attacker = await new_account()
                names = await names_of(api, attacker)
            answers[kind] = await answer(api, attacker, place, id, names)
        assert not any(MARK in text for text in answers.values()), place
        if place.coordinate not in CHOSEN:
            assert set(answers.values()) == {answers["missing"]}, (place, answers)
    assert await everything(engine, victim) == before


async def test_a_foreign_id_among_ones_own_is_a_missing_one(api: Api, account: Account, victim: Victim) -> None:
    own = await new_task(api, account)
    for id in victim.ids.values():
        data = await api(
            "query Mixed($ids: [ID!]!) { nodes(ids: $ids) { id ... on Task { owner { email } } } }",
            account,
            ids=[own["id"], id, str(account.id), str(uuid.uuid4())],
        )
        assert data["nodes"] == [
            {"id": own["id"], "owner": {"email": account.email}},
            None,
            {"id": str(account.id)},
            None,
        ]


async def test_a_foreign_text_is_an_unknown_one_wherever_it_is_put(
    api: Api, engine: AsyncEngine, new_account: Any, victim: Victim
) -> None:
    before = await everything(engine, victim)
    attacker: Account = await new_account()
    names = await names_of(api, attacker)
    for place in of_type("String"):
        if place.coordinate in TAKEN or made_with(place):
            continue
        texts = [
            # Each unknown text sorts as its foreign one does among the attacker's own.
            (victim.account.email, f"{MARK}-{uuid.uuid4().hex}@example.org"),
            (f"{MARK} task", f"{MARK} tusk"),
            (MARK, "hidden-pleasure"),
        ]
        if place.path[-1] in ("after", "before"):
            texts = [(victim.cursor, cursor_of_another_list(victim.cursor))]
        for foreign, unknown in texts:
            answers = [await answer(api, attacker, place, value, names) for value in (foreign, unknown)]
            assert answers[0] == answers[1], (place, foreign)
            if place.owner == "Mutation":  # failed sign-ins have to wait
                attacker = await new_account()
                names = await names_of(api, attacker)
    assert await everything(engine, victim) == before


def cursor_of_another_list(cursor: str) -> str:
    _, *keys = json.loads(urlsafe_b64decode(cursor + "==="))
    return urlsafe_b64encode(json.dumps(["0" * 12, *keys]).encode()).decode().rstrip("=")


def made_with(place: Place) -> bool:
    """Whether the text becomes part of what the attacker makes or has, or of a refusal that repeats its form."""
    proofs = ("SignInInput.email", "SignInInput.password", "DeleteViewerInput.password")
    return place.owner == "Mutation" and place.coordinate not in proofs and place.root not in FOR_ADMINS


@pytest.mark.parametrize("scopes", [(Scope.READ, Scope.WRITE), tuple(Scope)])
async def test_no_field_shows_anything_of_others(
    api: Api, new_account: Any, victim: Victim, scopes: tuple[Scope, ...]
) -> None:
    for owner, name, _ in questions():
        attacker = await new_account(scopes=scopes)
        variables = filled(variables_of(owner, name), await names_of(api, attacker))
        found = await api.run(operation(owner, name, depth=2), attacker, **variables)
        whole = json.dumps(found.data) + repr(found.errors)
        assert MARK not in whole, name
        assert not any(id in whole for id in victim.ids.values()), name


async def test_every_sample_works_for_somebody_who_may(api: Api, new_account: Any) -> None:
    """Otherwise the tests of this module would compare refusals."""
    await new_account(Role.ADMIN)
    for owner, name, _ in questions():
        admin = await new_account(Role.ADMIN)
        variables = filled(variables_of(owner, name), await names_of(api, admin))
        found = await api.run(operation(owner, name), admin, **variables)
        assert found.errors == [], name
        if owner == "Mutation":
            assert found.data[name]["errors"] == [], name


@pytest.mark.parametrize("owner", ["Query", "Mutation"])
async def test_every_field_needs_a_viewer_unless_it_is_listed_as_public(api: Api, account: Account, owner: str) -> None:
    names = await names_of(api, account)
    for name in fields_of(owner):
        found = await api.run(operation(owner, name), None, **filled(variables_of(owner, name), names))
        codes = [(error.extensions or {})["code"] for error in found.errors]
        assert codes == ([] if name in PUBLIC else ["UNAUTHENTICATED"]), name


@pytest.mark.parametrize(
    ("owner", "scopes"),
    [
        ("Query", (Scope.WRITE, Scope.ADMIN)),
        ("Mutation", (Scope.READ, Scope.ADMIN)),
    ],
)
async def test_every_field_needs_its_scope(
    api: Api, account: Account, new_account: Any, owner: str, scopes: tuple[Scope, ...]
) -> None:
    names, limited = await names_of(api, account), await new_account(Role.ADMIN, scopes=scopes)
    for name in fields_of(owner):
        found = await api.run(operation(owner, name), limited, **filled(variables_of(owner, name), names))
        codes = [(error.extensions or {})["code"] for error in found.errors]
        assert codes == ([] if name in PUBLIC else ["FORBIDDEN"]), name


async def first_result(api: Api, viewer: Viewer | None, document: str) -> Result:
    """What a subscription answers first."""

    @asynccontextmanager
    async def context() -> AsyncIterator[Context]:
        async with entered(api.services) as made:
            made.viewer = viewer
            yield made

    results = api.engine.subscribe(api.engine.documents.get(document).operation(None), {}, context)
    async with aclosing(results) as results:  # type: ignore[type-var]  # an async generator
        return await anext(results)


async def test_every_subscription_needs_a_viewer_and_shows_nothing_of_others(api: Api, new_account: Any) -> None:
    writer = await new_account(scopes=(Scope.WRITE,))
    for name in fields_of("Subscription"):
        assert name in IMPERSONAL, f"test that the events of {name} are the viewer's, or list it as impersonal"
        for viewer, code in ((None, "UNAUTHENTICATED"), (writer.viewer, "FORBIDDEN")):
            result = await first_result(api, viewer, f"subscription {{ {name} }}")
            assert [(error.extensions or {})["code"] for error in result.errors] == [code]


async def test_a_page_of_somebody_else_cannot_be_counted(api: Api, account: Account, victim: Victim) -> None:
    await new_task(api, account)
    filters: list[dict[str, Any]] = [
        {},
        {"owner": {"id": {"ne": str(account.id)}}},
        {"or": [{}, {"owner": {"email": {"startsWith": MARK}}}]},
        {"not": {"owner": {"id": {"eq": str(account.id)}}}},
        {"createdAt": {"gt": (datetime.now(UTC) - timedelta(days=1)).isoformat()}},
    ]
    for filter in filters:
        data = await api(
            "query Count($f: TaskFilter) { tasks(filter: $f, includeDeleted: true) { totalCount nodes { id } } }",
            account,
            f=filter,
        )
        assert data["tasks"]["totalCount"] in (0, 1)
        assert MARK not in json.dumps(data)


def test_every_entity_is_somebodys() -> None:
    """What implements Node is looked up by id, so it needs an owner that visibility is decided by."""
    nodes = {kind.name for kind in SCHEMA.get_possible_types(SCHEMA.type_map["Node"])}  # type: ignore[arg-type]
    assert nodes == {model.__entity__ for model in OWNER}
