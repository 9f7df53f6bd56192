"""Nobody sees or touches what is somebody else's: shown for every field, argument and mutation of the schema."""

import json
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import combinations
from typing import Any

import pytest
from graphql import (
    GraphQLObjectType,
    GraphQLOutputType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    parse,
    visit,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from graph.execution.running.engine import Result
from graph.request.context import Context
from persistence import access
from persistence.access import OWNER
from persistence.models import Role, Scope
from persistence.models.base import entities
from persistence.viewer import Viewer
from tests.conftest import Account, Api
from tests.graph.operations import entered, new_task
from tests.graph.samples import SCHEMA, Place, fields_of, filled, operation, places, questions, variables_of, with_value
from tests.graph.walk import (
    CHOSEN,
    MARK,
    PUBLIC,
    Victim,
    answer,
    combined,
    cursors_in,
    everything,
    for_admins,
    limited,
    names_of,
    new_victim,
    of_type,
    refusal,
    values_at,
    whole,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes", "no_attempts")]

# An address is a name that can be had once: an account cannot be made without learning that it is taken.
TAKEN = {"SignUpInput.email"}
# Subscriptions whose events hold nothing that is stored.
IMPERSONAL = {"serverTime"}
SCOPES = [scopes for number in (1, 2, 3) for scopes in combinations(Scope, number)]
# Who sees no more than a stranger does: somebody who is one, and an admin whose token does not allow it.
STRANGERS = [(Role.MEMBER, tuple(Scope)), (Role.ADMIN, (Scope.READ, Scope.WRITE))]
strangers = pytest.mark.parametrize(("role", "scopes"), STRANGERS, ids=["a stranger", "an admin without the scope"])


@pytest.fixture
async def victim(api: Api, new_account: Any) -> Victim:
    return await new_victim(api, new_account)


@strangers
async def test_a_foreign_id_is_a_missing_one_wherever_it_is_put(
    api: Api, engine: AsyncEngine, new_account: Any, victim: Victim, role: Role, scopes: tuple[Scope, ...]
) -> None:
    before = await everything(engine, victim.account.id)
    attacker: Account = await new_account(role, scopes)
    names = await names_of(api, attacker)
    for place in of_type("ID"):
        answers = {}
        for kind, id in {"missing": str(uuid.uuid4()), **victim.ids}.items():
            if place.owner == "Mutation":  # which may change what the next one would see
                attacker = await new_account(role, scopes)
                names = await names_of(api, attacker)
            answers[kind] = await answer(api, attacker, place, id, names)
        assert not any(MARK in text for text in answers.values()), place
        if place.coordinate not in CHOSEN:
            assert set(answers.values()) == {answers["missing"]}, (place, answers)
    assert await everything(engine, victim.account.id) == before


async def test_an_id_is_found_by_an_admin_wherever_it_is_put(api: Api, new_account: Any) -> None:
    """Otherwise the test above would compare answers that depend on no id."""
    for place in of_type("ID"):
        if place.owner == "User" or place.coordinate in CHOSEN:
            continue  # which is about the viewer's own
        victim, admin = await new_victim(api, new_account), await new_account(Role.ADMIN)
        names = await names_of(api, admin)
        missing = await answer(api, admin, place, str(uuid.uuid4()), names)
        answers = [await answer(api, admin, place, id, names) for id in victim.ids.values()]
        assert place.path[-1] in ("ne", "notIn") or any(found != missing for found in answers), place


@strangers
async def test_no_answer_depends_on_what_others_have(
    api: Api, new_account: Any, role: Role, scopes: tuple[Scope, ...]
) -> None:
    """Every question is asked before there is anything of somebody else, and after: also counts and whether a list
    goes on are the same, whatever it is filtered, sorted, searched or cut by."""
    task_id = str(uuid.uuid4())
    attacker, admin = await new_account(role, scopes), await new_account(Role.ADMIN)
    names = await names_of(api, attacker)
    asked: list[tuple[Place, dict[str, Any]]] = []
    some: list[tuple[Place, dict[str, Any]]] = []  # one of each place is enough for the admin
    for place in places():
        if place.owner == "Mutation":
            continue
        page = await whole(api, attacker, place.owner, place.root, filled(variables_of(place.owner, place.root), names))
        for value in values_at(place, task_id, cursors_in(page)):
            asked += [(place, variables) for variables in combined(filled(with_value(place, value), names))]
        if place.owner == "Query" and not place.path[0].startswith("filter"):
            some.append(asked[-1])

    async def answers(account: Account, questions: list[tuple[Place, dict[str, Any]]]) -> list[str]:
        return [await whole(api, account, place.owner, place.root, variables) for place, variables in questions]

    before, seen_before = await answers(attacker, asked), await answers(admin, some)
    victim = await new_victim(api, new_account, task_id)
    after, seen_after = await answers(attacker, asked), await answers(admin, some)

    different = [question for question, *two in zip(asked, before, after, strict=True) if two[0] != two[1]]
    assert different == []
    assert not any(victim.is_in(text.replace(task_id, "")) for text in after)
    # For who may see it all the answers are others: there was something to be found. The id is that of a task.
    others = {entity.lower() for entity in entities() if entity != "Task"}
    seen = {place.root for (place, _), *two in zip(some, seen_before, seen_after, strict=True) if two[0] != two[1]}
    assert seen == {name for name in fields_of("Query") if fields_of("Query")[name].args} - others


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
    before = await everything(engine, victim.account.id)
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
            texts = [(victim.cursor, cursor_of_an_unknown_row(victim.cursor))]
        for foreign, unknown in texts:
            answers = [await answer(api, attacker, place, value, names) for value in (foreign, unknown)]
            assert answers[0] == answers[1], (place, foreign)
            if place.owner == "Mutation":  # failed sign-ins have to wait
                attacker = await new_account()
                names = await names_of(api, attacker)
    assert await everything(engine, victim.account.id) == before


def cursor_of_an_unknown_row(cursor: str) -> str:
    *place, _ = json.loads(urlsafe_b64decode(cursor + "==="))
    return urlsafe_b64encode(json.dumps([*place, str(uuid.uuid4())]).encode()).decode().rstrip("=")


def made_with(place: Place) -> bool:
    """Whether the text becomes part of what the attacker makes or has, or of a refusal that repeats its form."""
    proofs = ("SignInInput.email", "SignInInput.password", "DeleteViewerInput.password")
    return place.owner == "Mutation" and place.coordinate not in proofs and not for_admins(place.owner, place.root)


@pytest.mark.parametrize("role", list(Role), ids=str)
@pytest.mark.parametrize("scopes", SCOPES, ids="+".join)
async def test_every_field_does_for_a_viewer_what_role_and_scopes_allow(
    api: Api, engine: AsyncEngine, new_account: Any, victim: Victim, role: Role, scopes: tuple[Scope, ...]
) -> None:
    """It is refused or it is not, and shows something of others to admins with the scope alone."""
    seen = set()
    for owner, name, _ in questions():
        account = await new_account(role)
        names = await names_of(api, account)
        viewer = await limited(engine, account, scopes)
        text = await whole(api, viewer, owner, name, filled(variables_of(owner, name), names), depth=2)
        codes = {len(error["path"]): error["extensions"]["code"] for error in json.loads(text)[1]}
        top = [codes.pop(1)] if 1 in codes else []
        assert top == refusal(owner, name, viewer.viewer), (owner, name)
        # Who may write and not read sees what was written, and nothing below it.
        assert set(codes.values()) <= (set() if viewer.viewer.may_read else {"FORBIDDEN"}), (owner, name)
        if victim.is_in(text):
            seen.add((owner, name))
    lists = {
        ("Query", name)
        for name, field in fields_of("Query").items()
        if str(field.type).strip("!").endswith("Connection")
    }
    assert seen == (lists if access.administers(viewer.viewer) and viewer.viewer.may_read else set())


@pytest.mark.parametrize("owner", ["Query", "Mutation"])
async def test_every_field_needs_a_viewer_unless_it_is_listed_as_public(api: Api, account: Account, owner: str) -> None:
    names = await names_of(api, account)
    for name in fields_of(owner):
        found = await api.run(operation(owner, name), None, **filled(variables_of(owner, name), names))
        codes = [(error.extensions or {})["code"] for error in found.errors]
        assert codes == refusal(owner, name, None) == ([] if name in PUBLIC else ["UNAUTHENTICATED"]), name


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


def test_every_entity_is_somebodys() -> None:
    """What implements Node is looked up by id, so it needs an owner that visibility is decided by."""
    nodes = {kind.name for kind in SCHEMA.get_possible_types(SCHEMA.type_map["Node"])}  # type: ignore[arg-type]
    assert nodes == {model.__entity__ for model in OWNER}


def test_the_walk_asks_for_every_field_of_every_type() -> None:
    """Otherwise something could be added that no test of this module looks at."""
    asked: set[str] = set()

    class Asked(Visitor):
        def enter_field(self, node: Any, *_: Any) -> None:
            parent: GraphQLOutputType | None = info.get_parent_type()
            asked.add(f"{parent}.{node.name.value}")

    for owner, name, _ in questions():
        info = TypeInfo(SCHEMA)
        visit(parse(operation(owner, name, depth=2)), TypeInfoVisitor(info, Asked()))
    for name in IMPERSONAL:
        asked.add(f"Subscription.{name}")
    there = {
        f"{kind.name}.{name}"
        for kind in SCHEMA.type_map.values()
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__")
        for name in kind.fields
    }
    missing = sorted(there - asked)
    assert not missing, f"say in tests/graph/samples.py how an operation comes to {', '.join(missing)}"
