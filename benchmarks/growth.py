"""How the cost of a request grows: with the rows of an owner, and with connections at once.

    python -m benchmarks.growth [--seconds 1.5] [--rows 10,100,1000,10000,100000] [--connections 1,8,32,128,512]

One server with an embedded PostgreSQL in a temporary directory. For the rows, members with 10 to 100,000 tasks are in
one table, and one connection asks one question after another as each of them: what stands there is the median time of
an answer, and the processor time of PostgreSQL for it. For the connections, every one of them sends the next request
as soon as it has its answer. An answer with an error ends the run. Prints Markdown.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import orjson

from benchmarks import data
from benchmarks.data import SECRET, Database, database
from benchmarks.processes import Server, taskstore
from benchmarks.server import BODIES, WORKLOADS, measure, table

PAGE = 20
WARM_UP = 0.3
FIELDS = "id title status priority tags dueAt version"

# Of an owner's tasks: every tenth, and every thousandth, has a tag and a word in its title.
FILL = f"""
INSERT INTO tasks (id, owner_id, title, description, status, priority, tags, due_at, created_at, updated_at)
SELECT md5('growth ' || $2 || ' ' || n)::uuid, $1, 'Task ' || n || CASE WHEN n % 10 = 0 THEN ' tenth' ELSE '' END
       || CASE WHEN n % 1000 = 0 THEN ' thousandth' ELSE '' END, '{data.PUBLIC_TEXT}', 'todo', 'medium',
       CASE WHEN n % 1000 = 0 THEN '{{home,tenth,thousandth}}' WHEN n % 10 = 0 THEN '{{home,tenth}}'
            ELSE '{{home}}' END::varchar[],
       at + interval '30 days', at, at
FROM (SELECT n, timestamptz '2025-02-01Z' + n * interval '1 minute' AS at FROM generate_series(1, $2::int) n) planned
"""


@dataclass(frozen=True)
class Question:
    title: str
    query: str
    variables: Callable[[str], dict[str, Any]] = lambda cursor: {}
    """Of the cursor in the middle of the list."""

    def body(self, cursor: str) -> bytes:
        return orjson.dumps({"query": self.query, "variables": self.variables(cursor)})


def listing(arguments: str) -> str:
    return (
        f"query {{ tasks(first: {PAGE}{arguments}) {{ nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    )


QUESTIONS = [
    Question("first page", listing("")),
    Question(
        "page in the middle",
        listing(", after: $after").replace("query", "query($after: String)"),
        lambda cursor: {"after": cursor},
    ),
    Question("totalCount", "query { tasks(first: 1) { totalCount } }"),
    Question("tag, 1 of 10", listing(', filter: {tags: {hasAny: ["tenth"]}}')),
    Question("tag, 1 of 1,000", listing(', filter: {tags: {hasAny: ["thousandth"]}}')),
    Question("search, 1 of 10", listing(', search: "tenth"')),
    Question("search, 1 of 1,000", listing(', search: "thousandth"')),
]
WALK = "query($first: Int, $after: String) { tasks(first: $first, after: $after) { pageInfo { endCursor } } }"
LONGEST_PAGE = 100


def fill(store: Database, rows: list[int]) -> None:
    async def work(connection: Any) -> None:
        for count in rows:
            owner = await data.make_user(connection, f"owner{count}@example.org", "member", secret_of(count))
            await connection.execute(FILL, owner, count)

    store.work(work)
    store.execute("VACUUM ANALYZE", "CHECKPOINT")


def secret_of(rows: int) -> str:
    return f"{SECRET}{rows}"


def middle_cursor(server: Server, rows: int) -> str:
    """The cursor of the task in the middle of an owner's list. A cursor is for one list only: one has to go there."""
    left, cursor = rows // 2, None
    while left:
        step = min(left, LONGEST_PAGE)
        variables = {"first": step, "after": cursor}
        found = server.ask(orjson.dumps({"query": WALK, "variables": variables}), secret_of(rows))
        cursor, left = found["tasks"]["pageInfo"]["endCursor"], left - step
    assert isinstance(cursor, str)
    return cursor


def by_rows(server: Server, store: Database, rows: list[int], duration: float) -> str:
    times, costs, others = [], [], []
    cursors = {count: middle_cursor(server, count) for count in rows}
    for question in QUESTIONS:
        took, cost = [question.title], [question.title]
        for count in rows:
            bodies, secret = [question.body(cursors[count])], secret_of(count)
            measure(server, store, bodies, WARM_UP, connections=1, secret=secret)
            seen = measure(server, store, bodies, duration, connections=1, secret=secret)
            took.append(f"{seen.p50:.2f}")
            cost.append(f"{seen.database:.2f}")
            others.append(seen.others)
        print(took, cost, file=sys.stderr, flush=True)
        times.append(took)
        costs.append(cost)
    heads = [f"{count:,} rows" for count in rows]
    tables = [table(["p50, ms", *heads], times), table(["CPU of PostgreSQL, ms per request", *heads], costs)]
    return "\n\n".join([*tables, noise(others)])


def by_connections(server: Server, store: Database, counts: list[int], duration: float) -> str:
    lines, others = [], []
    for name in ("task", "list"):
        workload = WORKLOADS[name]
        bodies = workload.bodies(BODIES, seed=1)
        measure(server, store, bodies, 1.0)
        for count in counts:
            seen = measure(server, store, bodies, duration, connections=count)
            line = [f"{workload.title}, {count}", f"{seen.rate:,.0f}", f"{seen.p50:.2f}", f"{seen.p99:.2f}"]
            lines.append([*line, f"{seen.server:.2f} / {seen.database:.2f}", f"{seen.memory:.0f}"])
            others.append(seen.others)
            print(lines[-1], file=sys.stderr, flush=True)
    heads = ["workload, connections", "requests/s", "p50 ms", "p99 ms", "CPU of server / of PostgreSQL, ms", "peak MB"]
    return f"{table(heads, lines)}\n\n{noise(others)}"


def noise(others: list[float]) -> str:
    return f"Others used {median(others):.2f} cores (median; at most {max(others):.2f})."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    parser.add_argument("--rows", default="10,100,1000,10000,100000")
    parser.add_argument("--connections", default="1,2,8,32,128,512")
    options = parser.parse_args()
    rows, connections = ([int(part) for part in text.split(",")] for text in (options.rows, options.connections))
    with database() as store:
        fill(store, rows)
        with taskstore("taskstore", store.url) as server:
            print(by_rows(server, store, rows, options.seconds), end="\n\n")
        # The tables of the other benchmark, so that the figures can be compared with its.
        store.execute("DELETE FROM tasks", data.FILL, "VACUUM ANALYZE", "CHECKPOINT")
        with taskstore("taskstore", store.url) as server:
            print(by_connections(server, store, connections, options.seconds))


if __name__ == "__main__":
    main()
