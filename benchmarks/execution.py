"""What execution costs in memory: CPU time of Strawberry and of the engine, as ratios.

    python -m benchmarks.execution [--seconds 2] [--profile CASE]

Everything runs in one process and takes turns, because shared machines drift. Each answer is encoded: Strawberry's
with the standard library, as its views do. The baseline has Strawberry's own caches for parsing and validation.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import pstats
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Any
from uuid import UUID

import strawberry
from graphql import GraphQLError
from strawberry import Info
from strawberry.extensions import ParserCache, ValidationCache

from graph.execution.preparing.documents import Documents, Operation
from graph.execution.running.engine import Engine

LOW, NOON = "low", datetime(2026, 1, 1, 12, tzinfo=UTC)


@strawberry.enum
class Priority(StrEnum):
    LOW = "low"
    HIGH = "high"


class Loader:
    """A dataloader in its simplest form: all keys asked for in one turn of the loop are answered in the next."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, asyncio.Future[Any]]] = []

    def load(self, key: int) -> "asyncio.Future[User]":
        loop = asyncio.get_running_loop()
        if not self.waiting:
            loop.call_soon(self.dispatch)
        future = loop.create_future()
        self.waiting.append((key, future))
        return future

    def dispatch(self) -> None:
        waiting, self.waiting = self.waiting, []
        for key, future in waiting:
            future.set_result(USERS[key])


@dataclass
class Context:
    users: Loader = field(default_factory=Loader)
    operation: Operation | None = None


@strawberry.type
class Task:
    id: strawberry.ID
    title: str
    description: str | None
    priority: Priority
    done: bool
    position: float
    version: int
    due_at: datetime | None
    created_at: datetime
    key: UUID

    @strawberry.field
    def owner(self, info: Info[Context, None]) -> "User":
        return info.context.users.load(self.version % 10)  # type: ignore[return-value]  # awaited by the executor


@strawberry.type
class User:
    id: strawberry.ID
    name: str
    role: Priority
    created_at: datetime
    active: bool
    age: int
    tasks: list[Task]


def task(number: int) -> Task:
    return Task(
        id=strawberry.ID(str(number)),
        title=f"Task {number}",
        description=None if number % 3 else "words " * 5,
        priority=Priority.HIGH if number % 2 else Priority.LOW,
        done=number % 5 == 0,
        position=number / 3,
        version=number,
        due_at=NOON + timedelta(hours=number) if number % 2 else None,
        created_at=NOON + timedelta(seconds=number),
        key=UUID(int=number),
    )


def user(number: int) -> User:
    return User(
        id=strawberry.ID(str(number)),
        name=f"User {number}",
        role=Priority.LOW,
        created_at=NOON,
        active=True,
        age=number,
        tasks=[task(number * 20 + place) for place in range(20)],
    )


USERS = [user(number) for number in range(50)]
TASKS = [task(number) for number in range(50)]


@strawberry.type
class Query:
    @strawberry.field
    async def viewer(self, id: strawberry.ID) -> User:
        return USERS[int(id)]

    @strawberry.field
    async def tasks(self, first: int = 50) -> list[Task]:
        return TASKS[:first]

    @strawberry.field
    async def users(self) -> list[User]:
        return USERS


TASK = "id title description priority done position version dueAt createdAt key"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "1 object of 6 fields": ("query($id: ID!) { viewer(id: $id) { id name role createdAt active age } }", {"id": "1"}),
    "50 of 10": (f"{{ tasks {{ {TASK} }} }}", {}),
    "50 users x 20 tasks x 10": (f"{{ users {{ id name tasks {{ {TASK} }} }} }}", {}),
    "50 of 4, each with its owner (loader)": ("{ tasks { id title dueAt done owner { id name } } }", {}),
}

Run = Callable[[str, dict[str, Any]], Awaitable[bytes]]


def strawberry_run() -> Run:
    schema = strawberry.Schema(Query, extensions=[lambda: ParserCache(), lambda: ValidationCache()])

    async def run(text: str, variables: dict[str, Any]) -> bytes:
        result = await schema.execute(text, variables, context_value=Context())
        assert not result.errors
        return json.dumps({"data": result.data}).encode()

    return run


def engine_run(compiled: bool) -> Run:
    schema = strawberry.Schema(Query)

    def report(error: GraphQLError, cause: BaseException) -> str:
        raise cause

    documents = Documents(schema._schema)
    engine = Engine(schema, documents=documents, classify=lambda _: None, report=report, compiled=compiled)

    async def run(text: str, variables: dict[str, Any]) -> bytes:
        operation = documents.get(text).operation(None)
        return engine.encode(await engine.execute(operation, variables, Context()))

    return run


async def measure(runs: dict[str, Run], text: str, variables: dict[str, Any], seconds: float) -> dict[str, float]:
    """Median CPU seconds of one request of each, taking turns in blocks of about 20 ms."""
    blocks: dict[str, int] = {}
    answers = set()
    for name, run in runs.items():
        for _ in range(3):
            answer = await run(text, variables)
        answers.add(json.dumps(json.loads(answer)))
        started = time.process_time()
        await run(text, variables)
        blocks[name] = max(1, int(0.02 / max(time.process_time() - started, 1e-5)))
    assert len(answers) == 1, "the answers differ"
    samples: dict[str, list[float]] = {name: [] for name in runs}
    until = time.monotonic() + seconds * len(runs)
    while time.monotonic() < until or len(samples[name]) < 5:
        for name, run in runs.items():
            gc.collect()
            started = time.process_time()
            for _ in range(blocks[name]):
                await run(text, variables)
            samples[name].append((time.process_time() - started) / blocks[name])
    return {name: median(values) for name, values in samples.items()}


async def profile(run: Run, text: str, variables: dict[str, Any]) -> None:
    profiler = cProfile.Profile()
    await run(text, variables)
    profiler.enable()
    for _ in range(300):
        await run(text, variables)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each server and case")
    parser.add_argument("--profile", help="profile the engine with this case instead")
    options = parser.parse_args()
    runs = {
        "Strawberry": strawberry_run(),
        "engine, graphql-core's executor": engine_run(False),
        "engine, compiled": engine_run(True),
    }
    if options.profile:
        await profile(runs["engine, compiled"], *CASES[options.profile])
        return
    print(f"| CPU, times less than Strawberry | {' | '.join(list(runs)[1:])} | Strawberry, us |")
    print("| --- |" + " --- |" * len(runs))
    for case, (text, variables) in CASES.items():
        cost = await measure(runs, text, variables, options.seconds)
        base = cost["Strawberry"]
        ratios = [f"{base / cost[name]:.1f}" for name in list(runs)[1:]]
        print(f"| {case} | {' | '.join(ratios)} | {base * 1e6:.0f} |")


if __name__ == "__main__":
    asyncio.run(main())
