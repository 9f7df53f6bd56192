"""Shared statements: who asks at the same time is answered together, and nobody notices the others."""

import asyncio
import functools
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import nodes, tasks
from persistence.access import Reach, reach
from persistence.connections.engine import create_engine
from persistence.connections.sharing import AT_MOST, AT_ONCE, ENOUGH, LOOK_AFTER, PATIENCE, Shared
from persistence.models import Task
from persistence.session import Session
from persistence.settings import Settings
from tests.conftest import Account
from tests.persistence.conftest import Write

pytestmark = pytest.mark.anyio


class Table:
    """A database of which a test says when it answers."""

    def __init__(self) -> None:
        self.statements: list[list[int]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.shared: Shared[int] = Shared(self.run)

    async def run(self, asked: list[int]) -> list[str]:
        self.statements.append(asked)
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]
        return [f"row {n}" for n in asked]

    def ask(self, n: int, *apart: str) -> "asyncio.Future[Any]":
        return self.shared.ask(n, frozenset(apart))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_asks_together_shares_a_statement_and_gets_the_own_answer() -> None:
    table = Table()
    futures = [table.ask(n) for n in (1, 2, 3, 1)]
    await turns()
    table.gates[0].set_result(None)

    assert await asyncio.gather(*futures) == ["row 1", "row 2", "row 3", "row 1"]
    assert table.statements == [[1, 2, 3, 1]]


async def test_who_comes_while_a_statement_runs_shares_the_next_one() -> None:
    table, futures = Table(), []
    for n in range(4):
        futures.append(table.ask(n))
        await turns()
    running = list(table.statements)
    table.gates[0].set_result(None)
    await turns()
    table.gates[1].set_result(None)
    await asyncio.gather(*futures)

    assert running == [[0]]
    assert table.statements == [[0], [1, 2, 3]]


async def test_nobody_waits_long_for_a_statement_that_takes_long() -> None:
    table, futures = Table(), []
    for n in range(AT_ONCE + 3):
        futures.append(table.ask(n))
        await asyncio.sleep(4 * PATIENCE)
    running = list(table.statements)
    table.gates[1].set_result(None)
    await turns()
    for gate in (*table.gates[:1], *table.gates[2:]):
        gate.set_result(None)
    await asyncio.gather(*futures)

    assert running == [[n] for n in range(AT_ONCE)]
    assert table.statements == [*running, list(range(AT_ONCE, AT_ONCE + 3))]


async def test_enough_start_a_statement_while_others_still_ask() -> None:
    table = Table()
    futures = [table.ask(n) for n in range(ENOUGH + 2)]
    await turns()
    running = [len(statement) for statement in table.statements]
    table.gates[0].set_result(None)
    await turns()
    table.gates[1].set_result(None)
    await asyncio.gather(*futures)

    assert running == [ENOUGH]
    assert table.statements == [list(range(ENOUGH)), [ENOUGH, ENOUGH + 1]]


async def test_no_more_share_a_statement_than_may() -> None:
    table = Table()
    futures = [table.ask(n) for n in range(AT_ONCE * ENOUGH + AT_MOST + 1)]
    await turns()
    for gate in table.gates:
        gate.set_result(None)
    await turns()
    for gate in table.gates[AT_ONCE:]:
        gate.set_result(None)
    await asyncio.gather(*futures)

    assert [len(statement) for statement in table.statements] == [ENOUGH] * AT_ONCE + [AT_MOST, 1]


async def test_what_has_something_in_common_does_not_share() -> None:
    table = Table()
    futures = [table.ask(1, "a", "b"), table.ask(2, "b"), table.ask(3, "c"), table.ask(4, "c", "b"), table.ask(5)]
    for gate in range(3):
        await turns()
        table.gates[gate].set_result(None)
    await asyncio.gather(*futures)

    assert table.statements == [[1, 3, 5], [2], [4]]


async def test_who_goes_away_takes_nobody_along() -> None:
    table = Table()
    early, late, staying = table.ask(1), table.ask(2), table.ask(3)
    early.cancel()
    await turns()
    late.cancel()
    table.gates[0].set_result(None)

    assert await staying == "row 3"
    assert table.statements == [[2, 3]]  # who left before it started is not part of it


async def test_who_all_went_away_before_it_started_need_no_statement() -> None:
    table = Table()
    for future in [table.ask(n) for n in range(2)]:
        future.cancel()
    await turns()
    again = table.ask(3)
    await turns()
    table.gates[0].set_result(None)

    assert await again == "row 3"
    assert table.statements == [[3]]


async def test_a_statement_for_which_nobody_waits_any_more_is_cancelled() -> None:
    table = Table()
    futures = [table.ask(n) for n in range(2)]
    await turns()
    futures[0].cancel()
    await asyncio.sleep(LOOK_AFTER * 1.5)
    kept = not table.gates[0].cancelled()
    futures[1].cancel()
    await asyncio.sleep(LOOK_AFTER * 1.5)

    assert kept
    assert table.gates[0].cancelled()
    again = table.ask(3)
    await turns()
    table.gates[1].set_result(None)
    assert await again == "row 3"


async def test_an_error_is_told_to_everybody_and_the_next_statement_starts_anew() -> None:
    table = Table()
    futures = [table.ask(n) for n in range(2)]
    await turns()
    table.gates[0].set_exception(TimeoutError("away"))
    errors = await asyncio.gather(*futures, return_exceptions=True)
    again = table.ask(3)
    await turns()
    table.gates[1].set_result(None)

    assert [type(error) for error in errors] == [TimeoutError, TimeoutError]
    assert await again == "row 3"


async def test_nobody_waits_longer_for_a_connection_than_who_waited_first() -> None:
    table = Table()
    first = table.ask(1)
    await turns()
    behind = [table.ask(n) for n in (2, 3)]
    table.gates[0].set_exception(PoolTimeout())
    errors = await asyncio.gather(first, *behind, return_exceptions=True)

    assert [type(error) for error in errors] == [PoolTimeout] * 3
    assert table.statements == [[1]]


async def test_a_cancelled_statement_leaves_nobody_waiting() -> None:
    table = Table()
    future = table.ask(1)
    await turns()
    table.gates[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        await future


async def test_requests_of_several_viewers_share_statements_and_see_only_their_own(
    settings: Settings, write: Write, new_account: Any, admin: Account
) -> None:
    owners = [await new_account() for _ in range(3)]
    own: dict[UUID, list[UUID]] = {owner.id: [] for owner in owners}
    for owner in owners:
        for n in range(4):
            task = await write(functools.partial(tasks.create, viewer=owner.viewer, title=f"{n}"))
            own[owner.id].append(task.id)
    everything = [id for ids in own.values() for id in ids]
    wanted = [(account, id) for account in [*owners, admin] for id in everything]
    engine, ran, sessions = create_engine(settings), Counter[str](), []

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.driver_connection.add_query_logger(lambda query: ran.update([query.query]))

    async def ask(account: Account, id: UUID) -> UUID | None:
        session = Session(engine)
        sessions.append(session)
        row: Any = await session.find(statements[reach(account.viewer)], id, account.viewer.id)
        return None if row is None else row.id

    statements = {reach: nodes.visible_by_id(Task, frozenset({"id", "title"}), reach) for reach in Reach}
    found = await asyncio.gather(*(ask(account, id) for account, id in wanted))
    await turns()  # the driver tells of them in the next round of the loop
    await engine.dispose()

    assert found == [id if account is admin or id in own[account.id] else None for account, id in wanted]
    assert len([id for id in found if id]) == 2 * len(everything)
    assert sum(session.rows for session in sessions) == 2 * len(everything)
    assert {session.statements for session in sessions} == {1}
    # 36 questions of the members and 12 of the admin: as many start a statement, and up to three run at a time.
    assert [ran[statement.sql] for statement in statements.values()] == [3 * len(everything) // ENOUGH, 1]


async def test_a_lookup_sees_what_was_written_before_it_was_asked(
    session: Session, engine: AsyncEngine, account: Account
) -> None:
    statement = nodes.visible_by_id(Task, frozenset({"id", "title"}), Reach.OWN)
    other = Session(engine)

    async def work(session: Session) -> tuple[UUID, Any, Any]:
        task = await tasks.create(session, account.viewer, title="x")
        inside = await session.find(statement, task.id, account.viewer.id)
        outside = await other.find(statement, task.id, account.viewer.id)
        return task.id, inside, outside

    id, inside, outside = await session.transact(work)
    after: Any = await other.find(statement, id, account.viewer.id)

    assert (inside.title, outside, after.title) == ("x", None, "x")
