"""What an operation may cost, and who may spend how much."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.execution.preparing.cost import Costs
from graph.execution.preparing.documents import Documents
from graph.transport.budget import MemoryBudget
from tests.execution.http_schema import Application, schema

pytestmark = pytest.mark.anyio

DOCUMENTS = Documents(schema._schema)
COSTS = Costs(schema._schema)


def points(query: str, **variables: Any) -> int:
    document = DOCUMENTS.get(query)
    assert not document.errors, document.errors
    return COSTS.points(document.operation(None), variables)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ hello }", 1),
        ("{ __typename }", 1),
        ("{ item(id: 1) { id title } }", 1),
        ("{ item(id: 1) { parent { parent { id } } } }", 3),
        ("{ items { nodes { id } } }", 20),
        ("{ items(first: 7) { nodes { id } } }", 7),
        ("{ items(last: 7) { nodes { id } } }", 7),
        ("{ items(first: 5, last: 7) { nodes { id } } }", 7),
        ("{ items(first: 7) { edges { cursor node { id } } pageInfo { hasNextPage } totalCount } }", 7),
        ("{ items(first: 7) { nodes { id } edges { node { id } } } }", 14),
        ("{ items(first: 7) { totalCount } }", 1),
        ("{ items(first: 0) { nodes { id } } }", 1),
        ("{ items(first: -5) { nodes { id } } }", 1),
        ("{ items(first: null) { nodes { id } } }", 20),
        ("{ items(first: 7) { nodes { parent { id } } } }", 14),
        ("{ items(first: 7) { nodes { items(first: 5) { nodes { id } } } } }", 7 + 35),
        ("{ items(first: 7) { nodes { items(first: 5) { totalCount } } } }", 7 + 7),
        ("{ nodes(ids: [1, 2, 3]) { id } }", 3),
        ("{ favourites { id } }", 15),
        ("{ a: item(id: 1) { id } b: item(id: 2) { id } }", 2),
        ("{ item(id: 1) { id } ...F } fragment F on Query { item(id: 1) { title parent { id } } }", 2),
        ("{ items(first: 7) { ...F ...F } } fragment F on ItemConnection { nodes { id } }", 7),
        ("{ item(id: 1) @skip(if: true) { id } items(first: 3) @include(if: true) { nodes { id } } }", 3),
        ("{ __items: items(first: 7) { __nodes: nodes { id } } }", 7),
        ("{ __schema: items(first: 7) { nodes { __x: items(first: 5) { nodes { id } } } } }", 7 + 35),
        ("mutation { write }", 1),
        ("subscription { items { parent { id } } }", 2),
    ],
)
def test_cost_is_objects_times_page_sizes(query: str, expected: int) -> None:
    assert points(query) == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 20),
        ({"n": 5}, 5),
        ({"n": 5.0}, 5),
        ({"n": None}, 20),
        ({"n": "5"}, 20),
        ({"n": True}, 20),
        ({"n": 10**30}, 10**30),
    ],
)
def test_page_sizes_come_from_the_variables(variables: dict[str, Any], expected: int) -> None:
    assert points("query($n: Int) { items(first: $n) { nodes { id } } }", **variables) == expected


def test_a_default_of_a_variable_counts_unless_null_is_given() -> None:
    query = "query($n: Int = 3) { items(first: $n) { nodes { id } } }"

    assert (points(query), points(query, n=4), points(query, n=None)) == (3, 4, 20)


def test_the_length_of_a_list_comes_from_the_variables() -> None:
    query = "query($ids: [Int!]!) { nodes(ids: $ids) { parent { id } } }"

    assert (points(query, ids=[1, 2, 3]), points(query, ids=[])) == (6, 1)


def test_what_is_skipped_by_a_variable_costs_nothing() -> None:
    query = """query($a: Boolean!, $b: Boolean = true) {
      items(first: 5) @include(if: $a) { nodes { id } }
      ... @skip(if: $b) { items(first: 5) { nodes { parent { id } } } }
    }"""

    assert points(query, a=False) == 1
    assert points(query, a=True) == 5
    assert points(query, a=True, b=False) == 10
    assert points(query, a=False, b=False) == 10


def test_the_plan_is_made_once() -> None:
    operation = DOCUMENTS.get("query($n: Int) { items(first: $n) { nodes { title } } }").operation(None)
    COSTS.points(operation, {"n": 1})
    plan = operation.memo["cost"]
    COSTS.points(operation, {"n": 2})

    assert operation.memo["cost"] is plan


SIZES = st.integers(0, 6)


@st.composite
def selections(draw: st.DrawFn, depth: int = 3) -> str:
    """A valid selection set of an item."""
    parts = ["id"]
    if depth and draw(st.booleans()):
        parts.append(f"parent {{ {draw(selections(depth=depth - 1))} }}")
    for alias in draw(st.lists(st.sampled_from(["a", "b"]), unique=True, max_size=2 if depth else 0)):
        below = draw(selections(depth=depth - 1))
        size = draw(st.sampled_from(["first", "last"])), draw(SIZES | st.just("$n") | st.none())
        arguments = f"({size[0]}: {size[1]})" if size[1] is not None else ""
        shape = draw(
            st.sampled_from(
                ["nodes {{ {0} }}", "edges {{ node {{ {0} }} }}", "nodes {{ id }} edges {{ node {{ {0} }} }}"]
            )
        )
        parts.append(f"{alias}: items{arguments} {{ totalCount {shape.format(below)} }}")
    if draw(st.booleans()):
        parts.append(f"... @include(if: $include) {{ {draw(selections(depth=max(0, depth - 2)))} }}")
    return " ".join(parts)


def objects(value: Any) -> int:
    """How many items an answer has: they are what has an `id`."""
    if isinstance(value, dict):
        return ("id" in value) + sum(objects(item) for item in value.values())
    return sum(objects(item) for item in value) if isinstance(value, list) else 0


@given(body=selections(), n=SIZES, include=st.booleans())
@settings(max_examples=80, deadline=None)
async def test_no_answer_has_more_objects_than_its_cost(body: str, n: int, include: bool) -> None:
    query = (
        f'query($n: Int, $include: Boolean!) {{ item(id: 1) {{ {body} }} hello(name: "$n") ...F }} '
        'fragment F on Query { items(first: $n) { totalCount } hello(name: "$n") @include(if: $include) }'
    )
    document = DOCUMENTS.get(query)
    if document.errors:  # the same name for different pages
        return
    operation, variables = document.operation(None), {"n": n, "include": include}
    cost = COSTS.points(operation, variables)
    if cost > 2_000:
        return

    result = await Application().engine.execute(operation, variables, object())

    assert not result.errors
    assert objects(result.data) <= cost
    explained = COSTS.explain(operation, variables)
    assert sum(field["points"] for field in explained) == cost


async def test_an_operation_over_the_limit_is_refused_before_anything_runs() -> None:
    application = Application()
    async with application.client() as client:
        response = await client.post(
            "/graphql",
            json={
                "query": "query($n: Int!) { items(first: $n) { nodes { items(first: $n) { nodes { id } } } } }",
                "variables": {"n": 100},
            },
        )

    (error,) = response.json()["errors"]
    assert response.status_code == 400
    assert error["extensions"] == {"code": "COST_LIMIT_EXCEEDED", "limit": "cost", "allowed": 10_000, "actual": 10_100}
    assert "10100" in error["message"]
    assert "10000" in error["message"]
    assert application.state.contexts == 0


async def test_the_cost_is_part_of_the_answer() -> None:
    application = Application(budget=MemoryBudget(capacity=100, refill=10, clock=lambda: 1_000_000_000.0))
    async with application.client() as client:
        response = await client.post("/graphql", json={"query": "{ items(first: 30) { nodes { id } } }"})

    assert response.json()["extensions"]["cost"] == {
        "requested": 30,
        "limit": 10_000,
        "remaining": 70,
        "resetsAt": "2001-09-09T01:46:43Z",
    }


async def test_the_cost_can_be_left_out_unless_it_is_asked_for() -> None:
    application = Application(report_cost=False)
    async with application.client() as client:
        silent = await client.post("/graphql", json={"query": "{ hello }"})
        asked = await client.post("/graphql", json={"query": "{ hello }", "extensions": {"cost": True}})

    assert "extensions" not in silent.json()
    assert asked.json()["extensions"]["cost"]["requested"] == 1


async def test_a_cost_is_explained_without_executing() -> None:
    application = Application(budget=MemoryBudget(capacity=100, refill=0))
    async with application.client() as client:
        response = await client.post(
            "/graphql",
            json={
                "query": "mutation M { write } "
                "query Q { items(first: 100) { nodes { all: items(first: 200) { nodes { id } } } } }",
                "operationName": "Q",
                "extensions": {"explainCost": True},
            },
        )
        mutation = await client.post(
            "/graphql", json={"query": "mutation { write }", "extensions": {"explainCost": True}}
        )

    cost = response.json()["extensions"]["cost"]
    assert response.status_code == 200
    assert response.json()["data"] is None
    assert (cost["requested"], cost["limit"], cost["remaining"]) == (20_100, 10_000, 100)
    assert cost["fields"] == [
        {"path": "items.nodes", "points": 100},
        {"path": "items.nodes.all.nodes", "points": 20_000},
    ]
    assert mutation.json()["data"] is None
    assert not application.state.resolved


async def test_each_viewer_has_a_budget_of_their_own() -> None:
    application = Application(budget=MemoryBudget(capacity=50, refill=10))
    query = {"query": "{ items(first: 30) { nodes { id } } }"}
    async with application.client() as client:
        first = await client.post("/graphql", json=query, headers={"x-viewer": "ada"})
        second = await client.post("/graphql", json=query, headers={"x-viewer": "ada"})
        other = await client.post("/graphql", json=query, headers={"x-viewer": "bob"})

    assert (first.status_code, second.status_code, other.status_code) == (200, 429, 200)
    (error,) = second.json()["errors"]
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert error["extensions"]["requested"] == 30
    assert second.headers["retry-after"] == "1"


def test_a_budget_refills_with_time() -> None:
    now = 0.0
    budget = MemoryBudget(capacity=100, refill=10, clock=lambda: now)

    assert budget.take("a", 100).remaining == 0
    refused = budget.take("a", 20)
    assert (refused.retry_after, refused.remaining) == (2.0, 0)
    now = 2.0
    assert budget.take("a", 20).retry_after == 0
    now = 100.0
    assert budget.take("a", 0).remaining == 100
    now = 50.0  # a clock that is set back takes nothing away
    assert budget.take("a", 0).remaining == 100


def test_an_operation_that_costs_more_than_the_whole_budget_is_told_so() -> None:
    assert MemoryBudget(capacity=100, refill=10).take("a", 101).retry_after == float("inf")


def test_the_number_of_budgets_is_bounded() -> None:
    budget = MemoryBudget(capacity=100, refill=0, max_keys=10)
    for n in range(100):
        budget.take(str(n), 1)

    assert len(budget) == 10


async def test_a_budget_may_be_kept_elsewhere() -> None:
    memory = MemoryBudget(capacity=10, refill=1)

    class Elsewhere:
        async def take(self, key: str, points: int) -> Any:
            return memory.take(key, points)

    async with Application(budget=Elsewhere()).client() as client:
        statuses = [
            (await client.post("/graphql", json={"query": "{ items(first: 6) { nodes { id } } }"})).status_code
            for _ in range(2)
        ]

    assert statuses == [200, 429]


async def test_an_endless_refill_time_is_answered_as_well() -> None:
    async with Application(budget=MemoryBudget(capacity=10, refill=0)).client() as client:
        answered = await client.post("/graphql", json={"query": "{ hello }"})
        refused = await client.post("/graphql", json={"query": "{ items { nodes { id } } }"})

    assert answered.json()["extensions"]["cost"]["resetsAt"].startswith("9999")
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
