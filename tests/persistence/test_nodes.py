"""Entities by their ids: of any table in one statement, and only what the viewer may see."""

import uuid
from typing import Any

import pytest

from persistence import nodes, tasks
from persistence.access import Reach
from persistence.models import Task, Token, User
from persistence.rows import reading
from persistence.rules.errors import Conflict
from persistence.session import Session
from tests.conftest import Account
from tests.persistence.conftest import Write

pytestmark = pytest.mark.anyio

COLUMNS = {
    "User": frozenset({"id", "name"}),
    "Task": frozenset({"id", "title", "tags"}),
    "Token": frozenset({"id", "name", "scopes"}),
}


async def test_entities_of_all_tables_come_in_one_statement(write: Write, session: Session, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x", tags=["a"]))
    ids = [account.id, task.id, account.viewer.token_id, uuid.uuid4()]

    found = await nodes.by_ids(session, account.viewer, ids, COLUMNS)

    assert session.statements == 1
    assert {id: row.__entity__ for id, row in found.items()} == {
        account.id: "User",
        task.id: "Task",
        account.viewer.token_id: "Token",
    }
    assert (found[task.id].title, found[task.id].tags, found[account.id].name) == ("x", ["a"], "Ada")
    assert found[account.viewer.token_id].scopes == ["read", "write", "admin"]


async def test_somebody_elses_entities_are_not_there_except_for_an_admin(
    write: Write, session: Session, account: Account, admin: Account, new_account: Any
) -> None:
    other = await new_account()
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))
    ids = [account.id, task.id, account.viewer.token_id]

    assert await nodes.by_ids(session, other.viewer, ids, COLUMNS) == {}
    assert set(await nodes.by_ids(session, admin.viewer, ids, COLUMNS)) == set(ids)
    for model, id in ((User, account.id), (Task, task.id), (Token, account.viewer.token_id)):
        for viewer, is_there in ((account.viewer, True), (other.viewer, False), (admin.viewer, True)):
            found = await nodes.find(session, viewer, model, id, frozenset({"id"}))
            assert (found is not None) == is_there


async def test_an_id_finds_one_thing_for_everybody_whoever_tries_to_take_it(
    write: Write, session: Session, account: Account, admin: Account, new_account: Any
) -> None:
    other = await new_account()
    with pytest.raises(Conflict):
        await write(lambda s: tasks.create(s, other.viewer, id=account.id, title="decoy"))

    for viewer in (account.viewer, admin.viewer):
        assert (await nodes.by_ids(session, viewer, [account.id], COLUMNS))[account.id].__entity__ == "User"
    assert await nodes.by_ids(session, other.viewer, [account.id], COLUMNS) == {}


async def test_only_the_kinds_that_are_asked_for_are_looked_up(session: Session, account: Account) -> None:
    found = await nodes.by_ids(session, account.viewer, [account.id], {"Task": frozenset({"id"})})

    assert found == {}


async def test_an_empty_list_of_ids_finds_nothing(session: Session, account: Account) -> None:
    assert await nodes.by_ids(session, account.viewer, [], COLUMNS) == {}


async def test_a_row_brings_its_owner_along(write: Write, session: Session, account: Account) -> None:
    task = await write(lambda s: tasks.create(s, account.viewer, title="x"))
    columns = frozenset({"id", "owner_id", "owner.id", "owner.name", "owner.created_at"})

    row: Any = await session.find(nodes.visible_by_id(Task, columns, Reach.OWN), task.id, account.viewer.id)

    assert (row.__entity__, row.owner_row.__entity__) == ("Task", "User")
    assert (row.owner_row.id, row.owner_row.name) == (account.id, "Ada")
    assert row.owner_row.created_at.tzinfo is not None
    assert reading.target(Task, "owner") is User
