"""Requests per second of this server beside its two limits, measured in one run, in turns, over one database.

    python -m benchmarks.server [--rounds 5] [--seconds 5] [--workloads task,list,...] [--servers taskstore,stock,bare]

`taskstore` is this server as `./run serve` starts it; `stock` is the same with graphql-core's executor
(TASKSTORE_COMPILED=false); `bare` has no GraphQL at all (`benchmarks.bare`); `workers2` is this server with two
processes. Each is one process, if not said otherwise, with ten database connections, and every request has to bring
its token. Before anything is measured, the answers are compared. Prints Markdown; medians over the rounds, and ratios
as the medians of each round's ratio.
"""

import argparse
import asyncio
import contextlib
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from statistics import median
from typing import Any

import orjson

from benchmarks import data
from benchmarks.data import SECRET, TASKS_EACH, USERS, Database, database
from benchmarks.load import KEY, load
from benchmarks.peers.entry import QUERIES
from benchmarks.processes import Server, bare, forget_peak_memory, machine_seconds, peak_memory, seconds, taskstore

BODIES = 2_000
CONNECTIONS = 32
WARM_UP = 2.0
"""Seconds of each load on each server before the first round."""

Variables = Callable[[random.Random], Mapping[str, Any]]


def new_task(choice: random.Random) -> dict[str, Any]:
    return {
        "ownerId": data.user_id(choice.randrange(USERS)),
        "title": f"Measured task {choice.randrange(10**6)}",
        "description": data.PUBLIC_TEXT,
        "priority": choice.choice(["LOW", "MEDIUM", "HIGH", "URGENT"]),
        "tags": sorted(choice.sample(["home", "work", "errand", "phone"], choice.randrange(4))),
        "dueAt": f"2027-01-{choice.randint(10, 28)}T12:00:00Z",
        "idempotencyKey": KEY,
    }


@dataclass(frozen=True)
class Workload:
    title: str
    query: str
    variables: Variables

    def bodies(self, count: int, seed: int) -> list[bytes]:
        """Requests with random variables, the same for the same seed."""
        choice = random.Random(seed)
        return [orjson.dumps({"query": self.query, "variables": self.variables(choice)}) for _ in range(count)]


WORKLOADS = {
    "task": Workload(
        "one task with its owner",
        QUERIES["Q1"],
        lambda choice: {"id": data.task_id(choice.randrange(USERS * TASKS_EACH))},
    ),
    "list": Workload(
        "50 tasks of an owner by status",
        QUERIES["Q2"],
        lambda choice: {"owner": data.user_id(choice.randrange(USERS)), "status": "DONE"},
    ),
    "users": Workload(
        "50 users x 20 tasks x 10 fields",
        QUERIES["Q3"],
        lambda choice: {"after": f"user{choice.randrange(USERS - 50):04d}@example.org"},
    ),
    "create": Workload("createTask with a fresh key", QUERIES["Q4"], lambda choice: {"input": new_task(choice)}),
    "owners": Workload(
        "50 tasks, their owners, each one's newest 5",
        QUERIES["Q5"],
        lambda choice: {"before": f"2025-{choice.randint(3, 6):02d}-{choice.randint(1, 28):02d}T12:00:00Z"},
    ),
}

SERVERS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "taskstore": ("taskstore", taskstore),
    "stock": ("stock executor", partial(taskstore, compiled=False)),
    "bare": ("bare SQL", bare),
    "workers2": ("two workers", partial(taskstore, workers=2)),
}


@dataclass(frozen=True)
class Measured:
    """One server in one round. Milliseconds, and milliseconds of processor time for one request."""

    rate: float
    p50: float
    p99: float
    server: float
    database: float
    memory: float
    """The largest resident memory of any one process of the server, in megabytes."""
    others: float
    """Processor cores that neither the server, the database nor the load generator used."""


def plain(value: Any, key: str = "") -> Any:
    """An answer without what may differ: how a moment is written."""
    if isinstance(value, dict):
        return {name: plain(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return datetime.fromisoformat(value) if isinstance(value, str) and key.endswith("At") else value


def compare(workload: Workload, servers: list[Server]) -> None:
    """Raises `RuntimeError` where the servers answer the same question differently."""
    for number, body in enumerate(workload.bodies(3, seed=7)):
        answers = []
        for server in servers:
            fresh = body.replace(KEY.encode(), f"{server.name} compares {number}".encode())
            answer = plain(server.ask(fresh))
            for payload in answer.values():
                if "task" in payload:  # a new one each time
                    for name in ("id", "createdAt", "updatedAt"):
                        del payload["task"][name]
            answers.append(answer)
        if any(answer != answers[0] for answer in answers):
            raise RuntimeError(f"{workload.title}: the answers differ")


def measure(
    server: Server,
    store: Database,
    bodies: list[bytes],
    duration: float,
    *,
    connections: int = CONNECTIONS,
    secret: str = SECRET,
) -> Measured:
    """Raises `RuntimeError` when an answer has an error."""

    def used() -> tuple[float, float, float]:
        return seconds(server.pid), seconds(store.pid), machine_seconds()

    forget_peak_memory(server.pid)
    before, began = used(), time.monotonic()
    seen = load(server.url, secret, bodies, connections=connections, seconds=duration)
    elapsed, after = time.monotonic() - began, used()
    if seen.errors:
        raise RuntimeError(f"{server.name}: {seen.errors} errors, such as {seen.error}")
    of_server, of_database, of_machine = (now - then for now, then in zip(after, before, strict=True))
    return Measured(
        rate=seen.rate,
        p50=seen.p50,
        p99=seen.p99,
        server=of_server / seen.answered * 1000,
        database=of_database / seen.answered * 1000,
        memory=peak_memory(server.pid),
        others=max(0.0, of_machine - of_server - of_database - seen.cpu) / elapsed,
    )


Results = dict[str, dict[str, list[Measured]]]


def run(servers: list[Server], store: Database, names: list[str], rounds: int, duration: float) -> Results:
    results: Results = defaultdict(lambda: defaultdict(list))
    for name in names:
        workload = WORKLOADS[name]
        compare(workload, servers)
        bodies = workload.bodies(BODIES, seed=1)
        for server in servers:
            measure(server, store, bodies, WARM_UP)
        for turn in range(rounds):
            # Whoever comes first one time comes last another time.
            for server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
                if name == "create":
                    store.forget()
                seen = measure(server, store, bodies, duration)
                results[name][server.name].append(seen)
                print(f"{name} {turn + 1} {server.name}: {seen}", file=sys.stderr, flush=True)
        if name == "create":
            store.forget()
    return results


# The report


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def middle(measured: list[Measured], what: str) -> float:
    return float(median(getattr(one, what) for one in measured))


def ratio(ours: list[Measured], theirs: list[Measured]) -> str:
    return f"{median(our.rate / their.rate for our, their in zip(ours, theirs, strict=True)):.2f}"


def report(results: Results, servers: list[Server]) -> str:
    first, *others = [server.name for server in servers]
    rates, times, costs, sizes = [], [], [], []
    for name, by_server in results.items():
        title = WORKLOADS[name].title
        rates.append(
            [title]
            + [f"{middle(seen, 'rate'):,.0f}" for seen in by_server.values()]
            + [ratio(by_server[first], by_server[other]) for other in others]
        )
        times.append([title] + [f"{middle(s, 'p50'):.1f} / {middle(s, 'p99'):.1f}" for s in by_server.values()])
        costs.append([title] + [f"{middle(s, 'server'):.2f} / {middle(s, 'database'):.2f}" for s in by_server.values()])
        sizes.append([title] + [f"{max(one.memory for one in seen):.0f}" for seen in by_server.values()])
    names = [first, *others]
    return "\n\n".join(
        [
            table(["requests per second", *names, *(f"{first} / {other}" for other in others)], rates),
            table(["p50 / p99, ms", *names], times),
            table(["CPU of server / of PostgreSQL, ms per request", *names], costs),
            table(["peak memory of a process, MB", *names], sizes),
            noise(results),
        ]
    )


def noise(results: Results) -> str:
    everything = [one for by_server in results.values() for seen in by_server.values() for one in seen]
    spreads = [
        (max(s.rate for s in seen) - min(s.rate for s in seen)) / middle(seen, "rate")
        for by_server in results.values()
        for seen in by_server.values()
    ]
    return (
        f"{os.cpu_count()} cores. Others used {middle(everything, 'others'):.2f} cores (median; at most "
        f"{max(one.others for one in everything):.2f}). Requests per second of one server and workload spread over "
        f"{median(spreads):.0%} (median; at most {max(spreads):.0%})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load in each round")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--servers", default="taskstore,stock,bare", help=f"some of {', '.join(SERVERS)}")
    options = parser.parse_args()
    names, chosen = options.workloads.split(","), options.servers.split(",")
    with database() as store, contextlib.ExitStack() as running:
        store.execute(data.FILL)
        asyncio.run(data.cut(store.url))
        store.execute(data.VACUUM, "CHECKPOINT")
        servers = [running.enter_context(start(name, store.url)) for name, start in (SERVERS[key] for key in chosen)]
        print(report(run(servers, store, names, options.rounds, options.seconds), servers))


if __name__ == "__main__":
    main()
