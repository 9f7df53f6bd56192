"""Lookups: who asks at the same time shares a statement, and nobody notices the others."""

import asyncio
import functools
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import nodes, tasks
from persistence.lookups import AT_MOST, AT_ONCE, LOOK_AFTER, PATIENCE, Lookup
from persistence.models import Task
from persistence.reading import Statement
from persistence.session import Session
from tests.conftest import Account
from tests.persistence.conftest import Write

pytestmark = pytest.mark.anyio

VIEWER = uuid4()
IDS: Statement[Any] = nodes.visible_by_id(Task, frozenset({"id"}), False)


class Row:
    def __init__(self, id: UUID, place: int) -> None:
        self.id, self.place = id, place


class Table:
    """A database of which a test says when it answers, and with what."""

    def __init__(self) -> None:
        self.statements: list[list[UUID]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.missing: set[UUID] = set()
        self.rows = 0
        self.lookup = Lookup(self.read, IDS)

    async def read(self, statement: Statement[Any], arguments: list[Any]) -> list[Row]:
        ids, viewers = arguments
        assert len(viewers) == len(ids)
        self.statements.append(ids)
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]
        # A join gives rows in any order.
        return [Row(id, n) for n, id in reversed(list(enumerate(ids, 1))) if id not in self.missing]

    def find(self, id: UUID) -> "asyncio.Future[Any]":
        return self.lookup.find(id, VIEWER, self)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_asks_together_shares_a_statement_and_gets_the_own_row() -> None:
    table, ids = Table(), [uuid4() for _ in range(5)]
    table.missing = {ids[3]}
    futures = [table.find(id) for id in [*ids, ids[0]]]
    await turns()
    table.gates[0].set_result(None)

    found = await asyncio.gather(*futures)

    assert [row and row.id for row in found] == [ids[0], ids[1], ids[2], None, ids[4], ids[0]]
    assert table.statements == [[*ids, ids[0]]]
    assert table.rows == 5


async def test_who_comes_while_a_statement_runs_shares_the_next_one() -> None:
    table, ids = Table(), [uuid4() for _ in range(4)]
    futures = []
    for id in ids:
        futures.append(table.find(id))
        await turns()
    running = list(table.statements)
    table.gates[0].set_result(None)
    await turns()
    table.gates[1].set_result(None)

    found = await asyncio.gather(*futures)

    assert running == [ids[:1]]
    assert table.statements == [ids[:1], ids[1:]]
    assert [row.id for row in found] == ids


async def test_nobody_waits_long_for_a_statement_that_takes_long() -> None:
    table, ids = Table(), [uuid4() for _ in range(AT_ONCE + 3)]
    futures = []
    for id in ids:
        futures.append(table.find(id))
        await asyncio.sleep(4 * PATIENCE)
    running = list(table.statements)
    table.gates[1].set_result(None)
    await turns()
    for gate in (*table.gates[:1], *table.gates[2:]):
        gate.set_result(None)

    found = await asyncio.gather(*futures)

    assert running == [[id] for id in ids[:AT_ONCE]]
    assert table.statements == [*running, ids[AT_ONCE:]]
    assert [row.id for row in found] == ids


async def test_a_statement_looks_up_no_more_than_it_may() -> None:
    table = Table()
    futures = [table.find(uuid4()) for _ in range(AT_MOST + 1)]
    await turns()
    table.gates[0].set_result(None)
    await turns()
    table.gates[1].set_result(None)
    await asyncio.gather(*futures)

    assert [len(statement) for statement in table.statements] == [AT_MOST, 1]


async def test_who_goes_away_takes_nobody_along() -> None:
    table, stays = Table(), uuid4()
    early, late = table.find(uuid4()), table.find(uuid4())
    staying = table.find(stays)
    early.cancel()
    await turns()
    late.cancel()
    table.gates[0].set_result(None)

    assert (await staying).id == stays
    assert len(table.statements[0]) == 2  # who left before it started is not looked up
    assert table.rows == 1


async def test_a_statement_for_which_nobody_waits_any_more_is_cancelled() -> None:
    table = Table()
    futures = [table.find(uuid4()) for _ in range(2)]
    await turns()
    futures[0].cancel()
    await asyncio.sleep(LOOK_AFTER * 1.5)
    kept = not table.gates[0].cancelled()
    futures[1].cancel()
    await asyncio.sleep(LOOK_AFTER * 1.5)

    assert kept
    assert table.gates[0].cancelled()
    again = table.find(uuid4())
    await turns()
    table.gates[1].set_result(None)
    assert (await again) is not None


async def test_an_error_is_told_to_everybody_and_the_next_lookup_starts_anew() -> None:
    table = Table()
    futures = [table.find(uuid4()) for _ in range(2)]
    await turns()
    table.gates[0].set_exception(TimeoutError("away"))
    errors = await asyncio.gather(*futures, return_exceptions=True)
    again = table.find(uuid4())
    await turns()
    table.gates[1].set_result(None)

    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert (await again) is not None


async def test_a_cancelled_statement_leaves_nobody_waiting() -> None:
    table = Table()
    future = table.find(uuid4())
    await turns()
    table.gates[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        await future


async def test_requests_of_several_viewers_share_statements_and_see_only_their_own(
    engine: AsyncEngine, write: Write, new_account: Any, admin: Account
) -> None:
    owners = [await new_account() for _ in range(3)]
    own: dict[UUID, list[UUID]] = {owner.id: [] for owner in owners}
    for owner in owners:
        for n in range(4):
            task = await write(functools.partial(tasks.create, viewer=owner.viewer, title=f"{n}"))
            own[owner.id].append(task.id)
    everything = [id for ids in own.values() for id in ids]
    sessions = []

    async def ask(account: Account, id: UUID) -> bool:
        session = Session(engine)
        sessions.append(session)
        statement = nodes.visible_by_id(Task, frozenset({"id", "title"}), account.viewer.is_admin)
        row: Any = await session.find(statement, id, account.viewer.id)
        assert row is None or row.id == id
        return row is not None

    wanted = [(account, id) for account in [*owners, admin] for id in everything]
    found = await asyncio.gather(*(ask(account, id) for account, id in wanted))

    assert found == [account is admin or id in own[account.id] for account, id in wanted]
    assert sum(session.rows for session in sessions) == sum(found)
    assert {session.statements for session in sessions} == {1}


async def test_a_lookup_sees_what_was_written_before_it_was_asked(
    session: Session, engine: AsyncEngine, account: Account
) -> None:
    statement = nodes.visible_by_id(Task, frozenset({"id", "title"}), False)
    other = Session(engine)

    async def work(session: Session) -> tuple[UUID, Any, Any]:
        task = await tasks.create(session, account.viewer, title="x")
        inside = await session.find(statement, task.id, account.viewer.id)
        outside = await other.find(statement, task.id, account.viewer.id)
        return task.id, inside, outside

    id, inside, outside = await session.transact(work)
    after: Any = await other.find(statement, id, account.viewer.id)

    assert (inside.title, outside, after.title) == ("x", None, "x")
