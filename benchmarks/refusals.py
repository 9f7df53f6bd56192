"""What it costs to refuse an operation: the processor time of this process, until the answer is there.

    python -m benchmarks.refusals [--rounds 20]

Each text is new to the server (the first time) or known to it (again). Then what introspection takes, which needs no
token: all of the schema, as tools ask for it, and as much of it as may be asked for. Then 1,000 different documents
from somebody who is not signed in, each of which could be executed: what they take of the memory. No database is
needed: what is refused here runs no SQL. Prints Markdown.
"""

import argparse
import asyncio
import logging
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import structlog
from graphql import get_introspection_query

from benchmarks.processes import peak_memory
from graph.server.app import create_app, spare_the_collector
from persistence.settings import Settings


def pages(n: int) -> str:
    return f"query Q{n} {{ users(first: 100) {{ nodes {{ tasks(first: 100) {{ nodes {{ id title }} }} }} }} }}"


def wide(n: int) -> str:
    fields = " ".join(f"a{i}: tasks(first: 100) {{ nodes {{ id title }} }}" for i in range(20))
    return f"query Q{n} {{ users(first: 100) {{ nodes {{ {fields} }} }} }}"


def chained(n: int) -> str:
    fragments = " ".join(f"fragment F{i} on User {{ ...F{i + 1} ...F{i + 1} }}" for i in range(60))
    return f"query Q{n} {{ viewer {{ ...F0 }} }} {fragments} fragment F60 on User {{ id }}"


def spread(n: int) -> str:
    return f"query Q{n} {{ viewer {{ {'...F ' * 900}}} }} fragment F on User {{ id name email role }}"


def repeated(n: int) -> str:
    return f"query Q{n} {{ viewer {{ {'id ' * 1_900}}} }}"


def long(n: int) -> str:
    return f"query Q{n} {{ viewer {{ {'id ' * 60_000}}} }}"


def introspection(n: int) -> str:
    aliases = " ".join(f"a{i}: types {{ name description fields {{ name description }} }}" for i in range(29))
    return f"query Q{n} {{ s: __schema {{ {aliases} }} }}"


def disguised(n: int) -> str:
    inner = "owner { __y: tasks(first: 100) { nodes { id } } }"
    return f"query Q{n} {{ __x: tasks(first: 100) {{ nodes {{ {inner} }} }} }}"


def inline(n: int) -> str:
    return f"query Q{n} {{ tasks(filter: {{and: [{'{} ' * 600}]}}) {{ totalCount }} }}"


def filtered(n: int) -> str:
    return f"query Q{n}($input: TaskFilter) {{ tasks(filter: $input) {{ totalCount }} }}"


def by_ids(n: int) -> str:
    return f"query Q{n}($input: [ID!]!) {{ nodes(ids: $input) {{ id }} }}"


def sorted_by(n: int) -> str:
    return f"query Q{n}($input: [TaskOrder!]) {{ tasks(orderBy: $input) {{ totalCount }} }}"


def tagged(n: int) -> str:
    return f"mutation Q{n}($input: CreateTaskInput!) {{ createTask(input: $input) {{ errors {{ code }} }} }}"


def everything(n: int) -> str:
    return get_introspection_query(input_value_deprecation=True, specified_by_url=True, one_of=True) + " " * n


def most_of_introspection(n: int) -> str:
    """As close to the limit on cost as four aliases come."""
    type_ = "kind name description isOneOf specifiedByURL"
    field = f"name description isDeprecated deprecationReason type {{ {type_} ofType {{ {type_} }} }}"
    value = f"{field} defaultValue"
    types = f"types {{ {type_} fields {{ {field} args {{ {value} }} }} inputFields {{ {value} }} }}"
    return f"query Q{n} {{ __schema {{ {' '.join(f'a{i}: {types}' for i in range(3))} }} }}"


def valid(n: int) -> str:
    nodes = (f'a{i}: node(id: "{n} {i}") {{ id ... on Task {{ title status }} }}' for i in range(18))
    return f"query Q{n} {{ {' '.join(nodes)} }}"


FLOOD = 1_000
NO_ERRORS = [{"extensions": {"code": "none"}}]

CASES: dict[str, Callable[[int], str]] = {
    "10,100 objects": pages,
    "200,100 objects by 20 aliases": wide,
    "60 fragments that spread each other twice": chained,
    "900 spreads of one fragment": spread,
    "one field 1,900 times": repeated,
    "60,000 tokens": long,
    "29 aliases of the types of the schema": introspection,
    "10,200 objects behind aliases that begin with `__`": disguised,
    "600 empty conditions in the text": inline,
    "100,000 empty conditions in a variable": filtered,
    "100,000 ids": by_ids,
    "45,000 sort keys": sorted_by,
    "100,000 empty tags": tagged,
}
VARIABLES: dict[Callable[[int], str], Any] = {
    filtered: {"and": [{}] * 100_000},
    by_ids: [""] * 100_000,
    sorted_by: [{"field": "TITLE"}] * 45_000,
    tagged: {"title": "", "tags": [""] * 100_000},
}
ANSWERED: dict[str, Callable[[int], str]] = {
    "the whole introspection query": everything,
    "three times most of the schema": most_of_introspection,
}


async def measure(client: httpx.AsyncClient, text: str, value: Any = None) -> tuple[float, str]:
    """Milliseconds of processor time, and the code of the refusal."""
    body = orjson.dumps({"query": text} if value is None else {"query": text, "variables": {"input": value}})
    before = time.process_time()
    answer = await client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    taken = time.process_time() - before
    return taken * 1000, answer.json().get("errors", NO_ERRORS)[0]["extensions"]["code"]


async def flood(client: httpx.AsyncClient) -> None:
    """Send many documents that are all different and valid."""
    before = peak_memory(os.getpid())
    times = [(await measure(client, valid(n)))[0] for n in range(FLOOD)]
    after = peak_memory(os.getpid())
    print(
        f"\n{FLOOD:,} different documents of {len(valid(0)):,} characters: {statistics.median(times):.1f} ms each, ",
        end="",
    )
    print(f"the slowest {max(times):.0f} ms; peak memory {before:.0f} MB before and {after:.0f} MB after.")


async def run(rounds: int) -> None:
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none", rate_budget=10**9))
    print("| operation | refused with | first time, ms | the worst of them | again, ms |")
    print("| --- | --- | --- | --- | --- |")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        await measure(client, "{ nothing }")
        spare_the_collector()  # as the server does when it starts
        for name, text in {**CASES, **ANSWERED}.items():
            value = VARIABLES.get(text)
            first = [await measure(client, text(n), value) for n in range(rounds)]
            again = [(await measure(client, text(rounds - 1), value))[0] for _ in range(rounds)]
            [code] = {found for _, found in first}
            times = [taken for taken, _ in first]
            cells = [name, f"`{code}`", *(f"{ms:.1f}" for ms in (statistics.median(times), max(times)))]
            print(f"| {' | '.join(cells)} | {statistics.median(again):.2f} |")
        await flood(client)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
