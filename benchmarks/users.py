"""Simulated users at once, who read and write without a pause: errors, requests per second, latencies, memory.

    python -m benchmarks.users [--users 100] [--seconds 10] [--workers 1] [--url http://127.0.0.1:8000]

Starts a server with an embedded PostgreSQL in a temporary directory, unless `--url` names one. Every user has one
connection and sends the next request as soon as the answer to the last one is there, so the number of users is the
number of requests in flight. Passwords are hashed slowly by design: everybody signs up, and gets some tasks, before
the clock starts. Prints a Markdown table; the exit code is 1 when there was an error.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import uvloop

ROOT = Path(__file__).resolve().parent.parent
TASKS_EACH = 40
UNBOUNDED = {"TASKSTORE_SIGN_UPS_PER_HOUR": "1000000", "TASKSTORE_MAX_CONNECTIONS_PER_ADDRESS": "100000"}
"""All users are at one address."""
PREPARED_AT_ONCE = 8
WARM_UP = 1.0
"""Seconds of the same load before the clock starts: documents are compiled, connections opened."""

SIGN_UP = "mutation($input: SignUpInput!) { signUp(input: $input) { secret errors { code message } } }"
FILL = "mutation({parameters}) {{ {fields} }}"

FIELDS = "id title status priority tags dueAt overdue version"
VIEWER = f"{{ viewer {{ id name tasks(first: 20) {{ nodes {{ {FIELDS} }} totalCount }} }} }}"
LIST = f"""query($filter: TaskFilter, $orderBy: [TaskOrder!]) {{ tasks(first: 20, filter: $filter, orderBy: $orderBy) {{
    nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"""
ONE = f"query($id: ID!) {{ task(id: $id) {{ {FIELDS} description createdAt updatedAt owner {{ id name }} }} }}"
SEARCH = "query($search: String) { tasks(first: 20, search: $search) { nodes { id title status } } }"
CREATE = "mutation($input: CreateTaskInput!) { createTask(input: $input) { task { id version } errors { code } } }"
UPDATE = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { id version } errors { code } } }"
COMPLETE = (
    "mutation($input: CompleteTaskInput!) { completeTask(input: $input) { task { id version } errors { code } } }"
)

WORDS = ["report", "garden", "invoice", "birthday", "review", "kitchen", "travel", "insurance", "bicycle", "library"]


class Failed(Exception):
    """An answer that should not be."""


class Connection:
    """One kept-alive HTTP/1.1 connection. A whole client library would take the server's share of the processor."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.authorization = ""

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)

    def close(self) -> None:
        self.writer.close()

    async def post(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an operation. Raises Failed for any error in the answer."""
        body = orjson.dumps({"query": query, "variables": variables})
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
            f"{self.authorization}Content-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        found: dict[str, Any] = orjson.loads(await self.reader.readexactly(length))
        status = int(answer.split(b" ", 2)[1])
        if status != 200 or "errors" in found:
            raise Failed(f"{status} {[error['extensions'].get('code') for error in found.get('errors', [])]}")
        for value in found["data"].values():
            if isinstance(value, dict) and value.get("errors"):
                raise Failed(f"{value['errors']}")
        data: dict[str, Any] = found["data"]
        return data


@dataclass
class Measured:
    """What all users saw while the clock ran."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    running: bool = False


class User:
    """Somebody with an account and some tasks, whose latest versions they know."""

    def __init__(self, url: str, number: int, measured: Measured) -> None:
        self.connection, self.measured = Connection(url), measured
        self.random = random.Random(number)
        self.versions: dict[str, int] = {}

    async def prepare(self) -> None:
        """Sign up, and make the first tasks."""
        await self.connection.open()
        account = {"email": f"{uuid4().hex}@example.org", "name": "Somebody", "password": uuid4().hex}
        secret = (await self.connection.post(SIGN_UP, {"input": account}))["signUp"]["secret"]
        self.connection.authorization = f"Authorization: Bearer {secret}\r\n"
        numbers = range(20)
        parameters = " ".join(f"$i{number}: CreateTaskInput!" for number in numbers)
        fields = " ".join(f"t{number}: createTask(input: $i{number}) {{ task {{ id version }} }}" for number in numbers)
        for _ in range(TASKS_EACH // len(numbers)):
            inputs = {f"i{number}": self.new_task() for number in numbers}
            made = await self.connection.post(FILL.format(parameters=parameters, fields=fields), inputs)
            self.versions |= {value["task"]["id"]: value["task"]["version"] for value in made.values()}
        self.connection.close()  # the server would, before everybody is prepared

    def new_task(self) -> dict[str, Any]:
        return {
            "title": " ".join(self.random.sample(WORDS, 3)),
            "description": "As **agreed** on the telephone.",
            "priority": self.random.choice(["LOW", "MEDIUM", "HIGH", "URGENT"]),
            "tags": self.random.sample(["home", "work", "someday", "errand"], 2),
            "dueAt": f"2031-0{self.random.randint(1, 9)}-01T09:00:00Z",
            "idempotencyKey": str(uuid4()),
        }

    async def work(self) -> None:
        """Send one request after the other until the clock has stopped."""
        await self.connection.open()
        names, weights = list(REQUESTS), [weight for weight, _, _ in REQUESTS.values()]
        while True:
            (name,) = self.random.choices(names, weights)
            _, query, variables = REQUESTS[name]
            given = variables(self)
            began = perf_counter()
            try:
                data = await self.connection.post(query, given)
            except Failed as error:
                self.measured.errors[f"{name}: {error}"] += 1
                continue
            except (OSError, EOFError) as error:
                self.measured.errors[f"{name}: {type(error).__name__}"] += 1
                await self.connection.open()
                continue
            if self.measured.running:
                self.measured.latencies[name].append(perf_counter() - began)
            if "input" in given:
                (payload,) = data.values()
                self.versions[payload["task"]["id"]] = payload["task"]["version"]

    def any_task(self) -> dict[str, Any]:
        return {"id": self.random.choice(list(self.versions))}

    def edited_task(self) -> dict[str, Any]:
        id = self.any_task()["id"]
        return {"id": id, "ifVersion": self.versions[id], "title": " ".join(self.random.sample(WORDS, 3))}


def listing(user: User) -> dict[str, Any]:
    open_and_due = {"status": {"in": ["TODO", "IN_PROGRESS"]}, "dueAt": {"lt": "2031-06-01T00:00:00Z"}}
    return {"filter": open_and_due, "orderBy": [{"field": "DUE"}]}


# How often, what, and with which variables. Seven of ten read.
REQUESTS: dict[str, tuple[int, str, Callable[[User], dict[str, Any]]]] = {
    "list with filter and order": (25, LIST, listing),
    "viewer with tasks and count": (20, VIEWER, lambda user: {}),
    "one task": (15, ONE, User.any_task),
    "search": (10, SEARCH, lambda user: {"search": " ".join(user.random.sample(WORDS, 2))}),
    "create with a key": (12, CREATE, lambda user: {"input": user.new_task()}),
    "update a version": (12, UPDATE, lambda user: {"input": user.edited_task()}),
    "complete": (6, COMPLETE, lambda user: {"input": user.any_task()}),
}


async def simulate(url: str, users: int, seconds: float, process: int | None) -> tuple[Measured, dict[str, float]]:
    """Let the users work for some seconds. Returns what they saw, and processor seconds by who used them."""
    measured = Measured()
    everybody = [User(url, number, measured) for number in range(users)]
    turns = asyncio.Semaphore(PREPARED_AT_ONCE)

    async def prepare(user: User) -> None:
        async with turns:
            await user.prepare()

    await asyncio.gather(*map(prepare, everybody))
    working = [asyncio.create_task(user.work()) for user in everybody]
    gc.freeze()
    gc.disable()  # its pauses would be measured as the server's
    await asyncio.sleep(WARM_UP)
    before = processor_seconds(process)
    measured.running, began = True, perf_counter()
    await asyncio.wait(working, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    measured.running, elapsed = False, perf_counter() - began
    used = {who: value - before[who] for who, value in processor_seconds(process).items()}
    for task in working:
        task.cancel()
    for outcome in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    for user in everybody:
        user.connection.close()
    return measured, {**used, "elapsed": elapsed}


# The server


@contextlib.contextmanager
def server(workers: int) -> Iterator[tuple[str, int]]:
    """A server of our own: its address and process id."""
    with tempfile.TemporaryDirectory(prefix="taskstore-users-") as directory:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKSTORE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "graph", "serve", "--no-browser", "--no-demo", "--port=0", f"--workers={workers}"],
            cwd=ROOT,
            env=inherited
            | {
                "DATABASE_URL": "",
                **UNBOUNDED,
                "TASKSTORE_DATA_DIR": f"{directory}/data",
            },
            stdout=subprocess.PIPE,
            stderr=(Path(directory) / "log").open("w"),
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("taskstore is ready: "):
                    yield line.split()[-1].removesuffix("/graphql"), process.pid
                    return
            raise SystemExit((Path(directory) / "log").read_text()[-2000:])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def descendants(process: int) -> list[int]:
    """A process, its children, and theirs; empty where there is no /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = [process] if process in parents else []
    for parent in found:
        found += [pid for pid, its_parent in parents.items() if its_parent == parent]
    return found


def is_postgres(process: int) -> bool:
    return Path(f"/proc/{process}/comm").read_text().strip() == "postgres"


def processor_seconds(process: int | None) -> dict[str, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    used = {"server": 0.0, "PostgreSQL": 0.0, "these users": own.ru_utime + own.ru_stime}
    for pid in descendants(process) if process else ():
        with contextlib.suppress(OSError):
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            who = "PostgreSQL" if is_postgres(pid) else "server"
            used[who] += sum(map(int, times[11:15])) / os.sysconf("SC_CLK_TCK")  # with its children that have ended
    return used


def memory(process: int | None) -> dict[str, float]:
    """Megabytes; what processes share is divided among them (PSS)."""
    used = {"server": 0.0, "PostgreSQL": 0.0}
    for pid in descendants(process) if process else ():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    used["PostgreSQL" if is_postgres(pid) else "server"] += int(line.split()[1]) / 1000
    return used


# The report


def row(name: str, latencies: list[float], seconds: float) -> str:
    ordered = sorted(latencies)
    if not ordered:
        return f"| {name} | 0 | | | |"
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 for part in (0.5, 0.99))
    return f"| {name} | {len(ordered) / seconds:,.0f} | {p50:.0f} | {p99:.0f} | {ordered[-1] * 1000:.0f} |"


def table(measured: Measured, used: dict[str, float], held: dict[str, float]) -> str:
    seconds = used["elapsed"]
    everything = [latency for latencies in measured.latencies.values() for latency in latencies]
    lines = ["| request | per second | p50 ms | p99 ms | longest ms |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [row(name, measured.latencies[name], seconds) for name in REQUESTS]
    lines += [row("**all**", everything, seconds), "", f"Errors: {sum(measured.errors.values())}."]
    lines += [f"- {count} times {error}" for error, count in measured.errors.most_common(20)]
    if used["server"]:
        cores = ", ".join(f"{who} {used[who] / seconds:.2f}" for who in ("server", "PostgreSQL", "these users"))
        lines.append(f"Cores used: {cores}.")
    if held["server"]:
        lines.append(f"Memory: {', '.join(f'{who} {size:.0f} MB' for who, size in held.items())}.")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1, help="processes of the server it starts")
    parser.add_argument("--url", help="a server that runs already")
    options = parser.parse_args()
    own = contextlib.nullcontext((options.url, None)) if options.url else server(options.workers)
    with own as (url, process):
        measured, used = uvloop.run(simulate(url, options.users, options.seconds, process))
        print(table(measured, used, memory(process)))
    return 1 if measured.errors or not measured.latencies else 0


if __name__ == "__main__":
    sys.exit(main())
