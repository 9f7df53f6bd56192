"""A server process and its clients, as somebody has them who knows nothing of the project but its API."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0  # seconds for anything that should happen; a busy two-core machine needs a few
PASSWORD = "opensesame-opensesame"

SIGN_UP = """mutation($input: SignUpInput!) { signUp(input: $input) {
    user { id name email } secret errors { code message path } } }"""
SIGN_IN = "mutation($input: SignInInput!) { signIn(input: $input) { secret errors { code } } }"
CREATE = """mutation($input: CreateTaskInput!) { createTask(input: $input) {
    task { id title version } replayed errors { __typename code path } } }"""
UPDATE = """mutation($input: UpdateTaskInput!) { updateTask(input: $input) {
    task { id title status tags version }
    errors { __typename code path ... on ConflictError { currentVersion current { id ... on Task { title } } } } } }"""
DELETE = """mutation($input: DeleteTaskInput!) { deleteTask(input: $input) {
    task { id version deletedAt } errors { __typename code } } }"""
RESTORE = """mutation($input: RestoreTaskInput!) { restoreTask(input: $input) {
    task { id title version deletedAt } errors { __typename code } } }"""
TASK = "query($id: ID!) { task(id: $id) { id title version } }"
TITLES = """query($filter: TaskFilter, $search: String, $orderBy: [TaskOrder!], $trash: TrashMode! = EXCLUDE) {
    tasks(first: 100, filter: $filter, search: $search, orderBy: $orderBy, trash: $trash) {
        nodes { title } totalCount } }"""
PAGE = """query($first: Int, $after: String, $last: Int, $before: String, $orderBy: [TaskOrder!]) {
    tasks(first: $first, after: $after, last: $last, before: $before, orderBy: $orderBy) {
        nodes { id title } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount } }"""


class Server:
    """A server process on the data in a directory."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        """`variables` are settings; all tests sign up from one address, which is not limited unless they say so."""
        self.data_dir, self.log = data_dir, data_dir.with_suffix(".log")
        self.variables = {"TASKSTORE_SIGN_UPS_PER_HOUR": "1e9"} | variables
        self.process: subprocess.Popen[str] | None = None
        self.address, self.port = "", 0

    def start(self) -> None:
        """Start it, and wait until it says that it is ready. Started again, it listens where it did before."""
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKSTORE_")}
        command = [sys.executable, "-m", "graph", "serve", "--no-browser", "--no-demo", "--port", str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=inherited | {"DATABASE_URL": "", "TASKSTORE_DATA_DIR": str(self.data_dir)} | self.variables,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("taskstore is ready: "):
                self.address = line.split()[-1].removesuffix("/graphql")
                self.port = int(self.address.rpartition(":")[2])
                return
        raise AssertionError(f"the server ended with {self.process.wait()}: {self.log.read_text()[-2000:]}")

    @property
    def postmaster(self) -> int:
        """The process id of its PostgreSQL; 0 while there is none."""
        with suppress(FileNotFoundError, IndexError, ValueError):
            return int((self.data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])
        return 0

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def terminate(self) -> None:
        assert self.process is not None
        self.process.terminate()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it, whatever state a test left it in."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(data_dir: Path, **variables: str) -> Iterator[Server]:
    server = Server(data_dir, **variables)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shown = [line for line in server.log.read_text().splitlines() if '"level": "info"' not in line]
        print("\n".join(shown[-50:]))  # with a test that failed


class Unavailable(Exception):
    """The server said that it cannot now, or that it cannot know."""


class Client:
    """What a front end has: an address and, after signing up or in, a token."""

    def __init__(self, address: str) -> None:
        self.http = httpx.AsyncClient(base_url=address, timeout=PATIENCE)
        self.email, self.id, self.secret = f"{uuid4().hex}@example.org", "", ""

    async def post(self, query: str, **variables: Any) -> httpx.Response:
        return await self.http.post("/graphql", json={"query": query, "variables": variables})

    async def __call__(self, query: str, **variables: Any) -> Any:
        """The data of the only root field of an operation without top-level errors. Raises Unavailable."""
        body = (await self.post(query, **variables)).json()
        codes = [error["extensions"]["code"] for error in body.get("errors", [])]
        if codes and set(codes) <= {"UNAVAILABLE", "UNKNOWN_OUTCOME"}:
            raise Unavailable(codes)
        assert not codes, body
        (field,) = body["data"].values()
        return field

    async def sign_up(self, name: str) -> None:
        done = await self(SIGN_UP, input={"email": self.email, "name": name, "password": PASSWORD})
        assert done["errors"] == []
        self.id = done["user"]["id"]
        self.use(done["secret"])

    async def sign_in(self) -> None:
        self.use((await self(SIGN_IN, input={"email": self.email, "password": PASSWORD}))["secret"])

    def use(self, secret: str) -> None:
        self.secret = secret
        self.http.headers["Authorization"] = f"Bearer {secret}"

    async def create(self, title: str, **more: Any) -> Any:
        done = await self(CREATE, input={"title": title, **more})
        assert done["errors"] == []
        return done["task"]

    async def titles(self, **arguments: Any) -> list[str]:
        found = await self(TITLES, **arguments)
        assert found["totalCount"] == len(found["nodes"])
        return [task["title"] for task in found["nodes"]]

    async def walk(self, size: int, *, backwards: bool = False, **arguments: Any) -> list[Any]:
        """All tasks in the order of the list, page by page from either end."""
        found: list[Any] = []
        cursor = None
        for _ in range(1000):
            if backwards:
                page = await self(PAGE, last=size, before=cursor, **arguments)
                found, cursor = page["nodes"] + found, page["pageInfo"]["startCursor"]
                more = page["pageInfo"]["hasPreviousPage"]
            else:
                page = await self(PAGE, first=size, after=cursor, **arguments)
                found, cursor = found + page["nodes"], page["pageInfo"]["endCursor"]
                more = page["pageInfo"]["hasNextPage"]
            if not more:
                assert len(found) == page["totalCount"]
                return found
        raise AssertionError("the pages do not end")


@asynccontextmanager
async def signed_up(server: Server, *names: str) -> AsyncIterator[list[Client]]:
    clients = [Client(server.address) for _ in names]
    try:
        for client, name in zip(clients, names, strict=True):
            await client.sign_up(name)
        yield clients
    finally:
        for client in clients:
            await client.http.aclose()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        assert time.monotonic() < deadline, "it did not happen in time"
        await anyio.sleep(0.02)
