"""Whether the server is alive and ready, for who restarts it and who routes to it."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from graph.server.health import Health
from persistence import migrations
from persistence.connections import troubles
from persistence.connections.engine import create_engine
from persistence.settings import Settings
from tests.conftest import on_server
from tests.graph.application import application
from tests.outside import CREATE, SIGN_UP

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


@pytest.fixture
def fresh(new_database: Callable[[], str]) -> Settings:
    """Settings with a migrated database of its own."""
    url = new_database()
    migrations.upgrade(url)
    return Settings(database_url=url, token_cache_seconds=60.0)


async def end_connections(url: str) -> None:
    await on_server(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def signed_up(client: httpx.AsyncClient) -> dict[str, str]:
    given = {"email": f"{uuid.uuid4().hex}@example.org", "name": "Ada", "password": "opensesame-opensesame"}
    answer = await client.post("/graphql", json={"query": SIGN_UP, "variables": {"input": given}})
    return {"Authorization": f"Bearer {answer.json()['data']['signUp']['secret']}"}


async def codes(client: httpx.AsyncClient, headers: dict[str, str]) -> list[str]:
    """The codes of a creation, several at once, an edit and a read."""
    asked: list[tuple[str, dict[str, Any]]] = [
        (CREATE, {"input": {"title": "x"}}),
        *[(CREATE, {"input": {"title": "x", "idempotencyKey": uuid.uuid4().hex}}) for _ in range(3)],
        (
            "mutation($input: UpdateViewerInput!) { updateViewer(input: $input) { errors { code } } }",
            {"input": {"name": "B"}},
        ),
        ("{ viewer { id } }", {}),
    ]
    answers = await asyncio.gather(
        *(client.post("/graphql", json={"query": q, "variables": v}, headers=headers) for q, v in asked)
    )
    return [
        "".join(error["extensions"]["code"] for error in answer.json().get("errors", [])) or "ok" for answer in answers
    ]


async def test_a_read_only_database_is_unavailable_until_its_address_leads_to_another(
    fresh: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover, when the connections still lead to what has become a standby."""
    assert fresh.database_url is not None
    name = make_url(fresh.database_url).database
    async with application(fresh) as client:
        headers = await signed_up(client)
        assert await codes(client, headers) == ["ok"] * 6
        await on_server(fresh.database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await end_connections(fresh.database_url)

        during, unready = await codes(client, headers), await client.get("/readyz")
        await on_server(
            fresh.database_url, "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET ALL"
        )
        after, ready = await codes(client, headers), await client.get("/readyz")

    assert during == ["UNAVAILABLE"] * 5 + ["ok"]
    assert (unready.status_code, unready.json()["reason"]) == (503, "the database is read-only")
    assert (after, ready.status_code) == (["ok"] * 6, 200)
    assert "bug" not in caplog.text
    assert caplog.text.count("the database is read-only (SQLSTATE 25006)") == 1


@pytest.mark.parametrize("at", ["the statement", "the end of the transaction"])
async def test_a_full_disk_is_told_by_its_code_in_the_log_and_by_the_health_check(
    fresh: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    assert fresh.database_url is not None
    async with application(fresh) as client:
        headers = await signed_up(client)
        await on_server(
            fresh.database_url,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'could not extend file /secret/place'; END $$",
        )
        when = "" if at == "the statement" else "DEFERRABLE INITIALLY DEFERRED"
        for table in ("tasks", "users"):
            await on_server(
                fresh.database_url,
                f"CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT OR UPDATE ON {table} {when} "
                "FOR EACH ROW EXECUTE FUNCTION full_disk()",
            )
        during, unready = await codes(client, headers), await client.get("/readyz")
        answer = await client.post(
            "/graphql", json={"query": CREATE, "variables": {"input": {"title": "x"}}}, headers=headers
        )
        await on_server(fresh.database_url, "DROP FUNCTION full_disk CASCADE")
        after = await codes(client, headers)
        monkeypatch.setattr(troubles, "FOR_SECONDS", 0.0)
        ready = await client.get("/readyz")

    assert during == ["STORAGE_FULL"] * 5 + ["ok"]
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "secret" not in answer.text + caplog.text
    assert (unready.status_code, unready.json()["reason"]) == (503, "the database's disk is full")
    assert (after, ready.status_code) == (["ok"] * 6, 200)
    assert caplog.text.count("the database's disk is full (SQLSTATE 53100)") == 1
    assert "bug" not in caplog.text


async def test_a_database_that_refuses_a_question_is_not_said_to_be_of_another_revision(fresh: Settings) -> None:
    assert fresh.database_url is not None
    await on_server(fresh.database_url, "ALTER TABLE alembic_version RENAME version_num TO number")
    async with application(fresh) as client:
        ready = await client.get("/readyz")

    assert (ready.status_code, ready.json()["reason"]) == (503, "the database does not tell its revision")


async def test_operations_are_told_that_the_database_is_unavailable(away: Settings) -> None:
    async with application(away) as client:
        answer = await client.post(
            "/graphql", json={"query": "{ viewer { id } }"}, headers={"Authorization": "Bearer ts_anything"}
        )

    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
    assert "hunter2" not in answer.text
