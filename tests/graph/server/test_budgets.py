"""The rate of a viewer, in one process and over several."""

import math
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from background.housekeeping import forget_old
from graph.request.context import Services
from graph.server.budgets import SharedBudget
from persistence import budgets
from persistence.session import Session
from persistence.settings import Settings
from tests.conftest import Account
from tests.graph.application import application

pytestmark = pytest.mark.anyio

TASKS = {"query": "{ tasks(first: 30) { nodes { id } } }"}


def remaining(answer: Any) -> int:
    number: int = answer.json()["extensions"]["cost"]["remaining"]
    return number


async def test_processes_that_share_budgets_spend_from_one(settings: Settings, account: Account) -> None:
    shared = replace(settings, rate_shared=True, rate_budget=100, rate_refill=0.0)
    async with application(shared) as first, application(shared) as second:
        answers = [
            await client.post("/graphql", json=TASKS, headers=account.authorization)
            for client in (first, second, first, second)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [remaining(answer) for answer in answers[:3]] == [70, 40, 10]
    [error] = answers[3].json()["errors"]
    assert error["message"] == "The operation costs 30 points, more than your budget will ever hold again"
    assert error["extensions"]["remaining"] == 10


async def test_processes_that_share_nothing_have_a_budget_each(settings: Settings, account: Account) -> None:
    alone = replace(settings, rate_budget=30, rate_refill=0.0)
    async with application(alone) as first, application(alone) as second:
        answers = [
            await client.post("/graphql", json=TASKS, headers=account.authorization)
            for client in (first, second, first)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_who_spent_too_much_is_told_how_long_to_wait(settings: Settings, account: Account) -> None:
    async with application(replace(settings, rate_shared=True, rate_budget=40, rate_refill=0.1)) as client:
        await client.post("/graphql", json=TASKS, headers=account.authorization)
        answer = await client.post("/graphql", json=TASKS, headers=account.authorization)

    [error] = answer.json()["errors"]
    seconds = error["extensions"]["retryAfterSeconds"]
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == str(seconds)
    assert 190 <= seconds <= 200, "20 points at a tenth of a point a second"
    assert error["message"] == f"The operation costs 30 points and 10 are left; try again in {seconds} s"
    assert error["extensions"]["code"] == "RATE_LIMITED"


async def test_explaining_a_cost_takes_nothing_from_a_shared_budget(settings: Settings, account: Account) -> None:
    explain = TASKS | {"extensions": {"explainCost": True}}
    async with application(replace(settings, rate_shared=True, rate_budget=40, rate_refill=0.0)) as client:
        answers = [
            await client.post("/graphql", json=query, headers=account.authorization)
            for query in (explain, TASKS, explain)
        ]

    assert [remaining(answer) for answer in answers] == [40, 10, 10]


async def test_who_is_not_signed_in_spends_from_the_budget_of_the_address(settings: Settings) -> None:
    shared = replace(settings, rate_shared=True, rate_budget=1000, rate_refill=0.0)
    async with application(shared) as client:
        answers = [await client.post("/graphql", json={"query": "{ __typename }"}) for _ in range(2)]

    assert remaining(answers[0]) - remaining(answers[1]) == 1


async def test_what_refilled_between_the_refusal_and_the_look_is_refused_all_the_same(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: Any, **__: Any) -> budgets.Held:
        return budgets.Held(points=31.0, at=0.0, taken=False)

    monkeypatch.setattr(budgets, "take", late)
    balance = await SharedBudget(engine, capacity=100, refill=10.0).take("a", 30)

    assert 0 < balance.retry_after < 1


async def test_more_than_the_whole_budget_is_never_there(engine: AsyncEngine) -> None:
    balance = await SharedBudget(engine, capacity=100, refill=10.0).take("nobody", 101)

    assert (balance.remaining, balance.retry_after) == (100, math.inf)


async def test_housekeeping_forgets_budgets_that_are_full_again(services: Services, account: Account) -> None:
    key, settings = f"viewer {account.id}", replace(services.settings, rate_budget=50, rate_refill=1e9)
    shared = SharedBudget(services.engine, capacity=50, refill=1e9)
    await shared.take(key, 50)
    await forget_old(services.engine, settings)
    held = await budgets.take(Session(services.engine), key, 0, capacity=99, refill=0.0)

    assert held.points == 99, "a row would say 50 at most"
