"""Whether the server is alive and ready, for who restarts it and who routes to it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from graph.health import Health
from persistence import migrations
from persistence.engine import create_engine
from persistence.settings import Settings
from tests.conftest import on_server
from tests.graph.application import application

pytestmark = pytest.mark.anyio


@pytest.fixture
def away(tmp_path: Path) -> Settings:
    """Settings with a database that is not there, and a password that nobody should see."""
    return Settings(database_url=f"postgresql://somebody:hunter2@/gone?host={tmp_path}")


async def test_a_migrated_database_is_ready(settings: Settings) -> None:
    async with application(settings) as client:
        alive, ready = await client.get("/livez"), await client.get("/readyz")

    revision = {"current": migrations.head(), "needed": migrations.head()}
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "revision": revision})
    assert ready.headers["cache-control"] == "no-store"


async def test_health_tells_the_state_of_the_pool(settings: Settings) -> None:
    async with application(settings) as client:
        health = await client.get("/healthz")

    assert health.status_code == 200
    assert health.json()["pool"] == {"size": settings.pool_size, "in_use": 0, "idle": 1}


async def test_an_empty_database_is_not_ready(new_database: Callable[[], str]) -> None:
    url = await asyncio.to_thread(new_database)
    async with application(Settings(database_url=url)) as client:
        alive, ready, health = [await client.get(path) for path in ("/livez", "/readyz", "/healthz")]

    assert [alive.status_code, ready.status_code, health.status_code] == [200, 503, 503]
    assert ready.json() == {
        "status": "unavailable",
        "reason": "the database is not at this code's revision",
        "revision": {"current": None, "needed": migrations.head()},
    }


async def test_a_database_of_another_revision_is_not_ready(new_database: Callable[[], str]) -> None:
    url = await asyncio.to_thread(new_database)
    await on_server(url, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    await on_server(url, "INSERT INTO alembic_version VALUES ('9999')")
    async with application(Settings(database_url=url)) as client:
        ready = await client.get("/readyz")

    assert ready.status_code == 503
    assert ready.json()["revision"] == {"current": "9999", "needed": migrations.head()}


async def test_without_a_database_the_server_is_alive_and_not_ready(away: Settings) -> None:
    async with application(away) as client:
        alive, ready, health = [await client.get(path) for path in ("/livez", "/readyz", "/healthz")]

    assert [alive.status_code, ready.status_code, health.status_code] == [200, 503, 503]
    assert ready.json()["reason"] == "the database does not answer"
    assert health.json()["pool"]["in_use"] == 0
    assert not {"hunter2", "somebody"} & set(ready.text.replace(":", " ").split())


async def test_a_full_pool_is_not_waited_for_longer_than_its_timeout(settings: Settings) -> None:
    engine = create_engine(replace(settings, pool_size=1, pool_overflow=0, pool_timeout=0.05))
    held = await engine.raw_connection()
    state = await Health(engine)._state()
    held.close()
    await engine.dispose()

    assert (state["status"], state["reason"]) == ("unavailable", "the database does not answer")


async def test_operations_are_told_that_the_database_is_unavailable(away: Settings) -> None:
    async with application(away) as client:
        answer = await client.post(
            "/graphql", json={"query": "{ viewer { id } }"}, headers={"Authorization": "Bearer ts_anything"}
        )

    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
    assert "hunter2" not in answer.text
