"""Ids that clients choose: each names one thing, and who takes one that is taken learns nothing of it."""

import uuid
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLScalarType, get_named_type

from graph.schema import schema
from persistence.access import OWNER
from tests.conftest import Account, Api
from tests.graph.operations import done, new_task, problems, write
from tests.graph.samples import filled, variables_of
from tests.graph.walk import made_by

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_hashes")]

NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"


def creations() -> set[str]:
    """The mutations whose input may have an id of the client's own."""
    mutation = schema._schema.mutation_type
    assert mutation is not None
    found = set()
    for name, field in mutation.fields.items():
        if "input" not in field.args:
            continue
        kind = get_named_type(field.args["input"].type)
        assert isinstance(kind, GraphQLInputObjectType)
        if "id" in kind.fields and isinstance(kind.fields["id"].type, GraphQLScalarType):
            found.add(name)
    return found


def given(mutation: str) -> dict[str, Any]:
    values: dict[str, Any] = filled(variables_of("Mutation", mutation), {"email": f"{uuid.uuid4().hex}@example.org"})
    return values["input"]  # type: ignore[no-any-return]


async def things(api: Api, account: Account) -> dict[str, str]:
    """The id of a thing of each type that an account owns, and of one that it purged."""
    purged = (await new_task(api, account))["id"]
    await done(api, "purgeTask", account, id=purged)
    return {"User": str(account.id), **await made_by(api, account), "purged": purged}


@pytest.mark.parametrize("mutation", sorted(creations()))
@pytest.mark.parametrize("keyed", [False, True])
async def test_every_id_that_is_taken_is_refused_alike(
    api: Api, admin: Account, account: Account, new_account: Any, mutation: str, keyed: bool
) -> None:
    """By its owner, by a stranger, whatever has it, before and after it was purged, and once more."""
    stranger = await new_account()
    taken = await things(api, account)
    assert set(taken) == {*(model.__entity__ for model in OWNER), "purged"}
    others: dict[str, list[Account | None]] = {"createUser": [admin], "signUp": [None]}
    viewers = others.get(mutation, [stranger, account])
    answers = []
    for viewer in viewers:
        for kind, id in taken.items():
            if viewer is account and mutation == f"create{kind}":
                continue  # who may see it is shown it
            for spelling in (id, id.upper()):
                key = {"idempotencyKey": uuid.uuid4().hex} if keyed else {}
                asked = {**given(mutation), **key, "id": spelling}
                answers += [await write(api, mutation, viewer, **asked) for _ in range(2)]

    assert len(answers) >= 4 * len(taken) - 4
    assert all(answer == answers[0] for answer in answers)
    assert problems(answers[0]) == [("ConflictError", "ID_TAKEN", "id")]
    assert answers[0]["errors"][0]["current"] is None


async def test_an_id_is_the_same_thing_for_its_owner_and_for_an_admin(
    api: Api, admin: Account, account: Account, new_account: Any
) -> None:
    stranger, taken = await new_account(), await things(api, account)
    ids = list(taken.values())
    for id in ids:
        await write(api, "createTask", stranger, id=id, title="decoy")
        await write(api, "createToken", stranger, id=id, name="decoy", scopes=["READ"])

    for viewer in (account, admin):
        found = (await api(NODES, viewer, ids=ids))["nodes"]
        assert [node and node["__typename"] for node in found] == [*list(taken)[:-1], None]
    assert (await api(NODES, stranger, ids=ids))["nodes"] == [None] * len(taken)


async def test_two_fields_of_one_operation_cannot_share_an_id(api: Api, account: Account) -> None:
    id = str(uuid.uuid4())
    answer = await api(
        """mutation($id: ID!) {
            a: createToken(input: {id: $id, name: "x", scopes: [READ]}) { token { id } errors { code } }
            b: createTask(input: {id: $id, title: "x"}) { task { id } errors { code } }
            c: createTask(input: {id: $id, title: "x"}) { task { id } errors { code } } }""",
        account,
        id=id,
    )

    assert answer["a"] == {"token": {"id": id}, "errors": []}
    assert answer["b"] == answer["c"] == {"task": None, "errors": [{"code": "ID_TAKEN"}]}


async def test_things_of_all_types_come_in_one_statement_however_many_there_are(api: Api, account: Account) -> None:
    taken = await things(api, account)
    more = [(await new_task(api, account))["id"] for _ in range(20)]
    counts = []
    for ids in ([taken["Task"]], list(taken.values()), [*taken.values(), *more, str(uuid.uuid4())]):
        answer = await api.run(NODES, account, ids=ids)
        assert answer.errors == []
        counts.append(answer.statements)

    assert counts == [1, 1, 1]
