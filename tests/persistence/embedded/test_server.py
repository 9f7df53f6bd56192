"""The embedded server, with real processes."""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from persistence import migrations
from persistence.connections.engine import create_engine
from persistence.embedded import server as embedded
from persistence.embedded.postgres import PRIVATE_IDS, Account, SocketDir, account_for, find_installation
from persistence.embedded.server import AlreadyRunning, EmbeddedError, EmbeddedPostgres
from persistence.settings import ROOT, Settings

# The tests kill processes, not machines: what the kernel has taken is safe.
QUICK = {"fsync": "off"}

# What asyncpg raises when the server goes away, depending on what it was doing.
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

OWNER = """
import sys, time
from pathlib import Path
from persistence.embedded.server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"}, guard=sys.argv[2] == "guard")
server.start()
print(server.postmaster_pid, flush=True)
time.sleep(60)
"""


def query(url: str, *statements: str) -> Any:
    """Run statements and return the value of the last one."""

    async def ask() -> Any:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(ask())


def eventually(condition: Callable[[], Any], within: float = 15.0) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return value


def postgres_processes(data_dir: Path) -> list[int]:
    installation = find_installation(account_for(data_dir / "pgdata"))
    assert installation is not None
    return list(installation.processes_in(data_dir / "pgdata"))


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a server that was stopped; each test gets a copy, which is quicker than making them anew."""
    directory = tmp_path_factory.mktemp("initialised") / "data"
    with EmbeddedPostgres(directory, options=QUICK) as server:
        query(server.url, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1) RETURNING id")
    return directory


@pytest.fixture
def data_dir(initialised: Path, tmp_path: Path) -> Path:
    shutil.copytree(initialised, tmp_path / "data")  # as root this changes the owner, as a restored backup does
    return tmp_path / "data"


@contextlib.contextmanager
def owner(data_dir: Path, way: str = "signal") -> Iterator["subprocess.Popen[str]"]:
    """Another process that owns the server; its first line is the pid of the server."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir), way], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_data_survive_a_restart(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, options=QUICK)
    for expected in (2, 3):
        server.start()
        assert query(server.url, "INSERT INTO kept VALUES (1)", "SELECT count(*) FROM kept") == expected
        server.stop()
    assert postgres_processes(data_dir) == []


def test_the_database_folds_letters_beyond_ascii(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        assert query(server.url, "SELECT lower('ÄRGER') || to_tsvector('simple', 'ÜBER')") == "ärger'über':1"


def test_fresh_data_below_a_long_path_that_others_cannot_search(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    directory = private / ("x" * 120) / ("y" * 120) / "data"
    with EmbeddedPostgres(directory, database="other name", options=QUICK) as server:
        assert query(server.url, "SELECT current_database()") == "other name"
        assert (directory / "pgdata").stat().st_mode & 0o077 == 0
        if os.geteuid() == 0:
            assert (directory / "pgdata").stat().st_uid in PRIVATE_IDS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give its server another user")
@pytest.mark.parametrize("former", [0, pwd.getpwnam("nobody").pw_uid])
def test_as_root_the_server_is_out_of_reach_for_programs_of_nobody(data_dir: Path, former: int) -> None:
    for path in ((data_dir / "pgdata"), *(data_dir / "pgdata").rglob("*")):
        os.chown(path, former, former)
    nobody = pwd.getpwnam("nobody")
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        uid = (data_dir / "pgdata").stat().st_uid
        assert uid in PRIVATE_IDS
        with pytest.raises(KeyError):
            pwd.getpwuid(uid)
        assert Path(f"/proc/{server.postmaster_pid}").stat().st_uid == uid
        for path in (Path(server.url.partition("host=")[2]), data_dir / "pgdata"):
            listed = subprocess.run(
                ["ls", path], capture_output=True, text=True, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[]
            )
            assert "Permission denied" in listed.stderr
        assert query(server.url, "SELECT count(*) FROM kept") == 1
    with EmbeddedPostgres(data_dir, options=QUICK):
        assert (data_dir / "pgdata").stat().st_uid == uid, "it stays the same"


def test_what_clients_do_wrong_writes_no_line_and_no_row_into_the_log(data_dir: Path) -> None:
    async def wrong(connection: asyncpg.Connection, statement: str) -> None:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(statement)

    async def all_wrong(url: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("ALTER TABLE kept ADD CHECK (id < 10), ADD UNIQUE (id)")
        for statement in (
            "INSERT INTO kept VALUES (4711)",
            "INSERT INTO kept VALUES (1)",
            "SELECT 4711 / 0",
            "SELEKT 4711",
            "SELECT * FROM nowhere WHERE id = 4711",
            "SET statement_timeout = 10; SELECT pg_sleep(10), 4711",
            "DO $$ BEGIN RAISE WARNING '4711'; RAISE LOG '4711'; RAISE EXCEPTION '4711'; END $$",
        ):
            await wrong(connection, statement)
        await connection.close()
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN; SET idle_in_transaction_session_timeout = 10; INSERT INTO kept VALUES (2)")
        await asyncio.sleep(0.5)
        await wrong_or_closed(connection)
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN; INSERT INTO kept VALUES (2)")
        connection.terminate()
        connection, other = await asyncpg.connect(url), await asyncpg.connect(url)
        await other.execute("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
        await other.close()

    async def wrong_or_closed(connection: asyncpg.Connection) -> None:
        with pytest.raises(LOST):
            await connection.execute("SELECT 1")

    (data_dir / "pgdata" / embedded.QUIET).unlink()  # as in data of an earlier release
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        before = (data_dir / "postgres.log").read_text()
        asyncio.run(all_wrong(server.url))
        time.sleep(0.2)
        assert (data_dir / "postgres.log").read_text() == before
        assert server.postmaster_pid is not None
        os.kill(server.postmaster_pid, signal.SIGHUP)
        eventually(lambda: "SIGHUP" in (data_dir / "postgres.log").read_text())


def test_the_log_is_bounded_while_the_server_runs(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOG_BYTES", 10_000)
    monkeypatch.setattr(embedded, "LOG_SECONDS", 0.05)
    log = data_dir / "postgres.log"
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        for _ in range(3):
            with log.open("ab") as other:
                other.write(b"x" * 25_000 + b"\nlast\n")
            eventually(lambda: log.stat().st_size < 10_000)
        assert server.postmaster_pid is not None
        os.kill(server.postmaster_pid, signal.SIGHUP)
        eventually(lambda: "SIGHUP" in log.read_text())
        assert not log.read_bytes().startswith(b"\0"), "it goes on at the new end"
    aside = log.with_suffix(".log.1").read_bytes()
    assert (len(aside), aside.endswith(b"last\n")) == (10_000, True)


def test_the_environment_of_other_databases_never_reaches_this_one(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGHOST": "nowhere",
        "PGHOSTADDR": "192.0.2.1",
        "PGUSER": "nobody",
        "PGDATABASE": "nothing",
        "PGPASSWORD": "wrong",
        "PGPASSFILE": "/nowhere",
        "PGSERVICE": "other",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nowhere",
        "PGSSLCERT": "/nowhere",
        "PGSSLNEGOTIATION": "direct",
        "PGTARGETSESSIONATTRS": "standby",
        "PGTZ": "Asia/Tokyo",
        "PGCLIENTENCODING": "LATIN1",
        "PGDATA": "/nowhere",
        "TZ": "Asia/Tokyo",
    }.items():
        monkeypatch.setenv(name, value)

    async def ask(url: str) -> Any:
        engine = create_engine(Settings(database_url=url))
        async with engine.connect() as connection:
            asked = "concat_ws(' ', current_user, current_database(), current_setting('timezone'), count(*))"
            answer = (await connection.execute(text(f"SELECT {asked} FROM kept"))).scalar_one()
        await engine.dispose()
        return answer

    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        assert asyncio.run(ask(server.url)) == "taskstore taskstore UTC 1"
        migrations.upgrade(server.url)
        assert migrations.status(server.url).is_current


def test_only_the_user_of_the_server_reaches_its_socket(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        directory = Path(server.url.partition("host=")[2])
        assert directory.stat().st_mode & 0o077 == 0
        assert query(server.url, "SHOW listen_addresses") == ""
    assert not directory.exists()


def test_the_socket_directory_of_a_killed_owner_is_removed_and_no_other(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as parent:
        Path(parent).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", parent)
        account = account_for(data_dir / "pgdata")
        in_use, abandoned = SocketDir.make(account), SocketDir.make(account)
        assert in_use is not None
        assert abandoned is not None
        os.close(abandoned._lock)  # as the end of its process does
        for directory in (in_use.path, abandoned.path):
            (directory / ".s.PGSQL.5432.lock").write_text("")
            os.utime(directory, (0, 0))
        latest = SocketDir.make(account)
        assert latest is not None
        assert in_use.path.exists()
        assert not abandoned.path.exists()
        latest.remove()
        in_use.remove()


def test_a_second_owner_is_refused_and_a_tool_attaches(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, options=QUICK) as server, contextlib.ExitStack() as stack:
        server.announce("http://127.0.0.1:8000")
        with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}, http://127\.0\.0\.1:8000") as refusal:
            EmbeddedPostgres(data_dir).start()
        assert "\n" not in str(refusal.value)

        tool = EmbeddedPostgres(data_dir)
        tool.start(attach=True)
        stack.callback(tool.stop)
        assert tool.attached
        tool.stop()
        assert query(server.url, "SELECT 1") == 1
        state = EmbeddedPostgres.owner(data_dir)
        assert state is not None
        assert state.pid == os.getpid()
    assert EmbeddedPostgres.owner(data_dir) is None


@pytest.mark.parametrize("way", ["signal", "guard"])
def test_killing_the_owner_leaves_no_server(data_dir: Path, way: str) -> None:
    with owner(data_dir, way) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) in postgres_processes(data_dir)
        process.kill()
        process.wait()
        eventually(lambda: not postgres_processes(data_dir), within=5)
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        assert query(server.url, "SELECT count(*) FROM kept") == 1


def test_starting_while_the_server_of_a_killed_owner_still_works(data_dir: Path) -> None:
    with owner(data_dir) as process:
        assert process.stdout is not None
        process.stdout.readline()
        state = EmbeddedPostgres.owner(data_dir)
        assert state is not None

        async def kill_while_busy() -> None:
            connection = await asyncpg.connect(state.url)
            busy = asyncio.create_task(connection.execute("SELECT count(*) FROM generate_series(1, 1000000000)"))
            await asyncio.sleep(0.2)
            process.kill()
            process.wait()
            with pytest.raises(LOST):
                await busy

        asyncio.run(kill_while_busy())
        with EmbeddedPostgres(data_dir, options=QUICK) as server:
            assert query(server.url, "SELECT count(*) FROM kept") == 1


def test_a_killed_server_comes_back_with_everything_acknowledged(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:  # with fsync, as for users

        async def write_through_a_kill() -> int:
            connection = await asyncpg.connect(server.url)
            # This one computes on, holding the shared memory that the new server needs.
            other = await asyncpg.connect(server.url)
            busy = asyncio.create_task(other.execute("SELECT count(*) FROM generate_series(1, 1000000000)"))
            acknowledged = 0
            with contextlib.suppress(*LOST):
                while True:
                    await connection.execute("INSERT INTO kept VALUES ($1)", acknowledged + 100)
                    acknowledged += 1
                    if acknowledged == 50:
                        killed = server.postmaster_pid
                        assert killed is not None
                        os.kill(killed, signal.SIGKILL)
            async with asyncio.timeout(60):
                while True:
                    with contextlib.suppress(*LOST):
                        again = await asyncpg.connect(server.url, timeout=2)
                        break
                    await asyncio.sleep(0.05)
            assert sorted(record[0] for record in await again.fetch("SELECT id FROM kept WHERE id >= 100"))[
                :acknowledged
            ] == list(range(100, 100 + acknowledged))
            await again.close()
            with pytest.raises(LOST):
                await busy
            connection.terminate()
            other.terminate()
            return acknowledged

        assert asyncio.run(write_through_a_kill()) >= 50


def test_stale_files_that_name_an_unrelated_process_do_not_hinder(data_dir: Path) -> None:
    lines = [str(os.getpid()), str(data_dir / "pgdata"), "1", "5432", "/nowhere", "", " 1 1", "ready"]
    (data_dir / "pgdata" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    (data_dir / "state.json").write_text(json.dumps({"pid": os.getpid(), "url": "x?host=/nowhere", "address": None}))
    with EmbeddedPostgres(data_dir, options=QUICK) as server:
        assert query(server.url, "SELECT 1") == 1


def test_data_of_another_version_are_refused_by_name(data_dir: Path) -> None:
    (data_dir / "pgdata" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="written by PostgreSQL 9"):
        EmbeddedPostgres(data_dir).start()
    assert EmbeddedPostgres.owner(data_dir) is None


def test_what_the_server_says_is_in_the_error(data_dir: Path) -> None:
    with pytest.raises(EmbeddedError, match="max_connections") as failure:
        EmbeddedPostgres(data_dir, options={"max_connections": "none"}).start()
    assert "\n" not in str(failure.value)


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match="file"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


def test_as_root_programs_out_of_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On behalf of another user, which only root can be asked for; the copy itself needs no rights here."""
    from persistence.embedded import postgres

    monkeypatch.setattr(postgres, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(postgres, "is_searchable", lambda directory, account: False)
    find_installation.cache_clear()
    try:
        installation = find_installation(Account(os.geteuid() + 1, os.getegid()))
    finally:
        find_installation.cache_clear()
    assert installation is not None
    assert installation.root.is_relative_to(tmp_path / "cache")
    done = subprocess.run([installation.program("postgres"), "--version"], capture_output=True, text=True, check=True)
    assert f"PostgreSQL) {installation.major}." in done.stdout


def test_data_that_cannot_be_made_leave_nothing_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(server: EmbeddedPostgres, command: list[str], account: Account, directory: Path, input: str = "") -> None:
        (directory / "half").write_text("done")
        raise EmbeddedError("initdb failed: No space left on device")

    monkeypatch.setattr(EmbeddedPostgres, "_run", full)
    with pytest.raises(EmbeddedError, match="No space left"):
        EmbeddedPostgres(tmp_path / "fresh").start()

    assert sorted(path.name for path in (tmp_path / "fresh").iterdir()) == ["guests", "lock"]
