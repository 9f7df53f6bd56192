"""`./run` and its commands, with real processes."""

import asyncio
import contextlib
import hashlib
import http.client
import importlib.machinery
import importlib.util
import json
import os
import pwd
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from graph.commands import snapshot
from graph.commands.cli import main
from persistence.embedded.postgres import account_for, find_installation
from persistence.embedded.server import EmbeddedPostgres
from persistence.settings import ROOT

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("processes")]

READY = "Ctrl-C stops it."
VIEWER = "{ viewer { email tasks { totalCount } } }"


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TASKSTORE_") and name not in ("DATABASE_URL", "DEMO_ACCOUNTS")
    }
    return {**kept, "TASKSTORE_DATA_DIR": str(data_dir), **variables}


def identity(user: str | None) -> dict[str, Any]:
    if user is None or os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A running `./run serve`."""

    def __init__(self, command: Sequence[str], data_dir: Path, cwd: Path, user: str | None, **variables: str) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(data_dir, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **identity(user),
        )
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._queue.put(line)
        self._queue.put(None)

    def wait_until_ready(self, within: float = 60) -> "Server":
        while True:
            line = self._queue.get(timeout=within)
            assert line is not None, "".join(self.lines)
            self.lines.append(line)
            if READY in line:
                return self

    @property
    def address(self) -> str:
        return next(line for line in self.lines if "is ready" in line).split()[-1].removesuffix("/graphql")

    @property
    def token(self) -> str:
        return next(line for line in self.lines if "test@example.com" in line).split()[-1]

    def request(self, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token or self.token}"}
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if text.startswith("{") else text
        finally:
            connection.close()

    def graphql(self, query: str, token: str | None = None, **variables: Any) -> Any:
        status, answer = self.request("/graphql", {"query": query, "variables": variables}, token)
        assert status == 200, answer
        assert "errors" not in answer, answer
        return answer["data"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(15)
        self._reader.join(15)
        return code


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a server that was stopped, with the demo accounts; a copy is quicker than making them anew."""
    directory = tmp_path_factory.mktemp("seeded") / "data"
    subprocess.check_output([sys.executable, "-m", "graph", "seed"], cwd=ROOT, env=environment(directory))
    return directory


@pytest.fixture
def start(tmp_path: Path, seeded: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers on a free port, and ends those that a test left."""
    servers: list[Server] = []
    shutil.copytree(seeded, tmp_path / "data")

    def begin(
        *arguments: str, data_dir: Path = tmp_path / "data", wait: bool = True, port: int = 0, **variables: str
    ) -> Server:
        command = [sys.executable, "-m", "graph", "serve", "--port", str(port), "--no-browser", *arguments]
        server = Server(command, data_dir, ROOT, None, **variables)
        servers.append(server)
        return server.wait_until_ready() if wait else server

    yield begin
    for server in servers:
        server.stop(signal.SIGKILL)


def refused(*arguments: str, data_dir: Path, **variables: str) -> str:
    """The line with which a command is refused."""
    done = subprocess.run(
        [sys.executable, "-m", "graph", *arguments],
        cwd=ROOT,
        env=environment(data_dir, **variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def postgres_processes(data_dir: Path) -> list[int]:
    installation = find_installation(account_for(data_dir / "pgdata"))
    assert installation is not None
    return list(installation.processes_in(data_dir / "pgdata"))


def eventually(condition: Callable[[], Any], within: float = 15.0) -> Any:
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return value


# A fresh clone


@pytest.fixture(scope="module")
def clone() -> Iterator[Path]:
    """The source in an empty directory that belongs to a normal user, whoever runs the tests."""
    directory = Path(tempfile.mkdtemp(prefix="taskstore-clone-", dir="/tmp"))
    directory.chmod(0o755)
    files = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    if os.geteuid() == 0:
        subprocess.check_call(["chown", "-R", "nobody", directory])
    yield directory
    shutil.rmtree(directory)


def system_python() -> str:
    """A Python that every user can execute."""
    return "/usr/bin/python3" if os.geteuid() == 0 else sys.executable


def test_two_runs_at_once_on_a_fresh_clone(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path(tempfile.mkdtemp(prefix="home-", dir=clone))
    if os.geteuid() == 0:
        shutil.chown(home, "nobody")
    data_dirs = [home / "one", home / "two"]
    servers = [
        Server([system_python(), "run", "--port", "0"], data_dir, clone, "nobody", HOME=str(home), PYTHONPATH="")
        for data_dir in data_dirs
    ]
    try:
        for server, data_dir in zip(servers, data_dirs, strict=True):
            server.wait_until_ready(150)
            assert server.graphql(VIEWER)["viewer"]["email"] == "test@example.com"
            assert data_dir.stat().st_uid == clone.stat().st_uid
        assert any("another ./run is installing" in line for server in servers for line in server.lines)
        for server, data_dir in zip(servers, data_dirs, strict=True):
            assert server.stop() == 0
            assert postgres_processes(data_dir) == []
    finally:
        for server in servers:
            server.stop(signal.SIGKILL)


# Serving


def test_data_survive_a_clean_stop(start: Callable[..., Server]) -> None:
    server = start()
    server.graphql('mutation { createTask(input: {title: "Kept"}) { task { id } } }')
    count = server.graphql(VIEWER)["viewer"]["tasks"]["totalCount"]
    assert server.stop(signal.SIGINT) == 0
    assert postgres_processes(server.data_dir) == []

    again = start()
    assert again.graphql(VIEWER)["viewer"]["tasks"]["totalCount"] == count


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_in_flight_is_answered_before_the_server_stops(start: Callable[..., Server], workers: str) -> None:
    server = start("--workers", workers)
    state = EmbeddedPostgres.owner(server.data_dir)
    assert state is not None
    answers: list[Any] = []

    async def stop_while_a_request_waits_for_a_lock() -> None:
        connection = await asyncpg.connect(state.url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            request = threading.Thread(target=lambda: answers.append(server.graphql(VIEWER)))
            request.start()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while await connection.fetchval(waiting) == 0:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.02)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert server.process.poll() is None
        await asyncio.to_thread(request.join)
        await connection.close()

    asyncio.run(stop_while_a_request_waits_for_a_lock())

    assert answers[0]["viewer"]["email"] == "test@example.com"
    assert server.process.wait(15) == 0
    assert postgres_processes(server.data_dir) == []


@pytest.mark.parametrize("numbers", [[signal.SIGINT] * 3, [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]])
def test_who_cannot_wait_ends_the_server_at_once_and_quietly(
    start: Callable[..., Server], numbers: list[signal.Signals]
) -> None:
    server = start()
    url = urlsplit(server.address)
    with socket.create_connection((url.hostname, url.port)) as client:  # half a request, which would be waited for
        client.sendall(b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        for number in numbers:
            server.process.send_signal(number)
            time.sleep(0.3)
        assert server.process.wait(15) == 0

    server._reader.join(15)
    rest = []
    while (line := server._queue.get(timeout=15)) is not None:
        rest.append(line)
    assert not [line for line in rest if "Traceback" in line or "Stopped" in line]
    assert postgres_processes(server.data_dir) == []


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_an_interrupt_of_workers_that_are_being_loaded_is_quiet(tmp_path: Path, seeded: Path, delay: float) -> None:
    """A terminal sends it to all processes at once."""
    shutil.copytree(seeded, tmp_path / "data")
    process = subprocess.Popen(
        [sys.executable, "-m", "graph", "serve", "--port", "0", "--no-browser", "--workers", "2"],
        cwd=ROOT,
        env=environment(tmp_path / "data"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # The tracker of multiprocessing, PostgreSQL, and the first worker.
    eventually(lambda: "multiprocessing.spawn" in "".join(map(command_line, workers.read_text().split())), within=60)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "Traceback" not in error
    assert "Warning" not in error


def command_line(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def test_a_killed_server_leaves_nothing_and_starts_again(start: Callable[..., Server]) -> None:
    server = start("--workers", "2")
    port = urlsplit(server.address).port
    assert port is not None
    server.stop(signal.SIGKILL)
    eventually(lambda: not postgres_processes(server.data_dir), within=5)
    eventually(lambda: can_listen(port), within=5)

    assert start(port=port).graphql(VIEWER)["viewer"]


def can_listen(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
        return True


def test_the_api_comes_back_after_its_postgres_was_killed(start: Callable[..., Server]) -> None:
    server = start()
    create = "mutation($title: String!) { createTask(input: {title: $title}) { task { id } } }"
    before = [server.graphql(create, title=f"Task {number}")["createTask"]["task"]["id"] for number in range(5)]
    pid_file = server.data_dir / "pgdata" / "postmaster.pid"

    def postmaster() -> int:
        return int(pid_file.read_text().splitlines()[0])

    killed = postmaster()
    os.kill(killed, signal.SIGKILL)

    def restarted() -> bool:
        with contextlib.suppress(OSError, IndexError):  # it is being written anew
            return postmaster() != killed
        return False

    def create_again() -> Any:
        with contextlib.suppress(AssertionError):  # UNAVAILABLE meanwhile
            return server.graphql(create, title="After")
        return None

    assert eventually(restarted, within=15)  # until then its orphans may still answer
    assert eventually(create_again, within=15)
    assert server.request("/readyz")[0] == 200
    found = server.graphql("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=before)["nodes"]
    assert [node["id"] for node in found] == before


def test_a_second_run_on_the_same_data_names_the_first(start: Callable[..., Server]) -> None:
    server = start()
    line = refused("serve", "--port", "0", data_dir=server.data_dir)
    assert f"pid {server.process.pid}, {server.address}" in line


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--port", str(port), data_dir=tmp_path / "data")
    assert f"port {port}" in line
    assert not (tmp_path / "data").exists()


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"postgresql://me:hunter2@127.0.0.1:{port}/tasks"
        line = refused(
            *("serve", "--port", "0"), data_dir=tmp_path / "data", DATABASE_URL=url, TASKSTORE_STARTUP_TIMEOUT="0.5"
        )
    assert f"127.0.0.1:{port}/tasks is unreachable: nothing listens there; check DATABASE_URL" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TASKSTORE_POOL_SIZE": "many"}, "TASKSTORE_POOL_SIZE must be a whole number"),
        ({"TASKSTORE_COLOUR": "blue"}, "TASKSTORE_COLOUR is not a setting"),
        ({"DATABASE_URL": "mysql://me:hunter2@localhost/tasks"}, "DATABASE_URL must start with postgresql://"),
        ({"TASKSTORE_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"TASKSTORE_TRUSTED_PROXIES": "10.0.0.1, localhost"}, "TASKSTORE_TRUSTED_PROXIES must be addresses"),
        ({"TASKSTORE_TRUSTED_DOCUMENTS": "/nope"}, "TASKSTORE_TRUSTED_DOCUMENTS: /nope cannot be read: No such file"),
        (
            {"TASKSTORE_WORKERS": "20"},
            "20 workers with TASKSTORE_POOL_SIZE and TASKSTORE_POOL_OVERFLOW of 5 + 10 may take",
        ),
        ({"TASKSTORE_PORT": "99999"}, "TASKSTORE_PORT must be at most 65535"),
        ({"TASKSTORE_TRUSTED_PROXIES": "10.0.0.1"}, "say --no-demo, or trust no proxies"),
        ({"TASKSTORE_TRUSTED_PROXIES": "::1", "TASKSTORE_DEMO": "true"}, "say --no-demo, or trust no proxies"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path, variables: Mapping[str, str], words: str) -> None:
    line = refused("serve", "--port", "0", data_dir=tmp_path / "data", **variables)
    assert words in line
    assert "hunter2" not in line


# Demo accounts


def test_without_an_admin_the_greeting_says_how_to_make_one(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("--no-demo", data_dir=tmp_path / "fresh")
    hint = next(line for line in server.lines if "there is no admin yet" in line)
    command = hint.partition("./run ")[2].split()
    made = subprocess.run(
        [sys.executable, "-m", "graph", *command],
        cwd=ROOT,
        env=environment(server.data_dir),
        input="correct horse battery\n",
        text=True,
        check=True,
        capture_output=True,
    )
    assert "created the admin" in made.stdout
    assert server.stop() == 0

    assert not [line for line in start("--no-demo", data_dir=tmp_path / "fresh").lines if "no admin" in line]


def test_a_server_without_tables_starts_where_others_can_reach_it(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("--host", "0.0.0.0", "--no-migrate", data_dir=tmp_path / "fresh")

    assert not [line for line in server.lines if "no admin" in line]


def test_no_demo_means_no_accounts(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("--no-demo", data_dir=tmp_path / "fresh")
    assert "test@example.com" not in "".join(server.lines)
    assert "test@example.com" not in page(server)


def test_known_passwords_are_not_served_to_others_unless_asked_for(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    line = refused("serve", "--host", "0.0.0.0", "--port", "0", data_dir=tmp_path / "data")
    assert "test@example.com" in line
    assert "--demo" in line

    open_server = start("--host", "0.0.0.0", "--demo")
    assert any("WARNING" in line for line in open_server.lines)
    assert open_server.token in page(open_server)


def page(server: Server) -> str:
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=30)
    try:
        connection.request("GET", "/graphql", headers={"Accept": "text/html"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


# Other commands


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command in this process: (exit code, standard output, standard error)."""
    for name in set(os.environ) - set(environment(tmp_path)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TASKSTORE_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_migrations_go_up_and_down_and_start_anew(command: Callable[..., Any]) -> None:
    assert command("db", "status")[0] == 1
    assert command("db", "upgrade")[0] == 0
    assert command("db", "status")[0] == 0
    assert command("db", "recut")[1].startswith("all rows are cut")
    assert command("db", "downgrade", "base")[1].startswith("revision none")
    code, _, error = command("db", "reset")
    assert code == 1
    assert "--yes" in error
    assert command("db", "reset", "--yes")[0] == 0
    assert command("db", "status")[0] == 0
    assert command("db", "upgrade", "nonsense")[0] == 1


def test_the_migrations_match_the_models(command: Callable[..., Any]) -> None:
    assert command("db", "check")[0] == 0
    assert "CREATE TABLE" in command("db", "sql")[1]


def test_a_token_from_the_command_line_works_on_the_running_server(start: Callable[..., Server]) -> None:
    server = start()
    create = [sys.executable, "-m", "graph", "token", "create", "--email", "Admin@example.com", "--expires-in", "12h"]
    output = subprocess.check_output(create, cwd=ROOT, env=environment(server.data_dir), text=True)
    assert server.graphql(VIEWER, token=output.strip())["viewer"]["email"] == "admin@example.com"
    assert output == output.strip() + "\n"


def test_commands_that_run_at_once_share_a_server_and_wait_for_each_other(seeded: Path, tmp_path: Path) -> None:
    shutil.copytree(seeded, tmp_path / "data")
    create = [sys.executable, "-m", "graph", "token", "create", "--email", "test@example.com"]
    processes = []
    for _ in range(5):
        processes.append(
            subprocess.Popen(
                create,
                cwd=ROOT,
                env=environment(tmp_path / "data"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        time.sleep(0.2)
    done = [process.communicate(timeout=100) for process in processes]

    assert [process.returncode for process in processes] == [0] * 5
    assert [error for _, error in done] == [""] * 5
    assert len({output for output, _ in done}) == 5
    assert postgres_processes(tmp_path / "data") == []


def test_a_token_is_refused_in_one_line(command: Callable[..., Any]) -> None:
    assert command("seed")[0] == 0
    create = ("token", "create", "--email")
    assert "there is no user" in command(*create, "nobody@example.com")[2]
    assert "no admin" in command(*create, "test@example.com", "--scope", "ADMIN")[2]
    assert command(*create, "test@example.com", "--name", "")[0] == 1
    with pytest.raises(SystemExit) as refusal:
        command(*create, "test@example.com", "--expires-in", "soon")
    assert refusal.value.code == 2


def test_seeding_somebody_elses_database_needs_a_word(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, new_database: Callable[[], str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", new_database())
    assert "--demo" in command("seed")[2]
    assert "./run db upgrade" in command("seed", "--demo")[2]
    assert command("db", "upgrade")[0] == 0
    first, second = command("seed", "--demo"), command("seed", "--demo")
    assert first[0] == second[0] == 0
    assert "admin@example.com" in second[1]


@pytest.mark.parametrize(
    "arguments", [["serve"], ["test"], ["install"], ["db"], ["db", "reset"], ["schema"], ["token", "create"], ["seed"]]
)
def test_every_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["help", *arguments])
    assert end.value.code == 0
    assert f"usage: ./run {' '.join(arguments)}" in capsys.readouterr().out


def test_the_committed_schema_is_that_of_this_code(command: Callable[..., Any]) -> None:
    assert command("schema", "--check") == (0, "schema.graphql is up to date\n", "")


def test_a_different_schema_names_what_breaks(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    committed = tmp_path / "schema.graphql"
    committed.write_text("type Query { gone: Int viewer: User }\n\ntype User { id: ID! }\n\nenum Role { A }\n")
    monkeypatch.setattr(snapshot, "PATH", committed)
    code, output, error = command("schema", "--check")
    assert code == 1
    assert "breaking: Field Query.gone was removed." in output
    assert "dangerous: " in output
    assert "--write" in error
    assert command("schema", "--write")[0] == 0
    assert command("schema", "--check")[0] == 0


# The script


@pytest.fixture
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("run_script", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_an_old_python_is_told_so(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.shutil, "which", lambda name, **options: None)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "version_info", (3, 9, 2, "final", 0))
        with pytest.raises(script.Stop, match=r"3\.11 or later is needed, this is 3\.9"):
            script.use_supported_python()


def test_an_old_python_hands_over_to_a_newer_one(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []
    monkeypatch.setattr(script.shutil, "which", lambda name: f"/opt/{name}" if name == "python3.12" else None)
    monkeypatch.setattr(script, "replace_by", handed.append)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "version_info", (3, 9, 2, "final", 0))
        with contextlib.suppress(script.Stop):
            script.use_supported_python()
    assert handed[0][:2] == ["/opt/python3.12", str(ROOT / "run")]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], ["-n", "auto", "--maxprocesses", "4"]),
        (["tests/graph", "-k", "connection"], ["tests/graph", "-k", "connection"]),
        (["-n", "2"], ["-n", "2"]),
    ],
)
def test_all_tests_run_side_by_side_and_a_few_do_not(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], given: list[str]
) -> None:
    class Replaced(Exception):
        pass

    def replace_by(command: list[str]) -> None:
        handed.extend(command)
        raise Replaced

    handed: list[str] = []
    monkeypatch.setattr(script, "replace_by", replace_by)
    monkeypatch.setattr(script, "install", lambda dev: None)
    with pytest.raises(Replaced):
        script.main(["test", *arguments])
    assert handed == [script.python_of(script.VENV), "-m", "pytest", *given]


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", ["test", "install"])
def test_help_for_what_makes_the_environment_makes_none(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, option: str
) -> None:
    class Replaced(Exception):
        pass

    def replace_by(command: list[str]) -> None:
        handed.extend(command)
        raise Replaced

    handed: list[str] = []
    monkeypatch.setattr(script, "replace_by", replace_by)
    monkeypatch.setattr(script, "STAMP", tmp_path / "missing")
    with pytest.raises(Replaced):
        script.main([command, option])
    assert handed == [sys.executable, "-m", "graph", "help", command]


def test_the_environment_is_made_anew_only_when_it_must(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "requirements.lock").write_text("a==1")
    (tmp_path / "requirements-dev.lock").write_text("a==1 b==1")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(script, "STAMP", tmp_path / ".venv" / ".installed")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    assert not script.is_installed(dev=False)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)

    def stamp(dev: bool) -> None:
        script.STAMP.write_text("".join(f"{key}={value}\n" for key, value in script.wanted(dev).items()))

    stamp(dev=False)
    assert script.is_installed(dev=False)
    assert not script.is_installed(dev=True)
    stamp(dev=True)
    assert script.is_installed(dev=False)
    assert script.is_installed(dev=True)
    (tmp_path / "requirements.lock").write_text("a==2")
    assert not script.is_installed(dev=False)


def test_pip_installs_a_lock_in_which_a_package_names_an_extra_of_another(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def wheel(name: str, version: int, metadata: str) -> str:
        """Write an empty wheel: its line of a lock file."""
        path, about = tmp_path / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n"
            )
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    lock = tmp_path / "requirements.lock"
    lock.write_text(wheel("base", 1, "Provides-Extra: more") + wheel("plugin", 1, "Requires-Dist: base[more]>=1"))
    wheel("base", 2, "Provides-Extra: more")  # released since the lock was made
    monkeypatch.setattr(script, "VENV", tmp_path / ".venv")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    script.install_with_pip(str(lock))

    assert {path.name for path in (tmp_path / ".venv").glob("lib/*/site-packages/*-1.dist-info")} == {
        "base-1.dist-info",
        "plugin-1.dist-info",
    }


def test_the_lock_files_name_no_registry() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-uv.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--hash=sha256:" in text
        assert "-index" not in text
