"""The engine: URLs as people paste them, and a pool that heals itself."""

import asyncio
import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.connections import engine as engines
from persistence.connections.engine import DatabaseUnreachable, create_engine, ping, wait_until_reachable
from persistence.connections.failures import is_unreachable
from persistence.settings import Settings
from tests.persistence import servers
from tests.persistence.conftest import backends, terminate

anyio = pytest.mark.anyio

NEON = "postgresql://ada:pa%2Fss%40w@ep-cool-1-pooler.eu.aws.neon.tech/neondb?sslmode=require"


@anyio
async def test_the_url_of_an_engine_does_not_show_the_password() -> None:
    engine = create_engine(Settings(database_url=NEON))

    assert "pa/ss" not in str(engine.url) + repr(engine.url) + repr(engine) + repr(engine.sync_engine)
    assert "pa%2Fss" not in str(engine.url) + repr(engine.url) + repr(engine) + repr(engine.sync_engine)


@anyio
async def test_the_connection_settings_reach_the_server(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        settings = {
            name: (await connection.execute(text(f"SHOW {name}"))).scalar_one()
            for name in (
                "application_name",
                "timezone",
                "jit",
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
            )
        }

    assert settings == {
        "application_name": "taskstore",
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": "8s",
        "lock_timeout": "3s",
        "idle_in_transaction_session_timeout": "15s",
    }


@anyio
async def test_an_application_name_in_the_url_wins(settings: Settings) -> None:
    url = f"{settings.database_url}&application_name=reports"
    engine = create_engine(dataclasses.replace(settings, database_url=url))

    async with engine.connect() as connection:
        assert (await connection.execute(text("SHOW application_name"))).scalar_one() == "reports"
        assert (await connection.execute(text("SHOW jit"))).scalar_one() == "off"
    await engine.dispose()


@anyio
async def test_behind_pgbouncer_nothing_is_prepared_and_only_the_style_of_dates_is_sent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def create(url: object, *, connect_args: dict[str, Any], **options: object) -> None:
        seen.update(connect_args)
        raise KeyboardInterrupt

    monkeypatch.setattr(engines, "create_async_engine", create)
    with pytest.raises(KeyboardInterrupt):
        create_engine(dataclasses.replace(settings, pgbouncer=True))

    assert seen["statement_cache_size"] == seen["prepared_statement_cache_size"] == 0
    assert seen["server_settings"] == {"datestyle": "ISO"}  # one of the few that every pooler understands


@anyio
async def test_behind_pgbouncer_an_engine_leaves_no_prepared_statement(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pgbouncer=True))

    async with engine.connect() as connection:
        await connection.execute(text("SELECT :n + 1"), {"n": 1})
        names = (await connection.execute(text("SELECT name FROM pg_prepared_statements WHERE name <> ''"))).all()
    await engine.dispose()

    assert names == []


@anyio
async def test_a_pool_is_as_large_as_the_settings_say_and_a_full_one_says_so_in_time(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_size=1, pool_overflow=1, pool_timeout=0.2))
    held = [await engine.connect(), await engine.connect()]

    async with asyncio.timeout(10):  # SQLAlchemy's own default is 30
        with pytest.raises(PoolTimeout):
            await engine.connect()

    for connection in held:
        await connection.close()
    await engine.dispose()


@anyio
async def test_a_connection_is_replaced_when_it_is_too_old(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_recycle=60))
    records: list[Any] = []
    event.listen(engine.sync_engine, "checkout", lambda _connection, record, _proxy: records.append(record))
    [first] = await used(engine)
    records[0].starttime -= 30
    [again] = await used(engine)
    records[0].starttime -= 31
    [later] = await used(engine)
    await engine.dispose()

    assert first == again != later


async def used(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as connection:
        return list((await connection.execute(text("SELECT pg_backend_pid()"))).scalars())


@anyio
async def test_an_idle_connection_whose_server_process_died_is_replaced(settings: Settings) -> None:
    engine = create_engine(dataclasses.replace(settings, pool_ping_after=0.0))
    await ping(engine)
    [pid] = await backends(engine)
    assert settings.database_url is not None
    await terminate(settings.database_url, pid)

    await ping(engine)

    assert await backends(engine) != [pid]
    await engine.dispose()


@anyio
async def test_without_a_pool_no_connection_stays_open(settings: Settings) -> None:
    engine = create_engine(settings, pooled=False)

    first, second = await used(engine), await used(engine)

    assert first != second
    await engine.dispose()


def with_url(settings: Settings, change: Callable[[str], str]) -> AsyncEngine:
    assert settings.database_url is not None
    return create_engine(dataclasses.replace(settings, database_url=change(settings.database_url)))


@anyio
async def test_a_missing_database_is_told_at_once(settings: Settings) -> None:
    engine = with_url(settings, lambda url: url.replace("/test_", "/missing_"))

    with pytest.raises(DatabaseUnreachable, match="there is no such database") as caught:
        await wait_until_reachable(engine, 60)

    assert "\n" not in str(caught.value)


@anyio
async def test_a_missing_user_is_told_at_once(settings: Settings) -> None:
    engine = with_url(settings, lambda url: url.replace("taskstore@/", "nobody:s3cret@/"))

    with pytest.raises(DatabaseUnreachable) as caught:
        await wait_until_reachable(engine, 60)

    assert str(caught.value).endswith("is unreachable: the user may not connect")
    assert "s3cret" not in str(caught.value)


@anyio
async def test_a_closed_port_is_retried_for_a_bounded_time() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    engine = create_engine(Settings(database_url=f"postgresql://ada:s3cret@127.0.0.1:{port}/tasks"))
    attempts: list[Any] = []
    event.listen(engine.sync_engine, "do_connect", lambda *attempt: attempts.append(attempt))

    async with asyncio.timeout(10):
        with pytest.raises(DatabaseUnreachable) as caught:
            await wait_until_reachable(engine, 0.4)

    assert len(attempts) > 1
    assert str(caught.value) == f"the database at 127.0.0.1:{port}/tasks is unreachable: nothing listens there"


@anyio
async def test_a_server_that_says_nothing_is_given_up(settings: Settings) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        url = f"postgresql://ada:s3cret@127.0.0.1:{silent.getsockname()[1]}/tasks"
        engine = create_engine(Settings(database_url=url, connect_timeout=0.2))
        async with asyncio.timeout(10):  # the driver's own default is 60
            with pytest.raises(DatabaseUnreachable, match="did not answer in time"):
                await wait_until_reachable(engine, 0.3)


@anyio
async def test_a_missing_socket_is_named(tmp_path: Path) -> None:
    engine = create_engine(Settings(database_url=f"postgresql://ada@/tasks?host={tmp_path}"))

    with pytest.raises(DatabaseUnreachable, match="its socket does not exist"):
        await ping(engine)


@anyio
async def test_a_host_without_an_address_is_named() -> None:
    engine = create_engine(Settings(database_url="postgresql://ada:s3cret@db.example/tasks"))

    assert engines.reason(engine, socket.gaierror(-2)) == (
        "the database at db.example/tasks is unreachable: its name has no address"
    )


@anyio
async def test_waiting_ends_when_the_server_appears(settings: Settings) -> None:
    """A proxy that opens late stands for a server that starts late."""
    assert settings.database_url is not None
    socket_dir = settings.database_url.split("host=")[1]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    engine = with_url(settings, lambda url: url.split("?")[0].replace("@/", f"@127.0.0.1:{port}/"))
    servers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(f"{socket_dir}/.s.PGSQL.5432")
        await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))

    async def start_late() -> None:
        await asyncio.sleep(0.3)
        servers.append(await asyncio.start_server(serve, "127.0.0.1", port))

    await asyncio.gather(start_late(), wait_until_reachable(engine, 10))

    await engine.dispose()
    servers[0].close()
    await servers[0].wait_closed()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_a_connection_that_is_busy_does_not_mean_that_the_database_is_away() -> None:
    assert not is_unreachable(asyncpg.InterfaceError("another operation is in progress"))
    assert is_unreachable(asyncpg.InterfaceError("connection is closed"))


@anyio
@pytest.mark.parametrize(("statement", "value"), [("SELEC :v", 1), ("SELECT CAST(:v AS integer)", 2**40)])
async def test_a_wrong_statement_or_value_is_no_outage(engine: AsyncEngine, statement: str, value: int) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with engine.connect() as connection:
            await connection.execute(text(statement), {"v": value})

    assert not is_unreachable(caught.value)


@anyio
async def test_a_pooler_that_refuses_time_limits_is_told_with_the_setting_for_it(postgres15: servers.Server) -> None:
    if not servers.PGBOUNCER.exists():
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with servers.pgbouncer(postgres15, ignore_startup_parameters="extra_float_digits") as url:
        engine = create_engine(Settings(database_url=url))
        with pytest.raises(DatabaseUnreachable, match="TASKSTORE_PGBOUNCER") as caught:
            await ping(engine)
        await engine.dispose()
        assert "\n" not in str(caught.value)

        engine = create_engine(Settings(database_url=url, pgbouncer=True))
        await ping(engine)
        await engine.dispose()
