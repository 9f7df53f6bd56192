"""The scope of one operation: siblings on one session, loaders that survive, and nothing that outlives it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from graph.request.context import Context
from graph.request.loaders import Loader, Loaders
from persistence.connections import pool, readers
from persistence.connections.engine import create_engine
from persistence.connections.readers import readers_of
from tests.conftest import Account, Api
from tests.execution.serving import until
from tests.graph.operations import entered, new_task

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stock", [False, True])
async def test_fifty_siblings_and_several_loaders_share_one_session(
    api: Api, stock_api: Api, account: Account, admin: Account, stock: bool
) -> None:
    tasks = [await new_task(api, account, title=str(n)) for n in range(10)]
    fields = [
        f'a{n}: task(id: "{tasks[n % 10]["id"]}")'
        f" {{ title owner {{ name tasks(first: {n % 5 + 1}) {{ totalCount }} }} }}"
        f" b{n}: viewer {{ id tasks {{ totalCount nodes {{ owner {{ email }} }} }} tokens {{ nodes {{ id }} }} }}"
        f' c{n}: nodes(ids: ["{account.id}", "{tasks[n % 10]["id"]}"]) {{ id ... on Task {{ owner {{ id }} }} }}'
        for n in range(17)
    ]
    data = await (stock_api if stock else api)("{ " + " ".join(fields) + " }", account)

    assert len(data) == 51
    for n in range(17):
        assert data[f"a{n}"]["title"] == str(n % 10)
        assert data[f"a{n}"]["owner"]["tasks"]["totalCount"] == 10
        assert {node["owner"]["email"] for node in data[f"b{n}"]["tasks"]["nodes"]} == {account.email}
        assert [node["id"] for node in data[f"c{n}"]] == [str(account.id), tasks[n % 10]["id"]]


async def test_a_refused_sibling_takes_nobody_with_it(api: Api, account: Account) -> None:
    await new_task(api, account)
    answer = await api.run(
        """{ users { totalCount } viewer { name tasks { totalCount } } task(id: "no id") { id } }""",
        account,
    )

    assert answer.data == {"users": None, "viewer": {"name": "Ada", "tasks": {"totalCount": 1}}, "task": None}
    assert [(error.extensions or {})["code"] for error in answer.errors] == ["FORBIDDEN"]


async def test_the_session_is_given_back_when_an_operation_is_cancelled(api: Api, account: Account) -> None:
    document = api.engine.documents.get("{ viewer { tasks { nodes { owner { name } } } } }")
    settings = api.services.settings
    engine = create_engine(settings)
    pool: Any = engine.pool
    for turn in range(2 * (settings.pool_size + settings.pool_overflow)):
        async with entered(replace(api.services, engine=engine)) as context:
            context.viewer = account.viewer
            running = asyncio.create_task(api.engine.execute(document.operation(None), {}, context))
            while not (context.session.statements > turn % 2 and pool.checkedout() > readers_of(engine).idle):
                assert not running.done()
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    await until(lambda: pool.checkedout() == readers_of(engine).idle)
    await engine.dispose()


async def test_an_operation_that_asks_for_nothing_opens_no_connection(api: Api, account: Account) -> None:
    answer = await api.run("{ __typename }", account)

    assert answer.statements == 0


async def test_all_fields_of_an_operation_have_one_now(api: Api, account: Account) -> None:
    context = Context(api.services)

    assert context.now is context.now


# -- loaders ------------------------------------------------------------------------------------------


class Batches:
    """A batch function that can be held up, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.failure: BaseException | None = None

    async def __call__(self, keys: Sequence[Any]) -> Mapping[Any, Any]:
        self.asked.append(list(keys))
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return {key: key * 10 for key in reversed(keys) if key != 404}


async def test_siblings_are_loaded_in_one_batch_each_key_once() -> None:
    batches = Batches()
    loader = Loader(batches)

    assert list(await asyncio.gather(loader.load(2), loader.load(1), loader.load(2))) == [20, 10, 20]
    assert batches.asked == [[2, 1]]
    assert await loader.load(1) == 10
    assert batches.asked == [[2, 1]]


async def test_tasks_of_their_own_get_into_the_same_batch() -> None:
    batches = Batches()
    loader = Loader(batches)

    async def one(key: int) -> Any:
        return await loader.load(key)

    assert await asyncio.gather(*(asyncio.create_task(one(key)) for key in range(5))) == [0, 10, 20, 30, 40]
    assert batches.asked == [[0, 1, 2, 3, 4]]


async def test_a_key_that_is_missing_loads_nothing() -> None:
    batches = Batches()
    loader = Loader(batches)

    assert await loader.load(404) is None
    assert await loader.load(404) is None
    assert batches.asked == [[404]]


async def test_a_waiter_that_is_cancelled_leaves_the_others_alone() -> None:
    batches = Batches()
    batches.go.clear()
    loader = Loader(batches)
    first = asyncio.ensure_future(asyncio.wait_for(loader.load(1), timeout=30))
    second = loader.load(1)
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    batches.go.set()

    assert await second == 10
    assert await loader.load(1) == 10


async def test_a_key_whose_only_waiter_was_cancelled_can_be_loaded_again() -> None:
    batches = Batches()
    batches.go.clear()
    loader = Loader(batches)
    waiting = asyncio.ensure_future(loader.load(1))
    waiting.cancel()
    await asyncio.sleep(0.01)
    batches.go.set()

    assert await loader.load(1) == 10


async def test_a_failure_reaches_every_waiter_and_is_not_kept() -> None:
    batches = Batches()
    batches.failure = ConnectionError("gone")
    loader = Loader(batches)
    outcomes = await asyncio.gather(loader.load(1), loader.load(2), loader.load(1), return_exceptions=True)
    batches.failure = None

    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert await loader.load(1) == 10


async def test_a_batch_that_is_cancelled_leaves_nobody_waiting() -> None:
    batches = Batches()
    batches.failure = asyncio.CancelledError()
    loader = Loader(batches)
    outcomes = await asyncio.gather(
        asyncio.ensure_future(loader.load(1)), asyncio.ensure_future(loader.load(2)), return_exceptions=True
    )
    batches.failure = None

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert await loader.load(1) == 10


async def test_many_keys_are_loaded_with_those_of_others_and_share_their_fate() -> None:
    batches = Batches()
    loader = Loader(batches)
    many, one, more = loader.load_many([2, 404, 2]), loader.load(1), loader.load_many([1, 3])

    assert [await many, await one, await more] == [[20, None, 20], 10, [10, 30]]
    assert batches.asked == [[1, 2, 404, 3]]
    assert await loader.load_many([1, 2]) == [10, 20]
    assert batches.asked[1:] == [[2]]


@pytest.mark.parametrize("failure", [ConnectionError("gone"), asyncio.CancelledError()])
async def test_many_keys_fail_together(failure: BaseException) -> None:
    batches = Batches()
    loader = Loader(batches)
    batches.failure = failure
    outcomes = await asyncio.gather(loader.load_many([1]), loader.load_many([]), return_exceptions=True)
    batches.failure = None

    assert [type(outcome) for outcome in outcomes] == [type(failure)] * 2
    assert await loader.load_many([1]) == [10]


async def test_what_is_primed_is_not_loaded_until_it_is_cleared() -> None:
    batches = Batches()
    loader = Loader(batches)
    loader.prime(1, "primed")
    assert await loader.load(1) == "primed"
    loader.clear(1)

    assert await loader.load(1) == 10
    loader.clear(1).prime(1, "again")
    assert await loader.load(1) == "again"


async def test_loaders_are_made_once_for_each_name_and_forgotten_together() -> None:
    batches, loaders = Batches(), Loaders()
    first = loaders.get(("tasks", 1), batches)

    assert loaders.get(("tasks", 1), batches) is first
    assert loaders.get(("tasks", 2), batches) is not first
    loaders.clear()
    assert loaders.get(("tasks", 1), batches) is not first


@pytest.mark.parametrize("stock", [False, True])
async def test_what_was_loaded_before_a_mutation_is_not_shown_after_it(
    api: Api, stock_api: Api, account: Account, stock: bool
) -> None:
    task = await new_task(api, account)
    data = await (stock_api if stock else api)(
        """mutation Stale($id: ID!) {
            a: completeTask(input: {id: $id}) { task { owner { name tasks { nodes { status } totalCount } } } }
            b: updateViewer(input: {name: "Grace"}) { user { name tasks { nodes { status owner { name } } } } }
            c: reopenTask(input: {id: $id}) { task { owner { name tasks { nodes { status } totalCount } } } }
            d: createTask(input: {title: "x"}) { task { owner { name tasks { totalCount } } } } }""",
        account,
        id=task["id"],
    )

    assert data["a"]["task"]["owner"] == {"name": "Ada", "tasks": {"nodes": [{"status": "DONE"}], "totalCount": 1}}
    assert data["b"]["user"]["tasks"]["nodes"] == [{"status": "DONE", "owner": {"name": "Grace"}}]
    assert data["c"]["task"]["owner"] == {"name": "Grace", "tasks": {"nodes": [{"status": "TODO"}], "totalCount": 1}}
    assert data["d"]["task"]["owner"] == {"name": "Grace", "tasks": {"totalCount": 2}}


async def test_a_connection_that_is_one_too_many_is_really_closed(
    api: Api, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(readers, "FRESH_SECONDS", 0.0)
    engine = create_engine(replace(api.services.settings, pool_size=1, pool_overflow=5))
    api.services = replace(api.services, engine=engine)
    queue: Any = engine.pool

    async def busy() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(*(busy() for _ in range(6)))
    for _ in range(12):
        await api("{ viewer { id } }", account)
        await asyncio.sleep(0.001)
    assert queue.checkedin() + queue.checkedout() < 6
    await engine.dispose()

    assert "Exception" not in caplog.text
