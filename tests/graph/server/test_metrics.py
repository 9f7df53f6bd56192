"""What Prometheus is told."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from persistence.settings import ROOT, Settings
from tests.conftest import Account
from tests.graph.application import application

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with application(settings) as client:
        yield client


async def scrape(client: httpx.AsyncClient) -> dict[str, float]:
    """Every sample by its name with labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return samples(answer.text)


def samples(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def run(client: httpx.AsyncClient, query: str, account: Account | None = None) -> httpx.Response:
    return await client.post("/graphql", json={"query": query}, headers=account.authorization if account else {})


async def test_operations_are_counted_by_kind_and_outcome(client: httpx.AsyncClient, account: Account) -> None:
    await run(client, "{ viewer { id } }", account)
    await run(client, "{ viewer { id } }", account)
    await run(client, 'mutation { createTask(input: {title: "A"}) { task { id } } }', account)
    await run(client, "{ tasks { totalCount } }")
    await run(client, "{ viewer {")
    await run(client, "{ nothing }", account)
    found = await scrape(client)

    counted = {name: value for name, value in found.items() if name.startswith("taskstore_operations_total")}
    assert counted == {
        'taskstore_operations_total{kind="query",outcome="ok",transport="http"}': 2,
        'taskstore_operations_total{kind="mutation",outcome="ok",transport="http"}': 1,
        'taskstore_operations_total{kind="query",outcome="UNAUTHENTICATED",transport="http"}': 1,
        'taskstore_operations_total{kind="unknown",outcome="GRAPHQL_PARSE_FAILED",transport="http"}': 1,
        'taskstore_operations_total{kind="unknown",outcome="GRAPHQL_VALIDATION_FAILED",transport="http"}': 1,
    }


async def test_durations_statements_rows_and_bytes_are_summed(client: httpx.AsyncClient, account: Account) -> None:
    answer = await run(client, "{ viewer { id name } }", account)
    found = await scrape(client)

    assert found['taskstore_operation_duration_seconds_count{kind="query"}'] == 1
    assert found['taskstore_operation_duration_seconds_bucket{kind="query",le="+Inf"}'] == 1
    assert 0 < found['taskstore_operation_duration_seconds_sum{kind="query"}'] < 10
    assert found['taskstore_sql_statements_total{kind="query"}'] == 2  # who is it, and the name
    assert found['taskstore_sql_rows_total{kind="query"}'] == 2
    assert found['taskstore_answer_bytes_total{kind="query"}'] == len(answer.content)


async def test_the_pool_and_the_process_are_shown(
    client: httpx.AsyncClient, settings: Settings, account: Account
) -> None:
    await run(client, "{ viewer { id } }", account)
    found = await scrape(client)

    assert found['taskstore_pool_connections{state="in_use"}'] == 0
    assert found['taskstore_pool_connections{state="idle"}'] == 1
    assert found["taskstore_pool_connections_limit"] == settings.pool_size + settings.pool_overflow
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_cpu_seconds_total"] > 0


async def test_names_that_clients_choose_make_no_new_series(client: httpx.AsyncClient, account: Account) -> None:
    await run(client, "query First { viewer { id } }", account)
    before = await scrape(client)
    for number in range(20):
        await run(client, f"query Name{number} {{ alias{number}: viewer {{ id }} }}", account)
    after = await scrape(client)

    assert set(after) == set(before)
    assert not re.search("Name|alias", " ".join(after))


async def test_a_scraper_gets_the_format_that_it_accepts(client: httpx.AsyncClient) -> None:
    plain = await client.get("/metrics")
    open_metrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.text.endswith("# EOF\n")


WORKER = """
import asyncio, sys
from types import SimpleNamespace
from graph.transport.host import OperationRecord
from graph.server.metrics import Metrics

pool = SimpleNamespace(size=lambda: 5, checkedout=lambda: 2, checkedin=lambda: 1, _max_overflow=10, readers=None)
metrics = Metrics(SimpleNamespace(pool=pool))
record = OperationRecord("http", "id")
record.kind, record.bytes, record.duration = "query", 10, 0.02
for _ in range(int(sys.argv[1])):
    metrics.observe(None, record)
print(asyncio.run(metrics.answer(SimpleNamespace(headers={}))).body.decode())
"""


def test_workers_answer_for_all_and_forget_the_connections_of_dead_ones(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for operations in ("3", "4"):  # the first is dead when the second is asked
        done = subprocess.run(
            [sys.executable, "-c", WORKER, operations], env=environment, capture_output=True, text=True, check=True
        )
    found = samples(done.stdout)

    assert found['taskstore_operations_total{kind="query",outcome="ok",transport="http"}'] == 7
    assert found['taskstore_answer_bytes_total{kind="query"}'] == 70
    assert found['taskstore_pool_connections{state="in_use"}'] == 2
    assert found["taskstore_pool_connections_limit"] == 15
